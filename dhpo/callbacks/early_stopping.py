"""Ends a search that does not get better any more."""

from __future__ import annotations

from math import inf

from dhpo.callbacks.base import Callback, Ended, SearchInfo
from dhpo.errors import ObjectiveError, SettingError, StopSearch


class EarlyStoppingCallback(Callback):
    """Ends the search when so many trials in a row have not improved the best by enough.

    ``run(patience=...)`` does so for any improvement, and for the front of several objectives; this callback looks at
    one objective and asks for a least improvement. It counts from the beginning of each run.

    Args:
        patience: how many trials in a row, failed ones included.
        min_delta: by how much a value has to be better than the best so far, to count as an improvement.
        objective: which objective; needed where there are several.

    Raises:
        SettingError: the patience is no positive whole number, or ``min_delta`` is negative.
        ObjectiveError: at the start of the search: there are several objectives and none is named, or it is unknown.
            It is logged, and the callback is without effect then.
    """

    def __init__(self, patience: int = 20, min_delta: float = 0.0, objective: str | None = None) -> None:
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 1:
            raise SettingError(f"patience={patience!r}: give a positive whole number of trials")
        if not min_delta >= 0:
            raise SettingError(f"min_delta={min_delta!r}: give 0 or more")
        self.patience = patience
        self.min_delta = min_delta
        self.objective = objective
        self._name: str | None = None
        self._sign = 1.0
        self._best = inf
        self._since = 0

    def on_start(self, search: SearchInfo) -> None:
        """Choose the objective; begin to count."""
        self._name, self._best, self._since = None, inf, 0
        names = list(search.objectives)
        name = self.objective if self.objective is not None or len(names) > 1 else names[0]
        if name is None or name not in search.objectives:
            raise ObjectiveError(f"EarlyStoppingCallback(objective={name!r}): name one of the objectives {names}")
        self._name = name
        self._sign = -1.0 if search.objectives[name] == "MAX" else 1.0

    def on_end(self, trial: Ended) -> None:
        """Count; end the search when it is enough."""
        if self._name is None:
            return
        cost = inf if trial.values is None else self._sign * trial.values[self._name]
        if cost < self._best - self.min_delta:
            self._best, self._since = cost, 0
            return
        self._since += 1
        if self._since >= self.patience:
            more = f" by more than {self.min_delta:g}" if self.min_delta else ""
            raise StopSearch(f"no improvement of {self._name}{more} in {self.patience} trials")
