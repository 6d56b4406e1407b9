"""A progress bar."""

from __future__ import annotations

from math import inf
from typing import Any

from dhpo.callbacks.base import Callback, Ended, Finished, SearchInfo
from dhpo.trial import Status


class TqdmCallback(Callback):
    """A tqdm bar in the terminal or the notebook: ended trials, failures, and the best value of one objective.

    ``run`` shows a bar by itself; this one is for ``run(progress=False)`` and settings of one's own.

    Args:
        objective: which objective's best stands behind the bar; the first one by default.
        **settings: of :class:`tqdm.tqdm`.
    """

    def __init__(self, objective: str | None = None, **settings: Any) -> None:
        self.objective = objective
        self.settings = settings
        self._bar: Any = None
        self._name, self._sign, self._best = "", 1.0, inf
        self._n_failed = 0

    def on_start(self, search: SearchInfo) -> None:
        """Show the bar."""
        from tqdm.auto import tqdm

        self._name = self.objective or next(iter(search.objectives))
        self._sign = -1.0 if search.objectives.get(self._name) == "MAX" else 1.0
        self._best, self._n_failed = inf, 0
        settings = {"unit": "trial", "total": search.num_trials, "initial": search.n_ended, **self.settings}
        self._bar = tqdm(**settings)

    def on_end(self, trial: Ended) -> None:
        """Move on. A trial that pauses has not ended."""
        if self._bar is None or trial.status is Status.PAUSED:
            return
        self._n_failed += trial.values is None
        self._best = min(self._best, inf if trial.values is None else self._sign * trial.values[self._name])
        shown: dict[str, Any] = {"failures": self._n_failed}
        if self._best < inf:
            shown[self._name] = f"{self._sign * self._best:.3g}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def on_finish(self, search: Finished) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
