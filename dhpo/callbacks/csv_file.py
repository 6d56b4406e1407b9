"""Every report and every end as a row of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from dhpo.callbacks.base import Callback, Ended, Finished, Reported, SearchInfo

_FIXED = ("time", "trial", "attempt", "status", "resource")


class CsvCallback(Callback):
    """Writes a row for each report (with an empty ``status``) and for each end of a trial, as they come.

    The columns are ``time``, ``trial``, ``attempt``, ``status``, ``resource``, the objectives, and what else was
    reported. A name that comes up later becomes a column then: the file is written anew, once for each such name. A
    search that goes on appends. (The table of trials, ``results.csv`` in the search's directory, is there without it.)

    Args:
        path: the file; ``reports.csv`` in the search's directory, or here where it has none, by default.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = None if path is None else Path(path)
        self._columns: list[str] = []
        self._file: IO[str] | None = None
        self._at = Path()

    def on_start(self, search: SearchInfo) -> None:
        """Open the file."""
        self._at = self.path or (search.directory or Path()) / "reports.csv"
        self._at.parent.mkdir(parents=True, exist_ok=True)
        self._columns = _header(self._at)
        self._file = self._at.open("a", newline="", encoding="utf-8")
        self._widen([*_FIXED, *search.objectives])

    def on_report(self, report: Reported) -> None:
        """Write a row."""
        fixed = (report.time, report.trial, report.attempt, "", report.resource)
        self._write(dict(zip(_FIXED, fixed, strict=True)), report.values)

    def on_end(self, trial: Ended) -> None:
        """Write a row."""
        resource = "" if trial.resource is None else trial.resource
        fixed = (trial.time, trial.trial, trial.attempt, trial.status.value, resource)
        self._write(dict(zip(_FIXED, fixed, strict=True)), trial.values or {})

    def on_finish(self, search: Finished) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, fixed: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        row = {**values, **fixed}
        self._widen(row)
        csv.writer(self._file).writerow([row.get(name, "") for name in self._columns])
        self._file.flush()

    def _widen(self, names: Any) -> None:
        """Make sure that these are columns."""
        assert self._file is not None
        fresh = [name for name in names if name not in self._columns]
        if not fresh:
            return
        self._file.close()
        with self._at.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
        self._columns += fresh
        self._file = self._at.open("w", newline="", encoding="utf-8")
        csv.writer(self._file).writerows([self._columns, *([*row, *[""] * len(fresh)] for row in rows)])
        self._file.flush()


def _header(path: Path) -> list[str]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])
