"""Command lines of anything: an exit code and a message, never a traceback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dhpo.cli import main

SEARCH = """
import dhpo
search = dhpo.Search({"x": (1, 3)}, lambda c: c.x, cluster="serial", searcher="random", random_state=1)
number = 7
"""
#: No word that would start anything on another machine, or wait for one.
WORDS = st.one_of(
    st.sampled_from(
        [
            *(
                "",
                "-",
                "--",
                "0",
                "-1",
                "1",
                "2",
                "1e999",
                "nan",
                "2h",
                "-2h",
                "1-12:00:00",
                "99:99",
                "x=",
                "=1",
                "a=1",
            ),
            *("search.py", "search.py:search", "search.py:number", "none.py", "broken.py", "run", "empty", "/dev/null"),
            *(".", "serial", "threads", "nowhere", "\x1b[2J", "\udcff", "ä\n", "٣", "a" * 300, "100000000000000000000"),
        ]
    ),
    st.text(st.characters(exclude_characters="\0:"), max_size=4).filter(lambda word: not word.endswith(".json")),
)
OPTIONS = st.sampled_from(
    [
        *("--num-trials", "--time-out", "--stop-at", "--patience", "--log-dir", "--num-cpus", "--num-gpus", "--json"),
        *("--no-progress", "--exit-code-if-unfinished", "--strict", "--objective", "--last", "--failed", "--csv"),
        *("--out", "--max-evals", "-n", "--help", "--version", "--traceback=1", "--unknown", "-x"),
    ]
)
COMMANDS = st.sampled_from(["run", "resume", "status", "front", "best", "trials", "export", "submit", "", "nonsense"])


@pytest.fixture(name="place", scope="module")
def place_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("cli")
    (place / "search.py").write_text(SEARCH)
    (place / "broken.py").write_text("search = 1 +")
    (place / "empty").mkdir()
    before = Path.cwd()
    os.chdir(place)
    assert call("run", "search.py", "--num-trials", "2", "--no-progress", "--log-dir", "run")[0] == 0
    yield place
    os.chdir(before)


def call(*arguments: str) -> tuple[int, str]:
    """What ``dhpo`` with these arguments ends with, and what it prints. What it does not catch comes through."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    at, path = Path.cwd(), list(sys.path)
    with (
        mock.patch.object(sys, "argv", ["dhpo", *arguments]), redirect_stdout(out), redirect_stderr(out),
        pytest.raises(SystemExit) as ended,
    ):  # fmt: skip
        main()
    os.chdir(at)
    sys.path[:] = path
    out.flush()
    assert isinstance(out.buffer, io.BytesIO)
    code = ended.value.code
    return (code if isinstance(code, int) else 0 if code is None else 1), out.buffer.getvalue().decode()


@settings(deadline=None, max_examples=120)
@given(COMMANDS, st.lists(st.one_of(WORDS, OPTIONS), max_size=6))
@example("run", ["search.py", "--num-trials", "1", "--time-out", "nan"])
@example("run", ["search.py", "--num-trials", "1", "--num-cpus", "nan"])
@example("run", ["search.py", "--num-trials", "100000000000000000000", "--stop-at", "0", "--time-out", "1"])
@example("status", ["\udcff"])
@example("status", ["run", "--json"])
@example("export", ["run", "--csv", "/dev/full"])
def test_any_command_line(place: Path, command: str, words: Sequence[str]) -> None:
    code, told = call(*([command] if command else []), *words)
    assert code in (0, 1, 2)
    assert "Traceback" not in told
    assert code == 0 or told.strip()
    assert "\x1b" not in told


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(
            ["--queue", "--account", "--memory", "--walltime", "--directive", "--workers", "--cpus", "--log-dir"]
        ),
        st.one_of(WORDS, st.just("a\nPLANTED"), st.just("a'$(PLANTED)"), st.just("a\rPLANTED")),
        max_size=3,
    ),
    st.sampled_from(["slurm", "pbs"]),
    st.sampled_from(["allocation", "chain", "driver"]),
)
@example({"--log-dir": "a\nPLANTED"}, "slurm", "allocation")
@example({"--queue": "a\nPLANTED"}, "pbs", "chain")
def test_job_scripts_of_anything(place: Path, options: dict[str, str], cluster: str, mode: str) -> None:
    """What is given stays within its line, and within its word."""
    given = [f"{option}={value}" for option, value in options.items()]
    arguments = ("--cluster", cluster, "--mode", mode, "--num-trials", "3", "--dry-run", *given)
    code, told = call("submit", "search.py", *arguments)
    assert code in (0, 1, 2)
    assert "Traceback" not in told
    if code == 0:
        assert not [line for line in told.splitlines() if line.lstrip().startswith("PLANTED")]
        checked = subprocess.run(["bash", "-n"], input=told.encode(), capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr


RECORD = st.dictionaries(
    st.sampled_from(["file", "name", "cwd", "num_trials", "time_out", "stop_at", "patience", "more"]),
    st.none() | st.booleans() | st.integers(-2, 3) | st.text(max_size=4) | st.lists(st.integers(-9, 9), max_size=2),
)


@settings(deadline=None, max_examples=60)
@given(st.one_of(st.binary(max_size=40), RECORD.map(orjson.dumps)))
def test_records_of_anything(place: Path, content: bytes) -> None:
    """``run.json`` may have been edited by hand."""
    record = place / "run" / "run.json"
    kept = record.read_bytes()
    try:
        record.write_bytes(content)
        for arguments in (("status", "run"), ("resume", "run", "--no-progress", "--num-trials", "2")):
            code, told = call(*arguments)
            assert code in (0, 1, 2)
            assert "Traceback" not in told
    finally:
        record.write_bytes(kept)
