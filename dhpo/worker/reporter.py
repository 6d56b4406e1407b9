"""``report``: what a run function calls to tell how it gets on, and to learn whether to go on."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from dhpo.errors import AbandonedTrial, ReportError, StopTrial
from dhpo.events import Start
from dhpo.objectives import Objectives
from dhpo.trial import Configuration, Decision, Due
from dhpo.walltime import Horizon, Stint
from dhpo.worker.job import Job
from dhpo.worker.values import check_objectives, plain_mapping


class Record(NamedTuple):
    """One report on its way from a trial to the driver."""

    trial: int
    attempt: int
    index: int  # type: ignore[assignment]
    resource: float
    values: dict[str, Any]
    seconds: float = 0.0  # since the report before, or since the run began
    units: float = 0.0  # of resource, in that time


class Channel(Protocol):
    """How a trial's records reach the driver."""

    @property
    def horizon(self) -> Horizon | None:
        """When this run of the trial has to have ended, if that is known. It may come nearer while the trial runs."""

    @property
    def unit(self) -> float:
        """Seconds that a unit of resource takes in this search; 0 where nothing was measured yet."""

    def send(self, record: Record) -> None:
        """Pass a report on, at leisure. Raises AbandonedTrial where this run of the trial no longer counts."""

    def ask(self, record: Record) -> Decision:
        """Pass a report on at once and wait for the decision. Raises AbandonedTrial as :meth:`send` does."""


class TrialTimeout(StopTrial):
    """Raised by ``report`` when the trial has run longer than it may."""


