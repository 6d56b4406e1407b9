"""``run.json``: what ``dhpo run`` was started with, for ``dhpo resume`` and ``dhpo status``."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import orjson

from dhpo.errors import DhpoError

#: The record's name within the directory of its search.
FILE_NAME = "run.json"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What one ``dhpo run`` was started with.

    Args:
        file: the absolute path of the Python file.
        name: of the Search object in it.
        cwd: the working directory.
        num_trials: the budget of trials, if any.
        time_out: the budget of time for each run, as it was typed.
        stop_at: the goals, as they were typed.
        patience: the budget of trials without an improvement.
    """

    file: str
    name: str
    cwd: str
    num_trials: int | None = None
    time_out: str | None = None
    stop_at: tuple[str, ...] = ()
    patience: int | None = None

    @classmethod
    def read(cls, directory: Path) -> RunRecord | None:
        """The record of a directory; None where there is none.

        Raises:
            DhpoError: it cannot be read.
        """
        path = directory / FILE_NAME
        try:
            content = orjson.loads(path.read_bytes())
            known = {field.name: content[field.name] for field in fields(cls) if field.name in content}
            return cls(**(known | {"stop_at": tuple(known.get("stop_at", ()))}))._checked()
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, OSError) as error:
            raise DhpoError(
                f"{path} cannot be read ({error}): remove it; `dhpo run FILE.py --log-dir {directory}` writes it anew"
            ) from error

    def _checked(self) -> RunRecord:
        texts = (self.file, self.name, self.cwd, *self.stop_at, *([] if self.time_out is None else [self.time_out]))
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a text is none")
        for number in (self.num_trials, self.patience):
            if number is not None and (type(number) is not int or number < 1):
                raise ValueError(f"{number!r} is no number of trials")
        return self

    def write(self, directory: Path) -> None:
        """Write the record, at once as a whole."""
        path = directory / FILE_NAME
        new = directory / f".{FILE_NAME}.new"
        new.write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        os.replace(new, path)

    def overridden(
        self, num_trials: int | None, time_out: str | None, stop_at: tuple[str, ...], patience: int | None
    ) -> RunRecord:
        """The record with those budgets changed that are given."""
        return replace(
            self,
            num_trials=self.num_trials if num_trials is None else num_trials,
            time_out=self.time_out if time_out is None else time_out,
            stop_at=stop_at or self.stop_at,
            patience=self.patience if patience is None else patience,
        )

    @property
    def has_budget(self) -> bool:
        """Whether it says when to end."""
        return self.num_trials is not None or self.time_out is not None or bool(self.stop_at) or bool(self.patience)
