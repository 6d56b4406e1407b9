"""A day of a thousand workers, with queues, walltimes, stragglers and deaths, interrupted and resumed, under a clock.

The loop, the study, the journal and the views are the real ones; only the workers and the clock are simulated. What
must hold is read from the journal, by a reader that shares no code with dhpo.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from ledger import Ledger, rows

from dhpo import Hyperband, Results, Search
from dhpo.events import Event
from dhpo.executors.simulated import Simulated

WORKERS = 1000
HOUR = 3600.0


class Watched(Simulated):
    """Sees at every turn of the loop that no worker is idle while there is something to run."""

    more = True  # trials may be begun

    async def events(self, timeout: float | None) -> list[Event]:
        assert not self.more or self.free() == 0
        return await super().events(timeout)


def train(config: Any, report: Any) -> None:
    if config.x > 0.99:
        raise MemoryError("too large")
    for epoch in range(1, 10):
        report(epoch=epoch, score=config.x * epoch, cost=config.y / epoch, seconds=3600.0 + 3600.0 * config.x)


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_day_of_a_thousand_workers(tmp_path: Path) -> None:
    held: list[int] = []

    def executor(seed: int) -> Watched:
        return Watched(
            WORKERS, startup=(60.0, 3600.0), deaths_per_hour=0.02, spread=0.2, stragglers=(0.05, 3.0),
            walltime=(4 * HOUR, 12 * HOUR), checkpoints=True, seed=seed,
        )  # fmt: skip

    def run(cluster: Watched, **budget: Any) -> Results:
        search = Search(
            {"x": (0.0, 1.0), "y": (0.0, 1.0)}, train, objectives={"score": "MAX", "cost": "MIN"},
            stopper=Hyperband(max_t=9), cluster=cluster, searcher="random", random_state=1, log_dir=tmp_path / "run",
        )  # fmt: skip
        results = search.run(progress=False, watchers=[lambda batch, study: held.append(resident())], **budget)
        search.close()
        return results

    for part in range(2):  # the driver's own job lasts half a day
        run(executor(part), time_out=12 * HOUR)
    made = sum(row[0] == "proposed" for row in rows(tmp_path / "run"))
    last = executor(2)
    last.more = False
    results = run(last, num_trials=made)

    events = list(rows(tmp_path / "run"))
    ledger = Ledger().take(events)
    ledger.check_finished(made)
    assert ledger.sessions == 3
    assert ledger.time >= 24 * HOUR
    kinds = Counter(row[0] for row in events)
    assert made > 4 * WORKERS
    assert kinds["lost"] > 1000  # walltimes and deaths
    assert min(kinds["failed"], kinds["completed"]) > 10
    assert ledger.ignored == 0  # one driver at a time, and a simulation that tells of no trial that was given up

    # The views are of the same search.
    states = Counter(trial.state for trial in ledger.trials)
    found = Counter(results.statuses().values())
    assert (found["FAILED"], found["COMPLETED"] + found["STOPPED"]) == (states["failed"], states["completed"])
    assert len(results.to_frame()) == made
    assert (tmp_path / "run" / "results.csv").read_text().count("\n") == made + 1

    # Workers were busy: what the ended trials took, as they tell it, is most of what there was.
    wait = (60.0 + 3600.0) / 2
    life = 8 * HOUR
    began = {row[2]: row[1] for row in events if row[0] == "proposed"}
    assert len(began) == made
    reports = sum(row[0] == "report" and row[1] < 24 * HOUR for row in events)
    mean = 3600.0 + 3600.0 * 0.5
    assert reports * mean > 0.6 * 24 * HOUR * WORKERS * life / (life + wait)

    # Memory grows by what is known of the trials, and by nothing else.
    quarter = len(held) // 4
    grown = max(held) - held[quarter]
    assert grown < 30e6 + 8e3 * made, f"{grown / 1e6:.0f} MB for {made} trials"
