"""What came out of a search: a view of its journal."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from dhpo import journal
from dhpo._blocks import Block, blocks_of
from dhpo._collector import collector_at_rest
from dhpo._frame import Columns, failure_reason, to_frame
from dhpo._front import contenders, front_point, front_rows, retrieve_pareto_front
from dhpo._html import pairs, shown
from dhpo._points import PointFold, Points
from dhpo._progress import as_costs, column_of, hypervolumes, incumbents
from dhpo._trials import TrialRecord
from dhpo.errors import DhpoError, SpaceError
from dhpo.events import Event, TrialReported
from dhpo.objectives import Objectives
from dhpo.space import HpProblem
from dhpo.trial import Status

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BestPoint", "Results", "retrieve_pareto_front"]


class BestPoint(NamedTuple):
    """The best that a search has seen."""

    trial: int
    config: Mapping[str, Any]
    resource: float | None  # at which it was reported; None for what a trial returned without reporting
    values: dict[str, float]  # the objectives, as the user has them

    def _repr_html_(self) -> str:
        at = {} if self.resource is None else {"at": self.resource}
        return pairs({**self.config, **self.values, **at}, f"Trial {self.trial}")


class Results:
    """The results of a search, finished or running, read from its journal at the first use.

    Args:
        settings: of the journal's header; ``objectives`` and ``problem`` are used.
        events: gives the batches of events from the beginning, each time it is called.
        directory: the directory of the search, where it has one.
        blocks: gives the same events by the block; made of ``events`` unless given.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        events: Callable[[], Iterable[list[Event]]],
        directory: Path | str | None = None,
        blocks: Callable[[], Iterable[Block]] | None = None,
    ) -> None:
        self.objectives = Objectives.parse(settings.get("objectives"))
        self.directory = None if directory is None else Path(directory)
        self._settings = settings
        self._events = events
        self._blocks = blocks or (lambda: blocks_of(events(), self.objectives.names))

    @classmethod
    def load(cls, directory: Path | str) -> Results:
        """Read the results of a search from its directory (``log_dir``), also while it is running.

        Raises:
            JournalError: there is no journal, or it cannot be read.
        """
        header, _ = journal.read(directory)
        return cls(
            header.settings, lambda: journal.read(directory)[1], directory, lambda: journal.read_blocks(directory)[1]
        )

    @classmethod
    def of(cls, source: journal.Journal) -> Results:
        """The results of a search whose journal is at hand."""
        return cls(source.header.settings, source.replay, blocks=source.blocks)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the search was made with, as its journal keeps it."""
        return self._settings

    @cached_property
    def problem(self) -> HpProblem | None:
        """The search space, without its constraints; None where this release cannot read it."""
        try:
            return HpProblem.from_json(self._settings["problem"])
        except (KeyError, SpaceError):
            return None

    @property
    def plot(self) -> Any:
        """The figures of :mod:`dhpo.plots` for these results, such as ``results.plot.front()``."""
        # The figures are a view of results, one floor above; as with the names of dhpo itself, it is found on demand.
        return import_module("dhpo.plots").Plot(self)

    def events(self) -> Iterable[list[Event]]:
        """What happened, in batches, from the beginning."""
        return self._events()

    def blocks(self) -> Iterable[Block]:
        """The same by the block (see ``dhpo/_blocks.py``): of what was reported, the objectives only."""
        return self._blocks()

    def records(self) -> list[TrialRecord]:
        """All trials: those that have ended in the order of their ends, then those that run or are paused."""
        return list(self._records.values())

    @cached_property
    def points(self) -> Points:
        """All that was reported or returned, as columns."""
        return self.folded.points()

    def to_frame(self) -> pd.DataFrame:
        """One row for each trial, with DeepHyper's columns.

        ``p:<hyperparameter>`` (NaN where inactive), ``objective`` (or ``objective_0``, … in the order of the
        objectives), ``job_id`` (the trial's number), ``job_status`` (DONE, RUNNING, CANCELLED, PAUSED),
        ``m:timestamp_submit``, ``_gather``, ``_start``, ``_end`` (seconds of the search's clock), ``m:worker``,
        ``m:attempt``, ``m:resource`` (the last one reported), ``m:bracket``, ``m:stopped`` (early, by the stopper, for
        good or paused), ``m:<metadata>``, and, for several objectives, ``pareto_efficient``. Trials come in the order
        of their ends, those that run or are paused at last. Where known results were added, ``m:origin`` is "known" for
        them; they have no worker, and all their times are that of their addition.

        An objective is what the trial returned, else what it reported last, with the user's own sign; a failed
        trial has ``"F_<reason>"`` there, and the column then is of the type object.
        """
        return to_frame(self._rows(), self._columns)

    @property
    def training_history(self) -> OrderedDict[str, list[dict[str, Any]]]:
        """For each trial (its number as text) everything that it reported, in order, and its ``bracket``.

        What a trial returned is its last entry where its last report was not the same. The entry at which the stopper
        ended a trial has ``"terminated": True``. Trials without an entry are left out.
        """
        points, records = self.points, self._records
        wanted = np.zeros(max(points.ordinal, default=-1) + 1, dtype=bool)
        wanted[points.ordinal[points.ordinal >= 0]] = True
        history: dict[int, list[dict[str, Any]]] = {trial: [] for trial in np.unique(points.trial).tolist()}
        reports = (e for batch in self._events() for e in batch if type(e) is TrialReported)
        for event, is_wanted in zip(reports, wanted.tolist(), strict=False):
            if is_wanted:
                history[event.trial].append({**event.values, "bracket": records[event.trial].bracket})
        for trial in points.trial[points.ordinal < 0].tolist():
            history[trial].append({**(records[trial].returned or {}), "bracket": records[trial].bracket})
        for trial, entries in history.items():
            if records[trial].status is Status.STOPPED:
                entries[-1]["terminated"] = True
        return OrderedDict((str(trial), entries) for trial, entries in history.items())

    @property
    def config_history(self) -> dict[str, dict[str, Any]]:
        """The configuration of each trial (its number as text)."""
        return {str(number): dict(record.config) for number, record in sorted(self._records.items())}

    def pareto_front(
        self, *, strict: bool = False, unique: bool = False, final_only: bool = False, resource: bool = False
    ) -> list[dict[str, Any]]:
        """The best trade-offs: ``retrieve_pareto_front(results.training_history, objectives)``, but faster.

        Args:
            strict: also drop a point when another is as good in all objectives and better in one.
            unique: of equal points, keep the first only.
            final_only: let only the last report of each trial compete.
            resource: give the resource of each point (such as its epoch), not the number of its report.
        """
        points = self._contenders(final_only)
        rows = points.last_rows() if final_only else np.arange(len(points))
        rows = rows[front_rows(points.costs[rows], strict=strict, unique=unique)]
        places: list[Any] = [_plain(r) for r in points.resource[rows]] if resource else points.index[rows].tolist()
        return [
            front_point(str(points.trial[row]), place, points.costs[row], self.objectives)
            for row, place in zip(rows, places, strict=True)
        ]

    def best(self, objective: str | None = None) -> BestPoint | None:
        """The best of all that was reported or returned; of equal ones, what came first. None when there is nothing.

        Args:
            objective: which objective; needed when there are several.

        Raises:
            ObjectiveError: the objective is unknown, or there are several and none is named.
        """
        found = self.folded.best(column_of(self.objectives, objective))
        if found is None:
            return None
        trial, resource, costs = found
        values = self.objectives.values(costs)
        return BestPoint(trial, dict(self._records[trial].config), _plain(resource), values)

    def incumbents(self, objective: str | None = None) -> pd.DataFrame:
        """How the best so far improved: ``time``, ``n_trials``, ``trial``, ``resource``, ``value``.

        ``time`` is in seconds of the search's clock, ``n_trials`` counts the trials that had shown a value by then,
        those among them that were added with their results.

        Args:
            objective: which objective; needed when there are several.

        Raises:
            ObjectiveError: the objective is unknown, or there are several and none is named.
        """
        return incumbents(self.folded.arrivals(), self.objectives, column_of(self.objectives, objective))

    def hypervolume(self, reference: Mapping[str, float] | Sequence[float] | None = None) -> pd.DataFrame:
        """How the hypervolume of the front grew: ``time``, ``n_trials`` (as in :meth:`incumbents`), ``hypervolume``.

        Args:
            reference: the point, in the objectives' own values, that all that counts has to beat. By default a tenth
                of each objective's range worse than the worst value seen; it moves as results come in, so give one to
                compare searches.

        Raises:
            ObjectiveError: there is one objective only, or the reference does not fit the objectives.
        """
        costs = None if reference is None else as_costs(reference, self.objectives)
        return hypervolumes(self.folded.arrivals(), self.objectives, costs)

    def failures(self) -> pd.DataFrame:
        """The failed and timed-out trials, in the order of their ends, with what went wrong."""
        import pandas as pd

        columns = ["trial", "status", "reason", "error", "traceback", "attempt", "worker", "time"]
        rows = [
            (r.number, r.status.value, failure_reason(r), r.error, r.traceback, r.attempt, r.worker, r.gathered)
            for r in self.folded.ended
            if r.failed
        ]
        return pd.DataFrame(rows, columns=columns)

    def values_by_trial(self) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """For each trial the resources (NaN where it did not report) and the objectives, (reports, objectives)."""
        return self._values(self.points)

    def values_of(self, trials: NDArray[np.int64]) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """:meth:`values_by_trial` of some trials, without sorting the points of the others."""
        return self._values(self.folded.points_of(trials))

    def _values(self, points: Points) -> dict[int, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        values = points.costs * np.array(self.objectives.signs)
        ends = (points.last_rows() + 1).tolist()
        return {
            int(points.trial[begin]): (points.resource[begin:end], values[begin:end])
            for begin, end in zip([0, *ends], ends, strict=False)
        }

    def statuses(self) -> dict[int, Status]:
        """Where each trial stands."""
        return {number: record.status for number, record in sorted(self._records.items())}

    def known(self) -> list[int]:
        """The trials that were added with their results (see :meth:`dhpo.Search.add_results`), and not run."""
        return sorted(number for number, record in self._records.items() if record.known)

    @property
    def resource_name(self) -> str:
        """The reported metric that is the resource, or "report" where the reports are counted."""
        stopper = self._settings.get("stopper") or {}
        return stopper.get("time_attr") or "report"

    @property
    def n_with_values(self) -> int:
        """How many trials have shown a value."""
        return sum(record.values is not None for record in self._records.values())

    @property
    def last_time(self) -> float:
        """The search's clock at the last result, in seconds."""
        return float(self.folded.arrivals().time.max(initial=0.0))

    def to_csv(self, path: Path | str) -> None:
        """Write :meth:`to_frame` as CSV."""
        self.to_frame().to_csv(path, index=False)

    def to_json(self, path: Path | str) -> None:
        """Write :meth:`to_frame` as a JSON array with an object for each trial; null stands for NaN."""
        rows = self.to_frame().to_dict("records")
        Path(path).write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY, default=str))

    def to_parquet(self, path: Path | str) -> None:
        """Write :meth:`to_frame` as Parquet, where a column has one type.

        The objectives of failed trials are NaN and their reason stands in ``m:failure``; metadata of mixed types
        become JSON text.

        Raises:
            DhpoError: pyarrow is not installed.
        """
        import pandas as pd

        frame = self.to_frame()
        goals = frame[self._columns.goals]
        first = goals.iloc[:, 0]
        frame["m:failure"] = first.where(first.map(lambda cell: isinstance(cell, str)), None).astype("string")
        frame[self._columns.goals] = goals.apply(pd.to_numeric, errors="coerce")
        for name in frame.columns:
            if frame[name].dtype == object:
                frame[name] = frame[name].map(_as_text)
        try:
            frame.to_parquet(path, engine="pyarrow", index=False)
        except ImportError as error:
            raise DhpoError("writing Parquet needs pyarrow: pip install 'dhpo[parquet]'") from error

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        counts = dict.fromkeys(Status, 0)
        for record in self._records.values():
            counts[record.status] += 1
        shown = ", ".join(f"{n} {status.value.lower().replace('_', ' ')}" for status, n in counts.items() if n)
        n_known = len(self.known())
        text = f"{len(self)} trials" + (f", {n_known} known" if n_known else "") + (f": {shown}" if shown else "")
        if not self.objectives.single:
            return f"<Results: {text}; {len(self.pareto_front(strict=True, unique=True))} points in the front>"
        best = self.best()
        name = self.objectives.names[0]
        return f"<Results: {text}" + (f"; best {name} {best.values[name]:.6g} in trial {best.trial}>" if best else ">")

    def _repr_html_(self) -> str:
        title = repr(self).strip("<>")
        table: str = self.to_frame().to_html(max_rows=10, max_cols=20, index=False)
        return f"<p>{shown(title)}</p>{table}"

    @cached_property
    def folded(self) -> PointFold:
        """What the events were folded into: for what shows results in other forms."""
        folded = PointFold(self.objectives)
        with collector_at_rest():
            folded.extend_blocks(self._blocks())
        return folded

    def _contenders(self, final_only: bool) -> Points:
        """The points of the trials that the front may have points of."""
        found = self.folded.arrivals()
        rows = np.arange(len(found.trial))
        if final_only:
            rows = np.sort(len(rows) - 1 - np.unique(found.trial[::-1], return_index=True)[1])
        rows = rows[contenders(found.costs[rows])]
        return self.folded.points_of(np.unique(found.trial[rows]))

    @cached_property
    def _records(self) -> dict[int, TrialRecord]:
        return {record.number: record for record in (*self.folded.ended, *self.folded.fold.running.values())}

    @cached_property
    def _columns(self) -> Columns:
        problem = self._settings.get("problem") or {}
        names = problem.get("names") or dict.fromkeys(name for r in self._records.values() for name in r.config)
        return Columns(tuple(names), self.objectives)

    def _rows(self) -> list[dict[str, Any]]:
        fold = self.folded.fold
        rows = [self._columns.row(record) for record in self.folded.ended]
        return rows + [self._columns.row(record, cancelled=fold.finished) for record in fold.running.values()]


def _plain(resource: float) -> float | int | None:
    if np.isnan(resource):
        return None
    return int(resource) if float(resource).is_integer() else float(resource)


def _as_text(cell: Any) -> str | None:
    if cell is None or (isinstance(cell, float) and np.isnan(cell)):
        return None
    return cell if isinstance(cell, str) else orjson.dumps(cell, default=str).decode()
