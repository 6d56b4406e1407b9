"""Event files for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dhpo.callbacks.base import Callback, Ended, Finished, Proposed, Reported, SearchInfo
from dhpo.errors import DhpoError


class TensorBoardCallback(Callback):
    """Writes event files: a folder for each trial, with its hyperparameters and every number that it reports.

    The step of a number is the resource. The final objectives stand as ``final/<objective>``, which TensorBoard's
    page of hyperparameters shows too. Needs tensorboardX (``pip install 'dhpo[tensorboard]'``); see them by
    ``tensorboard --logdir DIRECTORY``.

    Args:
        directory: where the folders go; ``tensorboard`` in the search's directory, or here where it has none, by
            default.

    Raises:
        DhpoError: tensorboardX is not installed.
    """

    background = True

    def __init__(self, directory: Path | str | None = None) -> None:
        try:
            import tensorboardX
        except ImportError as error:
            raise DhpoError("TensorBoardCallback needs tensorboardX: pip install 'dhpo[tensorboard]'") from error
        self.directory = None if directory is None else Path(directory)
        self._tools: Any = tensorboardX
        self._root = Path()
        self._writers: dict[int, Any] = {}

    def on_start(self, search: SearchInfo) -> None:
        """Find the folder."""
        self._root = self.directory or (search.directory or Path()) / "tensorboard"
        for number in search.running:
            self._open(number)

    def on_proposal(self, trial: Proposed) -> None:
        """Open the trial's folder."""
        self._open(trial.trial)

    def on_report(self, report: Reported) -> None:
        """Write the numbers."""
        writer = self._open(report.trial)
        for name, value in report.values.items():
            if isinstance(value, int | float):
                writer.add_scalar(name, value, report.resource)

    def on_end(self, trial: Ended) -> None:
        """Write the final objectives and the hyperparameters, and close the folder."""
        writer = self._open(trial.trial)
        finals = {f"final/{name}": value for name, value in (trial.values or {}).items()}
        for summary in self._tools.summary.hparams(plain_hyperparameters(trial.config), finals):
            writer.file_writer.add_summary(summary)
        for name, value in finals.items():
            writer.add_scalar(name, value, trial.resource or 0)
        self._writers.pop(trial.trial).close()

    def on_finish(self, search: Finished) -> None:
        """Close what is open."""
        while self._writers:
            self._writers.popitem()[1].close()

    def _open(self, number: int) -> Any:
        if number not in self._writers:
            folder = self._root / f"trial-{number}"
            self._writers[number] = self._tools.SummaryWriter(str(folder), flush_secs=10)
        return self._writers[number]


def plain_hyperparameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters as TensorBoard has them: numbers, booleans and texts."""
    return {
        name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in config.items()
    }
