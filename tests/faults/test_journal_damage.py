"""Journals of real searches, damaged in every way: each recovers what was there before the damage, or is refused.

What is to be expected of a damaged file is told by one rule, which knows nothing of checksums: the whole lines at its
beginning that are as they were are good. If nothing follows, or only one line does (as a crash leaves it), the journal
goes on from there; anything else is refused, at exactly that line. Never is anything else read out of it.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ledger import Ledger, rows

from dhpo import Hyperband, Results, Search, journal
from dhpo._lines import framed
from dhpo.cli.status import read_status
from dhpo.errors import JournalError
from dhpo.events import Event
from dhpo.executors.simulated import Simulated
from dhpo.journal import FILE_NAME, FileJournal, Header

N_TRIALS = 9
NOBODY = Header("another", 0.0)


class Kept(NamedTuple):
    """A journal as it was before it was damaged."""

    content: bytes
    batches: list[list[Event]]
    stopper: Any

    @property
    def lines(self) -> list[bytes]:
        return self.content.splitlines(keepends=True)


def train(config: Any, report: Any) -> None:
    if config.x > 0.7:
        raise ValueError("too large: «x»")
    for epoch in range(1, 5):
        report(epoch=epoch, objective=config.x * epoch, seconds=60.0)


def search(directory: Path, stopper: Any, cluster: Any = None) -> Search:
    cluster = cluster or Simulated(workers=3, deaths_per_hour=12.0, startup=30.0, seed=4)
    return Search(
        {"x": (0.0, 1.0)}, train, stopper=stopper, cluster=cluster, searcher="random", random_state=1, log_dir=directory
    )


def make(directory: Path, type_: str) -> Kept:
    """Two runs with known results, failures, losses, stopped or promoted trials."""
    stopper = Hyperband(max_t=4, type=type_)
    first = search(directory, stopper)
    first.add_results([({"x": 0.5}, 2.0), ({"x": 0.25}, "F_known")])
    first.run(num_trials=5, progress=False)
    first.close()
    search(directory, stopper).run(num_trials=N_TRIALS, progress=False)
    content = (directory / FILE_NAME).read_bytes()
    return Kept(content, list(journal.read(directory)[1]), stopper)


@pytest.fixture(scope="module", params=["stopping", "promotion"])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kept:
    made = make(tmp_path_factory.mktemp("kept") / "run", request.param)
    kinds = {type(event).__name__ for batch in made.batches for event in batch}
    wanted = {"SessionOpened", "TrialProposed", "TrialAdded", "TrialReported", "TrialCompleted", "TrialFailed"}
    assert kinds >= wanted | {"WorkerLost", "SearchFinished"} | (
        {"TrialPaused", "TrialPromoted"} if request.param == "promotion" else set()
    )
    return made


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of files are damaged here, and no power is cut."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(logging.getLogger("dhpo._lines"), "disabled", True)


@pytest.fixture
def path() -> Iterator[Path]:
    """Where the damaged journal is written: in memory, where there is a place for it."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        yield Path(directory) / FILE_NAME


class Expected(NamedTuple):
    """What the rule says of a damaged file."""

    n_lines: int  # that are as they were, the header included
    offset: int  # where they end
    n_left: int  # lines that follow


def expected(damaged: bytes, lines: list[bytes]) -> Expected:
    offset = n_lines = 0
    for line in lines:
        if not damaged.startswith(line, offset):
            break
        n_lines, offset = n_lines + 1, offset + len(line)
    rest = damaged[offset:]
    return Expected(n_lines, offset, rest.count(b"\n") + (not rest.endswith(b"\n") and bool(rest)))


def taken(batches: Iterator[list[Event]]) -> tuple[list[list[Event]], str]:
    """The batches, and the error that ended them."""
    found: list[list[Event]] = []
    try:
        found.extend(batches)
    except JournalError as error:
        return found, str(error)
    return found, ""


