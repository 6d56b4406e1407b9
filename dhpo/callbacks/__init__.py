"""What is told of a search while it runs: give ``Search(..., callbacks=[...])`` objects of these, or of your own.

The base class is :class:`Callback`. To end the search, a callback raises :class:`StopSearch`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dhpo.callbacks.base import (
    Callback,
    Decided,
    Ended,
    Finished,
    Lost,
    Proposed,
    Reported,
    Saved,
    SearchInfo,
)
from dhpo.errors import StopSearch

if TYPE_CHECKING:
    from dhpo.callbacks.csv_file import CsvCallback
    from dhpo.callbacks.early_stopping import EarlyStoppingCallback
    from dhpo.callbacks.live_front import LiveFrontCallback
    from dhpo.callbacks.log import LoggerCallback
    from dhpo.callbacks.mlflow import MLflowCallback
    from dhpo.callbacks.tensorboard import TensorBoardCallback
    from dhpo.callbacks.tqdm_bar import TqdmCallback

_HOMES = {
    "CsvCallback": "dhpo.callbacks.csv_file",
    "EarlyStoppingCallback": "dhpo.callbacks.early_stopping",
    "LiveFrontCallback": "dhpo.callbacks.live_front",
    "LoggerCallback": "dhpo.callbacks.log",
    "MLflowCallback": "dhpo.callbacks.mlflow",
    "TensorBoardCallback": "dhpo.callbacks.tensorboard",
    "TqdmCallback": "dhpo.callbacks.tqdm_bar",
}

__all__ = [
    "Callback",
    "CsvCallback",
    "Decided",
    "EarlyStoppingCallback",
    "Ended",
    "Finished",
    "LiveFrontCallback",
    "LoggerCallback",
    "Lost",
    "MLflowCallback",
    "Proposed",
    "Reported",
    "Saved",
    "SearchInfo",
    "StopSearch",
    "TensorBoardCallback",
    "TqdmCallback",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dhpo.callbacks' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
