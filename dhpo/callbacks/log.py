"""A line in the log for what happens."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import isnan

from dhpo.callbacks.base import Callback, Decided, Ended, Finished, Lost, Proposed, Reported, SearchInfo


class LoggerCallback(Callback):
    """Logs the start, the end of each trial, losses and the finish; reports, proposals and decisions at debug level.

    Args:
        logger: a logger, or the name of one.
        level: the level of the former, as of :mod:`logging`.
    """

    def __init__(self, logger: logging.Logger | str = "dhpo.search", level: int = logging.INFO) -> None:
        self.logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self.level = level

    def on_start(self, search: SearchInfo) -> None:
        """Log it."""
        where = "in memory" if search.directory is None else f"in {search.directory}"
        self.logger.log(self.level, "search %s begins %s, with %d trials so far", search.id, where, search.n_trials)

    def on_proposal(self, trial: Proposed) -> None:
        """Log it."""
        self.logger.debug("trial %d, attempt %d (%s): %s", trial.trial, trial.attempt, trial.origin, dict(trial.config))

    def on_report(self, report: Reported) -> None:
        """Log it."""
        self.logger.debug("trial %d reported %s", report.trial, dict(report.values))

    def on_decision(self, decision: Decided) -> None:
        """Log it."""
        self.logger.debug("trial %d at %g: %s", decision.trial, decision.resource, decision.decision)

    def on_end(self, trial: Ended) -> None:
        """Log it."""
        what = trial.error if trial.values is None else _shown(trial.values)
        at = "" if trial.resource is None else f" at {trial.resource:g}"
        took = "" if isnan(trial.duration) else f" in {trial.duration:.3g} s"
        self.logger.log(self.level, "trial %d: %s%s%s: %s", trial.trial, trial.status, at, took, what)

    def on_loss(self, loss: Lost) -> None:
        """Log it."""
        why = f"its worker {loss.worker} went away" if loss.worker else "it had to leave its worker"
        self.logger.log(self.level, "trial %d starts again: %s", loss.trial, why)

    def on_finish(self, search: Finished) -> None:
        """Log it."""
        reason = search.reason or "interrupted"
        self.logger.log(
            self.level, "the search ends (%s) with %d trials, %d of them failed",
            reason, search.n_trials, search.n_failed,
        )  # fmt: skip


def _shown(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={value:.6g}" for name, value in values.items())