def observe(path: Path, kept: Kept, lines: list[bytes], damaged: bytes) -> None:
    """See that a reader and a driver make of a damaged file what the rule says."""
    path.write_bytes(damaged)
    wanted = expected(damaged, lines)
    if wanted.n_lines == 0:
        with pytest.raises(JournalError, match=r"line 1"):
            journal.read(path)
        if b"\n" in damaged:
            with pytest.raises(JournalError, match=r"line 1"):
                FileJournal.open(path.parent, NOBODY)
            assert path.read_bytes() == damaged
        return
    good = kept.batches[: wanted.n_lines - 1]
    found, error = taken(journal.read(path)[1])
    assert found[: len(good)] == good
    assert len(found) == len(good)
    with FileJournal.open(path.parent, NOBODY) as opened:
        again, refused = taken(opened.replay())
    assert again == good
    if wanted.n_left < 2:
        assert (error, refused) == ("", "")
    else:
        place = f"line {wanted.n_lines + 1}, byte {wanted.offset}:"
        assert place in error
        assert place in refused
    assert path.read_bytes() == damaged  # nobody has changed it by looking at it


def test_cut_at_every_byte(kept: Kept, path: Path) -> None:
    lines = kept.lines
    for cut in range(len(kept.content) + 1):
        observe(path, kept, lines, kept.content[:cut])


def test_every_byte_flipped(kept: Kept, path: Path) -> None:
    lines = kept.lines
    for place, byte in enumerate(kept.content):
        others = () if place % 7 else (1 << (place // 7 % 8), byte ^ 0x0A, byte)  # another bit, a newline, a NUL
        for mask in {1 << (place % 8), *others} - {0}:
            changed = bytearray(kept.content)
            changed[place] ^= mask
            observe(path, kept, lines, bytes(changed))


def test_whole_lines_doubled_missing_and_moved(kept: Kept, path: Path) -> None:
    lines = kept.lines
    for i in range(len(lines)):
        observe(path, kept, lines, b"".join([*lines[:i], lines[i], *lines[i:]]))
        observe(path, kept, lines, b"".join([*lines[:i], *lines[i + 1 :]]))
        for j in (i + 1, i + 2, (i * 7 + 3) % len(lines)):
            moved = list(lines)
            if j < len(lines):
                moved[i], moved[j] = moved[j], moved[i]
            observe(path, kept, lines, b"".join(moved))
        observe(path, kept, lines, b"".join([*lines[: i + 1], *lines[1:]]))  # the file once more behind a part of it
        observe(path, kept, lines, b"".join([*lines[: i + 1], *lines]))


def test_a_part_of_another_run_of_the_same_search(kept: Kept, path: Path) -> None:
    """A copied directory whose two halves went on, each on its own: the same header, the same beginning."""
    lines = kept.lines
    half = len(lines) // 2
    path.write_bytes(b"".join(lines[:half]))
    cluster = Simulated(workers=2, deaths_per_hour=12.0, startup=30.0, seed=5)
    search(path.parent, kept.stopper, cluster).run(num_trials=N_TRIALS, progress=False)
    other = path.read_bytes().splitlines(keepends=True)
    assert other[:half] == lines[:half]
    for i in range(1, len(lines)):
        for j in (i - 1, i + 1, half, half + 1):
            if other[:j] != lines[:i]:  # else it is that other journal
                observe(path, kept, lines, b"".join([*lines[:i], *other[j:]]))


def test_holes_and_tails_of_zeros(kept: Kept, path: Path) -> None:
    content, lines = kept.content, kept.lines
    for begin in range(len(lines[0]), len(content), 37):
        observe(path, kept, lines, content[:begin] + bytes(len(content) - begin))
        observe(path, kept, lines, content[:begin] + bytes(4096))
        for length in (8, 512):  # a sector that never came to the disk
            observe(path, kept, lines, (content[:begin] + bytes(length) + content[begin + length :])[: len(content)])
    observe(path, kept, lines, bytes(512) + content[512:])
    with pytest.raises(JournalError, match="line 1"):
        FileJournal.open(path.parent, NOBODY)
    path.write_bytes(bytes(100_000) + content)
    with pytest.raises(JournalError, match="line 1"):
        FileJournal.open(path.parent, NOBODY)
    assert path.read_bytes().endswith(content)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b'"x":0', b'"x": 0', 1),
        lambda text: text + b"\n",
        lambda text: text + b"\n\n",
        lambda text: text.rstrip(b"\n"),
        lambda text: b"\n" + text,
        lambda text: text.replace(b"\n", b"\n\n", 3),
        lambda text: text.decode().encode("utf-16"),
        lambda text: text.decode().encode("latin-1", "replace"),
        lambda text: text + framed(b"[]"),
        lambda text: text.upper(),
        lambda text: b"",
    ],
    ids=lambda edit: "",
)
def test_what_an_editor_makes_of_it(kept: Kept, tmp_path: Path, edit: Callable[[bytes], bytes]) -> None:
    observe(tmp_path / FILE_NAME, kept, kept.lines, edit(kept.content))


