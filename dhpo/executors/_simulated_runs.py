"""The runs of a simulation: what each attempt of a trial reports, how long that takes, and what still fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, NamedTuple

from dhpo.errors import SettingError
from dhpo.events import Start
from dhpo.executors._outlook import Outlook
from dhpo.executors._simulated_workers import Worker
from dhpo.trial import Decision, Due
from dhpo.walltime import Horizon, Stint, fits
from dhpo.worker.job import Job
from dhpo.worker.reporter import Record
from dhpo.worker.runner import End, run_trial

Seconds = Callable[[Mapping[str, Any], Mapping[str, Any]], float]


@dataclass(slots=True, eq=False)
class Run:
    """One attempt of a trial: what it will report, and how far it is."""

    start: Start
    worker: Worker | None = None
    began: float = 0.0
    records: list[Record] = field(default_factory=list)
    end: End | None = None
    due: Due | None = None
    stint: Stint | None = None  # where its worker's end is known
    next: int = 0
    waiting: int = 0  # the index of the report that waits for a decision
    since: float = 0.0  # when the last step, or the waiting, began
    spent: float = 0.0  # seconds of training
    kept: float = 0.0  # of these, up to the last report that has left the worker
    over: bool = False


class News(NamedTuple):
    """What the driver is told: of reports, of an end, of a loss, or of slots."""

    run: Run | None = None
    records: tuple[Record, ...] = ()
    asks: bool = False  # the last record waits for a decision
    ended: bool = False
    lost: str | None = None  # the name of the worker; "" where nobody is to blame
    slots: int = 0  # so many more


class _Recorder:
    """A channel that only takes down what a trial reports."""

    horizon: Horizon | None = None  # what has to leave is seen to when its reports are played
    unit = 0.0

    def __init__(self) -> None:
        self.records: list[Record] = []

    def send(self, record: Record) -> None:
        self.records.append(record)

    def ask(self, record: Record) -> Decision:
        self.records.append(record)
        return Decision.CONTINUE


@dataclass(frozen=True, slots=True)
class Play:
    """What is run, and how long it takes.

    Args:
        job: what all trials have in common.
        function: the run function.
        data: its data.
        seconds: see :class:`dhpo.executors.simulated.Simulated`.
        checkpoints: likewise.
    """

    job: Job
    function: Callable[..., Any]
    data: Any
    seconds: str | Seconds
    checkpoints: bool

    def record(self, run: Run, name: str) -> None:
        """Call the run function, and take down what it reports."""
        recorder, start = _Recorder(), run.start
        run.end = run_trial(self.function, self.data, self.job, start, recorder, name)
        known = start.resume_from if self.checkpoints else 0
        run.records = [record for record in recorder.records if record.resource > known]
        run.due = Due(start.milestones, start.every)

    def took(self, run: Run) -> float:
        """Seconds until the run's next report, or until its end."""
        assert run.end is not None
        values: Mapping[str, Any]
        if run.next < len(run.records):
            values = run.records[run.next].values
        elif run.end.index:  # it reported: what comes after the last report takes no time
            return 0.0
        else:
            values = {**(run.end.values or {}), **run.end.metadata}
        seconds = self.seconds(run.start.config, values) if callable(self.seconds) else values.get(self.seconds)
        if not isinstance(seconds, int | float) or not isfinite(seconds) or seconds < 0:
            if not values:  # a failure: it took no time that is known
                return 0.0
            raise SettingError(
                f"Simulated(seconds={self.seconds!r}) gives {seconds!r} for {dict(values)}: report how long each step "
                "took under that name, or give a function of the configuration and the values"
            )
        return float(seconds)


class Forecast:
    """How long trials take, as the relay knows it; looked at every so many reports only, since that takes time."""

    _EVERY = 64

    def __init__(self) -> None:
        self._outlook = Outlook()
        self._news = 0
        self.unit = 0.0
        self.need = 0.0

    def begun(self, start: Start) -> None:
        """A trial was begun."""
        self._outlook.begun(start)

    def reported(self, record: Record) -> None:
        """A trial has reported."""
        self._outlook.reported(record)
        self._look()

    def ended(self, end: End) -> None:
        """A trial has ended."""
        self._outlook.ended(end.trial, end)
        self._look()

    def _look(self) -> None:
        self._news += 1
        if self._news < 2 * self._EVERY or self._news % self._EVERY == 0:
            self.unit, self.need = self._outlook.unit, self._outlook.need

    def has_time(self, worker: Worker, start: Start | None, now: float) -> bool:
        """Whether a trial, or a new one (None), would come to its next rung on this worker."""
        need = self.need if start is None or not start.resume_from else self._outlook.durations.need(start)
        return fits(need, self.unit, worker.ends_at - now, worker.life)
