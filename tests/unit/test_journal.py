"""The journal: what goes in comes out, in order; and the codec that makes it so."""

from __future__ import annotations

import errno
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo._codec import decode, encode
from dhpo._lines import framed, unframed
from dhpo.errors import JournalError, JournalLockedError
from dhpo.events import (
    Event,
    SearchFinished,
    SessionOpened,
    TrialAdded,
    TrialCompleted,
    TrialFailed,
    TrialProposed,
    TrialReported,
    TrialTimedOut,
    WorkerLost,
)
from dhpo.journal import FILE_NAME, VERSION, FileJournal, Header, MemoryJournal, read
from dhpo.trial import Configuration, Status

HEADER = Header("s1", 1.7e9, {"objectives": {"b": "MAX", "a": "MIN"}, "seed": 42, "limit": math.inf})
EVERY_KIND: list[Event] = [
    SessionOpened(0.0, 1.7e9, "node1", 4711, "1.0"),
    TrialProposed(0.1, 0, {"x": 1.5, "layers": [8, 8], "act": "relu", "flag": True}, 0, "default", 0),
    TrialReported(0.2, 0, 1, 1, 1, {"epoch": 1, "score": 0.25}),
    TrialCompleted(0.3, 0, 1, None, {"note": 'é\n"quoted"'}, True, 0.1, 0.3, "w1"),
    TrialCompleted(0.3, 1, 1, {"objective": 0.5}, {}, False, 0.1, 0.3, "w1"),
    TrialFailed(0.4, 2, 1, "ValueError: no", "Traceback …\n  line", 0.1, 0.4, "w1"),
    TrialTimedOut(0.5, 3, 1, 60.0, 0.1, 0.5, "w1"),
    WorkerLost(0.6, 4, 1, "w2"),
    SearchFinished(0.7, "num_trials"),
    TrialAdded(0.8, 5, {"x": 2.5, "layers": [8, 8]}, {"score": 0.5, "epoch": 3}, "", 3, "known"),
    TrialAdded(0.8, 6, {"x": 2.5}, {"score": 0.5}, "", None, "known"),
    TrialAdded(0.8, 7, {"x": 2.5}, None, "F_oom null", None, "known"),
]

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text() | st.just("\udc80x")
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("__dhpo__"), inner, max_size=3)
    ),
    max_leaves=8,
)
finite = st.floats(allow_nan=False, allow_infinity=False)
reports = st.builds(
    TrialReported,
    finite,
    st.integers(0, 10**6),
    st.integers(1, 9),
    st.integers(1, 9),
    finite,
    st.dictionaries(st.text(max_size=5), json_values, max_size=3),
)
completions = st.builds(
    TrialCompleted,
    finite,
    st.integers(0, 10**6),
    st.integers(1, 9),
    st.none() | st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    finite,
    finite,
    st.text(max_size=5),
)

additions = st.builds(
    TrialAdded,
    finite,
    st.integers(0, 10**6),
    st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    st.none() | st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    st.sampled_from(["", "F_null", "null"]),
    st.none() | st.floats(),
    st.just("known"),
)


def same(a: Any, b: Any) -> bool:
    """Equal, of equal types all the way down, with NaN equal to itself."""
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and (a == b or (a != a and b != b)) and repr(a) == repr(b)


@given(st.lists(reports | completions | additions, max_size=6))
@settings(deadline=None, max_examples=150)
def test_whatever_is_json_comes_back_exactly(events: list[Event]) -> None:
    body = encode(events)
    assert b"\n" not in body
    assert same(decode(body), events)


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(1, 255))
@settings(deadline=None, max_examples=100)
def test_any_changed_byte_is_noticed(body: bytes, place: int, change: int) -> None:
    line = framed(body)
    assert unframed(line) == body
    place %= len(line)
    assert unframed(line[:place] + bytes([line[place] ^ change]) + line[place + 1 :]) is None


def test_every_kind_of_event_comes_back() -> None:
    assert same(decode(encode(EVERY_KIND)), EVERY_KIND)


def test_mappings_become_dictionaries_and_tuples_lists() -> None:
    event = TrialProposed(0.0, 0, Configuration(x=1, y="a"), 0, "user", 0)
    odd = TrialProposed(0.0, 0, MappingProxyType({"x": (1, 2)}), 0, "user", 0)
    assert [dict(e.config) for e in decode(encode([event, odd]))] == [{"x": 1, "y": "a"}, {"x": [1, 2]}]


