"""``results.csv``: a table of the ended trials that is there to look at while a search runs."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from dhpo._blocks import Block
from dhpo._frame import Columns, added_columns
from dhpo._trials import TrialFold
from dhpo.events import Event
from dhpo.objectives import Objectives
from dhpo.trial import Status

_CHUNK = 1000

logger = logging.getLogger(__name__)


class LiveCsv:
    """Keeps a CSV file in step with a search: one row for each ended trial, as in ``Results.to_frame``.

    Paused trials may go on; they get their rows when the file is closed.

    It is a convenience, the journal is the truth: where the file cannot be written, a warning is logged and the search
    goes on without it.

    Args:
        path: the file; written anew at once, whatever it held.
        hyperparameters: the names of the space's hyperparameters, in order.
        objectives: the objectives of the search.
        blocks: what happened so far, as a journal has it.
    """

    def __init__(
        self,
        path: Path | str,
        hyperparameters: Sequence[str],
        objectives: Objectives,
        blocks: Iterable[Block] = (),
    ) -> None:
        self.path = Path(path)
        self._fold = TrialFold(objectives)
        self._columns = Columns(hyperparameters, objectives)
        self._names = list(self._columns.names)
        self._file: TextIO | None = None
        try:
            self._rebuild(blocks)
        except OSError as error:
            self._give_up(error)

    def __call__(self, events: Sequence[Event], study: object) -> None:
        """The same as :meth:`update`, as the loop calls those who watch it."""
        self.update(events)

    def update(self, events: Sequence[Event]) -> None:
        """Add a row for each trial that these events end."""
        rows = [self._columns.row(record) for record in self._fold.fold(iter([list(events)]))]
        if not rows or self._file is None:
            return
        good = os.fstat(self._file.fileno()).st_size
        try:
            if added := added_columns(rows, self._names):
                self._names += added
                self._replace(_widened(self.path, self._names), self.path)
            self._write(rows)
        except OSError as error:
            self._give_up(error, good)

    def close(self) -> None:
        """Add the trials that rest at a rung, and close the file. Closing twice does no harm."""
        paused = [r for r in self._fold.running.values() if r.status is Status.PAUSED]
        if self._file is None:
            return
        try:
            self._write(map(self._columns.row, paused))
            self._file.close()
            self._file = None
        except OSError as error:
            self._give_up(error)

    def _rebuild(self, blocks: Iterable[Block]) -> None:
        temporary = self.path.with_name(f".{self.path.name}.new")
        records = self._fold.fold_blocks(blocks)
        self._file = open(temporary, "w", newline="", encoding="utf-8")  # noqa: SIM115 (kept open)
        csv.writer(self._file, lineterminator="\n").writerow(self._names)
        while rows := [self._columns.row(record) for record in islice(records, _CHUNK)]:
            if added := added_columns(rows, self._names):
                self._names += added
                self._file.flush()
                self._replace(_widened(temporary, self._names), temporary)
            self._write(rows)
        self._file.flush()
        os.replace(temporary, self.path)

    def _replace(self, new: Path, path: Path) -> None:
        """Let a new file take the place of the one that is open."""
        os.replace(new, path)
        if self._file is not None:
            self._file.close()
        self._file = open(path, "a", newline="", encoding="utf-8")  # noqa: SIM115 (kept open)

    def _write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        assert self._file is not None
        writer = csv.writer(self._file, lineterminator="\n")
        writer.writerows([_cell(row.get(name)) for name in self._names] for row in rows)
        self._file.flush()

    def _give_up(self, error: OSError, good: int | None = None) -> None:
        file, self._file = self._file, None
        logger.warning("%s is no longer kept up to date: %s. The journal is not concerned", self.path, error.strerror)
        if file is None:
            return
        try:
            if good is not None:
                os.ftruncate(file.fileno(), good)
            file.close()
        except OSError:
            logger.debug("closing %s failed", self.path, exc_info=True)


def _widened(path: Path, names: Sequence[str]) -> Path:
    """Copy a table with more columns, empty so far, to a file beside it."""
    wide = path.with_name(f".{path.name}.wide")
    with (
        open(path, newline="", encoding="utf-8") as source,
        open(wide, "w", newline="", encoding="utf-8") as target,
    ):
        writer = csv.writer(target, lineterminator="\n")
        reader = csv.reader(source)
        padding = [""] * (len(names) - len(next(reader)))
        writer.writerow(names)
        writer.writerows([*row, *padding] for row in reader)
    return wide


def _cell(value: Any) -> Any:
    return "" if value is None or value != value else value
