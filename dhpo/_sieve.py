"""Which of a trial's reports tell all that there is to know of those between them.

The reports of a trial come in runs: between two other events of the trial, of one attempt, each with a higher index and
at a higher resource than the one before. Nothing happens to the trial within a run, so that all of its reports count or
none does, and the last one says where the trial stands. Trials that ever break this are folded report by report.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhpo._blocks import MAX_TRIALS, Block
from dhpo.events import Event, SessionOpened


class Runs(NamedTuple):
    """How the reports of a block follow each other; one entry for each report, in their order."""

    run: NDArray[np.int64]  # the number of its run, from 0, within the block
    first: NDArray[np.bool_]  # of its run, as far as it is in the block
    last: NDArray[np.bool_]
    before: NDArray[np.float64]  # the resource of the report before it in its run; NaN where it is the first
    odd: NDArray[np.bool_]  # of a trial that is to be folded report by report


class Sieve:
    """Finds the runs of reports. It is given all blocks of a search in their order."""

    def __init__(self) -> None:
        # The last report of each trial so far, by the trial's number.
        self._attempt = np.zeros(64, dtype=np.int64)
        self._index = np.zeros(64, dtype=np.int64)
        self._resource = np.zeros(64)
        self._parted = np.ones(64, dtype=bool)  # something else has happened to the trial since then
        self._odd = np.zeros(64, dtype=bool)

    def runs(self, block: Block) -> Runs:
        """The runs of the next block.

        Args:
            block: as :meth:`dhpo._blocks.Block.sessions` has them: a driver's start is its first event, if any.
        """
        if block.others and type(block.others[0]) is SessionOpened:
            self._parted[:] = True
        reports, size = block.reports, block.size
        trial = np.full(size, -1, dtype=np.int64)
        trial[block.places] = [_trial_of(event) for event in block.others]
        trial[reports.place] = reports.trial
        is_report = np.zeros(size, dtype=bool)
        is_report[reports.place] = True
        row = np.full(size, -1, dtype=np.int64)  # of the reports
        row[reports.place] = np.arange(len(reports))
        order = np.argsort(trial, kind="stable")
        order = order[np.searchsorted(trial[order], 0) :]  # what concerns no trial comes first
        self._grow(int(trial.max(initial=-1)) + 1)
        return self._found(block, trial[order], is_report[order], row[order])

    def _grow(self, n_trials: int) -> None:
        while n_trials > len(self._odd):
            self._attempt, self._index, self._resource, self._odd = (
                np.concatenate([column, np.zeros_like(column)])
                for column in (self._attempt, self._index, self._resource, self._odd)
            )
            self._parted = np.concatenate([self._parted, np.ones_like(self._parted)])

    def _found(
        self, block: Block, trial: NDArray[np.int64], is_report: NDArray[np.bool_], row: NDArray[np.int64]
    ) -> Runs:
        """The runs, and what to remember of the block: of its events sorted by trial."""
        reports = block.reports
        at = np.flatnonzero(is_report)  # where the reports are in this order …
        rows, number = row[at], trial[at]  # … which they are, and of which trials
        attempt, index, resource = reports.attempt[rows], reports.index[rows], reports.resource[rows]
        follows = np.zeros(len(at), dtype=bool)  # the entry before is of the same trial
        follows[at > 0] = trial[at[at > 0] - 1] == number[at > 0]
        known = np.zeros(len(at), dtype=bool)  # the trial has an earlier report in the block
        known[1:] = number[1:] == number[:-1]
        goes_on = follows & (np.diff(at, prepend=-2) == 1)
        before = [
            np.where(known, np.roll(column, 1), remembered[number])
            for column, remembered in (
                (attempt, self._attempt), (index, self._index), (resource, self._resource),
            )
        ]  # fmt: skip
        parted = np.where(follows, ~goes_on, self._parted[number])
        same = (attempt == before[0]) & (index > before[1]) & (resource > before[2])
        self._odd[number[~np.where(parted, attempt > before[0], same)]] = True

        last = np.ones(len(at), dtype=bool)
        last[:-1] = ~goes_on[1:]
        ends = np.ones(len(at), dtype=bool)  # the trial's last report in the block
        ends[:-1] = ~known[1:]
        self._parted[trial] = True
        self._parted[number[ends]] = False
        followed = at[ends] + 1 < len(trial)
        final = at[ends][followed]
        again = trial[final + 1] == trial[final]
        self._parted[trial[final[again]]] = True
        for column, remembered in (
            (attempt, self._attempt), (index, self._index), (resource, self._resource),
        ):  # fmt: skip
            remembered[number[ends]] = column[ends]

        n = len(rows)
        found = Runs(
            np.empty(n, np.int64), np.empty(n, bool), np.empty(n, bool), np.empty(n), np.empty(n, bool),
        )  # fmt: skip
        found.run[rows] = np.cumsum(~goes_on) - 1
        found.first[rows], found.last[rows], found.odd[rows] = ~goes_on, last, self._odd[number]
        found.before[rows] = np.where(goes_on, before[2], np.nan)
        return found


def _trial_of(event: Event) -> int:
    trial = getattr(event, "trial", -1)
    return trial if type(trial) is int and 0 <= trial < MAX_TRIALS else -1