def test_enumerations_are_their_values() -> None:
    class Colour(Enum):
        RED = "red"

    metadata = {"status": Status.FAILED, "colour": Colour.RED, "nan": math.nan}
    (event,) = decode(encode([TrialCompleted(0.0, 0, 1, None, metadata, False, 0.0, 0.0, "")]))
    assert event.metadata["status"] == "FAILED"
    assert event.metadata["colour"] == "red"
    assert math.isnan(event.metadata["nan"])


@pytest.mark.parametrize("value", [object(), {1: 2}, b"bytes", {1, 2}, 1j])
def test_what_is_no_json_is_refused_by_name(value: Any) -> None:
    good = TrialReported(0.0, 1, 1, 1, 1, {"a": 1.0})
    with pytest.raises(JournalError, match=r"'report' of trial 7 .*numbers, strings"):
        encode([good, TrialReported(0.0, 7, 1, 1, 1, {"a": value})])


def test_only_what_may_be_absent_is_written_as_null() -> None:
    fine = [
        TrialAdded(0.0, 0, {"x": 1}, None, "F", None, "known"),
        TrialCompleted(0.0, 1, 1, None, {}, False, 0, 0, ""),
    ]
    assert encode(fine).count(b"null") == 3
    odd = TrialAdded(0.0, 0, {"x": math.nan}, {"a": 1.0}, "", None, "known")  # as many nulls as it might have
    assert math.isnan(decode(encode([odd]))[0].config["x"])


def test_endless_nesting_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(JournalError, match="'report' of trial 7"):
        encode([TrialReported(0.0, 7, 1, 1, 1, {"a": loop})])


@pytest.mark.parametrize("body", [b"", b"5", b"[5]", b"[[]]", b'[["unheard",1]]', b'[["lost",1]]', b"[{}]"])
def test_what_is_no_batch_is_no_batch(body: bytes) -> None:
    with pytest.raises(ValueError):
        decode(body)


def batches(iterator: Iterator[list[Event]]) -> list[list[Event]]:
    return list(iterator)


def test_a_journal_is_begun_and_gone_on_with(tmp_path: Path) -> None:
    made = []

    def header() -> Header:
        made.append(1)
        return HEADER

    directory = tmp_path / "deep" / "run"
    with FileJournal.open(directory, header) as journal:
        assert batches(journal.replay()) == []
        journal.append(EVERY_KIND[:2])
        journal.append([])
        journal.append(EVERY_KIND[2:5])
    with FileJournal.open(directory, header) as journal:
        assert journal.header == HEADER
        assert batches(journal.replay()) == [EVERY_KIND[:2], EVERY_KIND[2:5]]
        journal.append(EVERY_KIND[5:])
        assert batches(journal.replay()) == [EVERY_KIND[:2], EVERY_KIND[2:5], EVERY_KIND[5:]]
    assert made == [1]
    found, events = read(directory)
    assert found == HEADER
    assert list(found.settings["objectives"]) == ["b", "a"]
    assert (
        batches(events) == batches(read(directory / FILE_NAME)[1]) == [EVERY_KIND[:2], EVERY_KIND[2:5], EVERY_KIND[5:]]
    )


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    with FileJournal.open(tmp_path / "run", HEADER):
        assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "run" / FILE_NAME).stat().st_mode) == 0o600


def test_the_file_is_text_that_other_programs_can_read(tmp_path: Path) -> None:
    with FileJournal.open(tmp_path, HEADER) as journal:
        journal.append([EVERY_KIND[2]])
    header, line = (tmp_path / FILE_NAME).read_bytes().splitlines()
    assert orjson.loads(header[9:])["search_id"] == "s1"
    assert orjson.loads(line[9:]) == [["report", 0.2, 0, 1, 1, 1, {"epoch": 1, "score": 0.25}]]


def test_replay_is_what_was_there_when_it_was_asked_for(tmp_path: Path) -> None:
    for journal in (FileJournal.open(tmp_path, HEADER), MemoryJournal(HEADER)):
        journal.append(EVERY_KIND[:1])
        before = journal.replay()
        journal.append(EVERY_KIND[1:2])
        assert batches(before) == [EVERY_KIND[:1]]
        assert batches(journal.replay()) == [EVERY_KIND[:1], EVERY_KIND[1:2]]
        journal.close()


