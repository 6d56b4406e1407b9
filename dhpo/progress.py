"""What a person sees while a search runs: a progress bar, and a log line per event."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from dhpo.events import Event, TrialProposed, TrialReported
from dhpo.study import Study

logger = logging.getLogger("dhpo")


def log_events(events: Sequence[Event], study: Study) -> None:
    """Log each event at debug level."""
    if logger.isEnabledFor(logging.DEBUG):
        for event in events:
            logger.debug("%s", event)


class ProgressBar:
    """A tqdm bar, in the terminal or the notebook: ended trials, failures, and the best objective or the front's size.

    Args:
        total: how many trials there will be; None where no number is set.
        initial: how many had ended before.
    """

    def __init__(self, total: int | None, initial: int = 0) -> None:
        from tqdm.auto import tqdm

        self._status = ""
        self._bar: Any = tqdm(total=total, initial=min(initial, total or initial), unit="trial", dynamic_ncols=True)

    def __call__(self, events: Sequence[Event], study: Study) -> None:
        """Take in what happened."""
        if all(isinstance(event, TrialReported | TrialProposed) for event in events):
            return
        self._bar.set_postfix(self.postfix(study), refresh=False)
        self._bar.update(study.n_ended - self._bar.n)

    @staticmethod
    def postfix(study: Study) -> dict[str, Any]:
        """What stands behind the bar."""
        shown: dict[str, Any] = {"failures": study.n_failed}
        if study.objectives.single:
            if study.best_cost is not None:
                objective = study.objectives.items[0]
                best = study.best_cost * study.objectives.signs[0]
                shown[objective.name] = f"{best:.3g}"
        else:
            shown["front"] = len(study.front)
        return shown

    def wait_for(self, status: str | None) -> None:
        """Show what the search waits for, as long as it cannot go on."""
        if (status or "") != self._status:
            self._status = status or ""
            self._bar.set_description(self._status or None)

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
