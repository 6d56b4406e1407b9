"""A study brought to where its journal ends, without folding those reports one by one that make no difference.

Left out is a report within a run of reports (see ``dhpo/_sieve.py``) at which no decision is due and which is not the
best so far: the last one of its run says all that remains of it. When decisions are due follows from the stopper's
milestones, so this holds for any stopper.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from math import inf
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dhpo._blocks import MAX_TRIALS, Block, Reports
from dhpo._sieve import Runs, Sieve
from dhpo._space_json import tuples
from dhpo.events import Event, Observe, TrialAdded, TrialProposed
from dhpo.stopping.base import DecidesAlways
from dhpo.study import Study
from dhpo.trial import Observation

#: A report: below which cost it need not be folded, trial, attempt, index, resource, and costs.
_Row: TypeAlias = tuple[float, int, int, int, float, tuple[float, ...]]


def replay(study: Study, blocks: Iterable[Block]) -> Iterator[list[Observation]]:
    """Fold a whole journal into a new study; hand out what the searcher is to be told, by the block."""
    fold = _Fold(study)
    return (fold.observations(part) for block in blocks for part in block.sessions())


class _Fold:
    def __init__(self, study: Study) -> None:
        self._study = study
        self._sieve = Sieve()
        self._signs = np.array(study.objectives.signs)
        self._brackets = np.full(64, -1, dtype=np.int64)  # of each trial; -1 where there is none
        self._every = study.stopper.every if isinstance(study.stopper, DecidesAlways) else inf
        self._levels: dict[int, NDArray[np.float64]] = {}

    def observations(self, block: Block) -> list[Observation]:
        """Fold the next block, which has a driver's start at its begin only."""
        study, front = self._study, self._study.front
        for event in block.others:
            if type(event) is TrialProposed and 0 <= event.trial < MAX_TRIALS:
                self._learn(event.trial, event.bracket)
        rows, chosen = self._chosen(block)
        ends = np.searchsorted(rows, block.places)
        found: list[Observation] = []
        for n, other in zip(np.diff(ends, prepend=0, append=len(rows)).tolist(), (*block.others, None), strict=True):
            for bound, trial, attempt, index, resource, costs in islice(chosen, n):
                if bound < front.lowest:
                    answer = study.report(trial, attempt, index, resource, costs)
                    if answer is not None and answer[1] is not None:
                        found.append(answer[1])
            if other is not None:
                found += [c.observation for c in study.apply(_with_choices(other)) if type(c) is Observe]
        study.time = max(study.time, float(block.reports.time.max(initial=0.0)))
        return found

    def _chosen(self, block: Block) -> tuple[NDArray[np.int64], Iterator[_Row]]:
        """The places and the rows of the reports that may have to be folded."""
        reports = block.reports
        order = [block.names.index(name) for name in self._study.objectives.names]
        costs = reports.values[:, order] * self._signs
        chosen = self._due(reports, self._sieve.runs(block))
        bounds = np.full(len(reports), -inf)
        if len(order) == 1:  # what may be the best so far is looked at again when its turn comes
            bounds = np.where(chosen, -inf, costs[:, 0])
            chosen = chosen | (bounds < self._study.front.lowest)
        some = reports.taken(chosen)
        columns = (column.tolist() for column in (bounds[chosen], some.trial, some.attempt, some.index))
        return some.place, zip(*columns, some.resources(), map(tuple, costs[chosen].tolist()), strict=True)

    def _learn(self, trial: int, bracket: int) -> None:
        while trial >= len(self._brackets):
            self._brackets = np.concatenate([self._brackets, np.full_like(self._brackets, -1)])
        if self._brackets[trial] < 0:
            self._brackets[trial] = bracket
        if bracket not in self._levels:
            self._levels[bracket] = np.unique([*self._study.stopper.milestones(bracket), self._every])

    def _due(self, reports: Reports, runs: Runs) -> NDArray[np.bool_]:
        """Which reports have to be folded, whatever their values are."""
        due = runs.first | runs.last | runs.odd | (reports.resource >= self._every)
        known = reports.trial < len(self._brackets)
        brackets = np.full(len(reports), -1, dtype=np.int64)
        brackets[known] = self._brackets[reports.trial[known]]
        due |= brackets < 0
        for bracket, levels in self._levels.items():
            mine = np.flatnonzero(brackets == bracket)
            passed = np.searchsorted(levels, reports.resource[mine], side="right")
            due[mine] |= passed != np.searchsorted(levels, runs.before[mine], side="right")
        return due


def _with_choices(event: Event) -> Event:
    """The event with its configuration's values as the space has them: JSON has made lists of tuples."""
    if type(event) is not TrialProposed and type(event) is not TrialAdded:
        return event
    if list not in map(type, event.config.values()):
        return event
    return event._replace(config={name: tuples(value) for name, value in event.config.items()})
