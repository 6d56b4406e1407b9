"""``kill -9`` of every process that a search on this machine consists of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Harness, Row, count, reported


@pytest.fixture(name="search")
def search_fixture(tmp_path: Path) -> Iterator[Harness]:
    harness = Harness(
        tmp_path, "Local(3, dashboard_address=None)", isolation="process", n_trials=12, epochs=8, seconds=0.15
    )
    yield harness
    harness.close()


def failed(rows: list[Row]) -> set[int]:
    return {row[2] for row in rows if row[0] == "failed"}


def test_every_process_is_killed_in_turn(search: Harness) -> None:
    """A trial's own process and its warden cost that trial, a worker costs nothing, the driver costs nothing."""
    search.start()
    search.wait(reported(6))
    with search.held_trial() as (first, process):
        search.kill(process)
    search.wait(lambda rows: failed(rows) == {first})

    with search.held_trial() as (second, process):
        search.kill(search.parent(process))  # its warden
    search.wait(lambda rows: failed(rows) == {first, second})

    with search.held_trial() as (third, process):
        search.kill(search.parent(search.parent(process)))  # its worker
    rows = search.wait(lambda rows: count(rows, "lost") == 1)
    (lost,) = (row for row in rows if row[0] == "lost")
    assert lost[2] == third
    assert lost[4]  # the worker is named: it is held against the trial, once
    search.wait_more()

    assert search.driver is not None
    search.kill(search.driver.pid)
    assert search.await_end() == -9
    search.await_nobody()
    before = search.rows()
    search.start()
    assert search.await_end() == 0, search.told()
    search.await_nobody()
    rows = search.check(n_failed=2)
    assert rows[: len(before)] == before
    assert all(row[4].startswith("SIGKILL") for row in rows if row[0] == "failed")
    # What had ended before the driver's death did not run again.
    attempts = {row[2]: row[3] for row in before if row[0] in ("completed", "failed")}
    assert all(note[1] <= attempts[note[0]] for note in search.notes() if note[0] in attempts)


def test_all_workers_are_killed_at_once(search: Harness) -> None:
    search.start()
    search.wait(lambda rows: len({row[2] for row in rows if row[0] == "report"}) >= 3)
    workers = {search.parent(warden) for warden in search.processes("warden")}
    assert len(workers) == 3
    for pid in workers:
        search.kill(pid)
    assert search.await_end() == 0, search.told()
    search.await_nobody()
    rows = search.check()
    assert count(rows, "lost") >= 1