class Reporter:
    """The ``report`` argument of a run function.

    Call it with keyword arguments, ``report(epoch=3, accuracy=0.9)``, or with one mapping: every objective and the
    search's ``time_attr`` must be there, anything else is kept in the training history. It returns at once, except at
    a rung, where it waits for the decision; when the trial is to end, or to pause, it raises
    :class:`dhpo.errors.StopTrial`.

    ``resume_from`` is the resource that earlier attempts of this trial have reached, 0 in the first one. A run function
    that finds its checkpoint goes on from there; any other begins anew, and what it reports up to the rung at which it
    was paused is left out.

    Where the end of the worker's job is known, ``time_left`` and ``should_checkpoint`` tell of it. A run function need
    not ask: when what comes next is not expected to fit into the rest, ``report`` raises, and the trial goes on
    elsewhere. One that saves its checkpoints rarely saves one whenever ``should_checkpoint`` is true, *before* it
    reports::

        if report.should_checkpoint:
            save(report.checkpoint_dir / "model", epoch)
        report(epoch=epoch, accuracy=accuracy)
    """

    def __init__(self, job: Job, start: Start, channel: Channel, config: Configuration) -> None:
        self.config = config
        self.trial = start.trial
        self.attempt = start.attempt
        self.index = 0
        self.resource = 0.0  # of the last report
        self.failure: ReportError | None = None
        self.ending: type[StopTrial] | None = None  # how the trial was told to end, once it was
        self.stopped = False  # by a decision at a rung
        self.paused = False  # … that may be taken back later
        self.resume_from = start.resume_from
        self._job = job
        self._channel = channel
        self._due = Due(start.milestones, start.every)
        self._skip_to = start.skip_to
        self._max_t = start.max_t
        self._began = self._last = time.monotonic()
        self._stint = Stint(start, channel.unit)
        self._answered: bool | None = None  # what should_checkpoint said last
        self._checkpoint_dir: Path | None = None

    @property
    def checkpoint_dir(self) -> Path:
        """This trial's own folder for checkpoints: the same one when the trial is started again. Made on first use."""
        if self._checkpoint_dir is None:
            if self._job.checkpoint_root is None:
                self._checkpoint_dir = Path(tempfile.mkdtemp(prefix=f"dhpo-trial-{self.trial}-"))
            else:
                self._checkpoint_dir = Path(self._job.checkpoint_root) / f"trial-{self.trial}"
                self._checkpoint_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._checkpoint_dir

    @property
    def temporary_dir(self) -> Path | None:
        """The checkpoint folder, if it was made and is not kept beyond this run of the trial."""
        return self._checkpoint_dir if self._job.checkpoint_root is None else None

    @property
    def time_attr(self) -> str | None:
        """The reported metric that is the resource; None where the reports are counted."""
        return self._job.time_attr

    @property
    def objectives(self) -> Objectives:
        """What each report must hold."""
        return self._job.objectives

    @property
    def ends_at(self) -> float | None:
        """The unix time (seconds) at which this run of the trial has to have ended; None where nothing is known."""
        return None if (horizon := self._channel.horizon) is None else horizon.ends_at

    @property
    def time_left(self) -> float | None:
        """Seconds until the end of the worker's job, or of the driver's where that is earlier; None where unlimited."""
        return None if (end := self.ends_at) is None else max(0.0, end - time.time())

    @property
    def should_checkpoint(self) -> bool:
        """Whether to save a checkpoint now, since the trial may have to leave its worker at the next report.

        True when the end is nearer than a unit of resource and a margin take, or when the next report is at a rung and
        the way from there to the next rung does not fit into the rest.
        """
        horizon = self._channel.horizon
        since = time.monotonic() - self._last
        self._answered = horizon is not None and self._stint.ends_soon(horizon.left(time.time()), horizon.life, since)
        return self._answered

    def check(self) -> None:
        """Make sure, between reports, that this run of the trial is to go on; for what can be ended at any moment.

        Raises:
            StopTrial: it has run longer than it may, no longer counts, or its worker is at its end.
        """
        if self.ending is not None:
            raise self.ending
        try:
            self._check_time()
            grace = getattr(self._channel, "grace", None)  # a trial in a process of its own is killed from outside
            horizon = self._channel.horizon
            if (grace is not None and grace() is not None) or (horizon is not None and not self.time_left):
                raise AbandonedTrial
        except StopTrial as stop:
            self.ending = type(stop)
            raise

    def __call__(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Report values.

        Raises:
            ReportError: an objective or the ``time_attr`` is missing or unusable: the trial fails.
            StopTrial: the trial is to end now. Let it pass, after saving what should be saved.
        """
        if self.ending is not None:
            raise self.ending
        if self.failure is not None:
            raise self.failure
        try:
            if values is not None and not isinstance(values, Mapping):
                raise ReportError(f"report({values!r}): give names, report(epoch=1, accuracy=0.9), or one mapping")
            record = self._record({**values, **more} if values is not None else more)
        except ReportError as error:
            self.failure = error
            raise
        self._pass_on(record)

    def _record(self, values: Mapping[str, Any]) -> Record:
        flat = plain_mapping(values, "report()")
        check_objectives(flat, self._job.objectives, "report()")
        index = self.index + 1
        time_attr = self._job.time_attr
        if time_attr is None:
            resource: float = index
        elif time_attr not in flat:
            raise ReportError(f"report() lacks {time_attr!r}, the time_attr; it has {list(flat)}")
        else:
            resource = flat[time_attr]
        if not isinstance(resource, int | float) or isinstance(resource, bool) or not 0 < resource < float("inf"):
            raise ReportError(f"report() has {time_attr}={resource!r}: the resource must be a positive number")
        if resource <= self.resource:
            raise ReportError(
                f"report() has {time_attr}={resource!r} after {self.resource!r}: "
                "the resource must grow from report to report"
            )
        seconds = time.monotonic() - self._last
        units = self._stint.reported(resource, seconds, first=not self.resource)
        return Record(self.trial, self.attempt, index, resource, flat, seconds, units)

    def _pass_on(self, record: Record) -> None:
        self.resource = record.resource
        try:
            if record.resource <= self._skip_to:
                self._check_time()
                return
            self.index = record.index
            if self._max_t is not None and record.resource >= self._max_t:
                self._channel.send(record)
                raise StopTrial  # complete: nothing is left to decide
            if at_rung := self._due.at(record.resource):
                decision = self._channel.ask(record)
                self.stopped, self.paused = decision is Decision.STOP, decision is Decision.PAUSE
                if self.stopped or self.paused:
                    raise StopTrial
            else:
                self._channel.send(record)
            self._check_time()
            self._check_end(at_rung)
        except StopTrial as stop:
            self.ending = type(stop)
            raise
        finally:
            self._last = time.monotonic()  # what a decision takes is no training

    def _check_time(self) -> None:
        limit = self._job.trial_timeout
        if limit is not None and time.monotonic() - self._began > limit:
            raise TrialTimeout

    def _check_end(self, at_rung: bool) -> None:
        """Have the trial leave, where what comes next does not fit.

        One that was told last that there was time, and relies on that, has no checkpoint: it gets another step.
        """
        horizon = self._channel.horizon
        if horizon is None or self._answered is False:
            return
        if not self._stint.goes_on(horizon.left(time.time()), horizon.life, at_rung=at_rung):
            raise AbandonedTrial

    def __repr__(self) -> str:
        return f"<report of trial {self.trial}, attempt {self.attempt}, at resource {self.resource:g}>"


def worker_name() -> str:
    """How this process is named where nothing better is known."""
    return f"{os.uname().nodename}-{os.getpid()}"


__all__ = ["AbandonedTrial", "Channel", "Record", "Reporter", "TrialTimeout", "worker_name"]