def test_a_journal_that_was_begun_in_vain_is_taken_away(tmp_path: Path) -> None:
    for others in (False, True):
        directory = tmp_path / "run"
        journal = FileJournal.open(directory, HEADER)
        journal.append(EVERY_KIND[:2])
        if others:
            (directory / "notes.txt").touch()
        journal.withdraw()
        journal.withdraw()
        assert directory.exists() == others
        assert not (directory / FILE_NAME).exists()
    FileJournal.open(tmp_path, HEADER).close()
    FileJournal.open(tmp_path, HEADER).withdraw()  # it has been there before
    assert batches(read(tmp_path)[1]) == []


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    with FileJournal.open(tmp_path, HEADER) as journal:
        with pytest.raises(JournalLockedError, match=str(tmp_path)):
            FileJournal.open(tmp_path, HEADER)
        journal.append(EVERY_KIND[:1])
        assert batches(read(tmp_path)[1]) == [EVERY_KIND[:1]]
    FileJournal.open(tmp_path, HEADER).close()


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    journal = FileJournal.open(tmp_path, HEADER)
    ready, say_ready = os.pipe()
    over, say_over = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(say_over)
        os.write(say_ready, b"!")
        os.read(over, 1)  # ends when the parent closes its end
        os._exit(0)
    os.read(ready, 1)
    try:
        journal.close()
        FileJournal.open(tmp_path, HEADER).close()
    finally:
        for descriptor in (ready, say_ready, over, say_over):
            os.close(descriptor)
        os.waitpid(child, 0)


def test_closing_twice_is_harmless_and_appending_after_it_is_not(tmp_path: Path) -> None:
    journal = FileJournal.open(tmp_path, HEADER)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.append(EVERY_KIND[:1])


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    newer = Header("s", 0.0, {}, VERSION + 1)
    for attempt in (lambda: FileJournal.open(tmp_path, newer), lambda: read(tmp_path)):
        with pytest.raises(JournalError, match=rf"version {VERSION + 1}.*update dhpo"):
            attempt()


@pytest.mark.parametrize("content", [b"hello", b'{"a": 1}\n', b"some\nlines\n", framed(b'{"a": 1}'), b"x" * 100_000])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    for attempt in (lambda: read(tmp_path), lambda: FileJournal.open(tmp_path, HEADER)):
        with pytest.raises(JournalError, match="header of a dhpo journal"):
            attempt()
    assert (tmp_path / FILE_NAME).read_bytes() == content


def test_no_journal_there(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journal at"):
        read(tmp_path)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"cannot be opened: .*Choose a directory"):
        FileJournal.open(tmp_path / "file" / "run", HEADER)


def test_settings_that_are_no_json(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="settings"):
        FileJournal.open(tmp_path, Header("s", 0.0, {"f": object()}))
    with FileJournal.open(tmp_path, HEADER) as journal:  # nothing is left that would be in the way
        assert journal.header == HEADER


def test_memory_keeps_thousands_of_batches_compactly() -> None:
    journal = MemoryJournal(HEADER)
    written = [[TrialReported(i, i, 1, 1, 1, {"score": i / 7, "epoch": 1})] * 20 for i in range(400)]
    for batch in written:
        journal.append(batch)
    journal.append([])
    journal.close()
    assert journal.header == HEADER
    assert batches(journal.replay()) == written
    assert journal._packed
    assert sum(map(len, journal._packed)) < sum(len(encode(batch)) for batch in written) / 4


def test_nobody_finds_a_journal_without_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[bool] = []
    sync = os.fdatasync

    def look(descriptor: int) -> None:
        there.append((tmp_path / "run" / FILE_NAME).exists())
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", look)
    with FileJournal.open(tmp_path / "run", HEADER) as journal:
        assert there == [False]  # the header was on the disk before the journal had its name
        assert read(tmp_path / "run")[0] == journal.header == HEADER
    assert os.listdir(tmp_path / "run") == [FILE_NAME]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_links(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: object, target: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    with FileJournal.open(tmp_path, HEADER) as journal:
        journal.append(EVERY_KIND)
    assert batches(read(tmp_path)[1]) == [EVERY_KIND]
    assert os.listdir(tmp_path) == [FILE_NAME]


def test_a_driver_that_was_faster_by_an_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def late(source: Path, target: Path) -> None:
        monkeypatch.undo()
        with FileJournal.open(tmp_path, replace(HEADER, search_id="faster")):
            link(source, target)

    monkeypatch.setattr(os, "link", late)
    with FileJournal.open(tmp_path, HEADER) as journal:
        assert journal.header.search_id == "faster"
    assert os.listdir(tmp_path) == [FILE_NAME]