def test_who_looks_at_a_damaged_journal_is_told_the_place_or_sees_what_was_before(kept: Kept, tmp_path: Path) -> None:
    """Results, ``dhpo status`` and a run that goes on: all of them recover the same, or refuse it at the same place."""
    draw = random.Random(3)
    lines, directory = kept.lines, tmp_path / "run"
    directory.mkdir()
    for case in range(40):
        place = draw.randrange(len(lines[0]), len(kept.content) - len(lines[-1]))  # so that something is left to do
        changed = bytearray(kept.content[:place] if case % 2 else kept.content)
        if not case % 2:
            changed[place] ^= 1 << draw.randrange(8)
        shutil.rmtree(directory)
        directory.mkdir()
        (directory / FILE_NAME).write_bytes(bytes(changed))
        wanted = expected(bytes(changed), lines)
        if wanted.n_left > 1:
            for look in (
                lambda: Results.load(directory).to_frame(),
                lambda: read_status(directory),
                lambda: search(directory, kept.stopper).run(num_trials=N_TRIALS, progress=False),
            ):
                with pytest.raises(JournalError, match=rf"line {wanted.n_lines + 1}, byte {wanted.offset}:"):
                    look()
            assert (directory / FILE_NAME).read_bytes() == bytes(changed)
            continue
        before = Results.load(directory)
        ended = {n: s for n, s in before.statuses().items() if s not in ("RUNNING", "PAUSED")}
        configs = before.config_history
        assert read_status(directory).results.statuses() == before.statuses()
        after = search(directory, kept.stopper).run(num_trials=N_TRIALS, progress=False)
        assert (directory / FILE_NAME).read_bytes().startswith(b"".join(lines[: wanted.n_lines]))
        Ledger().take(rows(directory)).check_finished(N_TRIALS)
        assert {n: after.statuses()[n] for n in ended} == ended
        assert {n: after.config_history[n] for n in configs} == configs


def test_a_journal_of_version_1_is_read_and_gone_on_with(kept: Kept, tmp_path: Path) -> None:
    """Its lines are not chained, and those that are added are not either."""
    path = tmp_path / FILE_NAME
    old = [line[9:-1] for line in kept.lines]
    assert b'"dhpo_journal":2' in old[0]
    old[0] = old[0].replace(b'"dhpo_journal":2', b'"dhpo_journal":1')
    path.write_bytes(b"".join(map(framed, old)))
    header, batches = journal.read(tmp_path)
    assert header.version == 1
    assert list(batches) == kept.batches
    search(tmp_path, kept.stopper).run(num_trials=N_TRIALS + 3, progress=False)
    content = path.read_bytes()
    assert content == b"".join(framed(line[9:-1]) for line in content.splitlines(keepends=True))
    assert len(content.splitlines()) > len(old) + 3
    Ledger().take(rows(tmp_path)).check_finished(N_TRIALS + 3)
    path.write_bytes(content[:-5])
    with FileJournal.open(tmp_path, NOBODY) as opened:
        assert list(opened.replay())[: len(old) - 1] == kept.batches
