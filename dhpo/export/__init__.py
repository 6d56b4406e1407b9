"""Results in the forms of other tools: tables, an Optuna study, TensorBoard's hyperparameters.

Tables are written by :class:`dhpo.results.Results` itself; here are the forms that need another package, and the choice
of one by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dhpo.errors import SettingError
from dhpo.export.optuna import to_optuna
from dhpo.export.tensorboard import to_tensorboard
from dhpo.results import Results

__all__ = ["FORMATS", "export", "format_of", "to_optuna", "to_tensorboard"]

_WRITERS: dict[str, Callable[[Results, Path], object]] = {
    "csv": Results.to_csv,
    "json": Results.to_json,
    "parquet": Results.to_parquet,
    "optuna": to_optuna,
    "tensorboard": to_tensorboard,
}
FORMATS = tuple(_WRITERS)
_SUFFIXES = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".db": "optuna", ".sqlite3": "optuna",
             ".log": "optuna"}  # fmt: skip


def format_of(path: Path | str) -> str:
    """The format that a file's name stands for.

    Raises:
        SettingError: it stands for none.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise SettingError(f"{str(path)!r} does not tell a format by its name: name one of {', '.join(FORMATS)}")
    return _SUFFIXES[suffix]


def export(results: Results, path: Path | str, format: str | None = None) -> str:
    """Write results to a file or, for TensorBoard, into a directory.

    Args:
        results: of a search.
        path: where to.
        format: one of ``FORMATS``; None: by the name of the file.

    Returns:
        The format.

    Raises:
        SettingError: there is no such format, or the name tells none.
        DhpoError: the format needs a package that is not installed.
    """
    chosen = format_of(path) if format is None else format
    if chosen not in _WRITERS:
        raise SettingError(f"there is no format {chosen!r}: write one of {', '.join(FORMATS)}")
    _WRITERS[chosen](results, Path(path))
    return chosen
