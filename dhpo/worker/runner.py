"""Run one trial: call the run function in its form, follow its reports, and say how it ended."""

from __future__ import annotations

import inspect
import shutil
import time
import traceback
from collections.abc import Callable, Generator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from dhpo.errors import AbandonedTrial, ReportError, StopTrial
from dhpo.events import Start
from dhpo.trial import Configuration
from dhpo.worker.job import Job
from dhpo.worker.reporter import Channel, Reporter, TrialTimeout
from dhpo.worker.values import Returned, read_returned, text

_MAX_TRACEBACK = 20_000


class EndKind(StrEnum):
    """How a run of a trial ended."""

    COMPLETED = "completed"
    PAUSED = "paused"  # at a rung: the trial may go on later
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    ABANDONED = "abandoned"  # this run no longer counts: nothing is said of it


_ENDINGS = {TrialTimeout: EndKind.TIMED_OUT, AbandonedTrial: EndKind.ABANDONED}


class End(NamedTuple):
    """The end of one run of a trial, on its way to the driver. ``started`` and ``ended`` are unix times."""

    trial: int
    attempt: int
    kind: str
    values: dict[str, Any] | None
    metadata: dict[str, Any]
    stopped: bool  # by a decision
    error: str
    traceback: str
    started: float
    ended: float
    worker: str
    index: int  # type: ignore[assignment]  # how many reports came before


def run_trial(function: Callable[..., Any], data: Any, job: Job, start: Start, channel: Channel, worker: str) -> End:
    """Run one trial to its end, whatever happens in the user's code."""
    config = Configuration(start.config)
    reporter = Reporter(job, start, channel, config)
    started = time.time()

    def end(kind: EndKind, returned: Returned | None = None, error: str = "", trace: str = "") -> End:
        values, metadata = (returned.values, returned.metadata) if returned else (None, {})
        return End(
            start.trial, start.attempt, kind.value, values, metadata, reporter.stopped,
            text(error)[:2000], text(trace)[-_MAX_TRACEBACK:], started, time.time(), worker, reporter.index,
        )  # fmt: skip

    def told(ending: type[StopTrial]) -> End:
        return end(_ENDINGS.get(ending, EndKind.PAUSED if reporter.paused else EndKind.COMPLETED))

    try:
        returned = _call(function, data, job, config, reporter)
        if reporter.ending is not None and (reporter.ending in _ENDINGS or reporter.paused):
            return told(reporter.ending)  # the run function swallowed it
        if reporter.failure is not None:  # the run function swallowed it
            raise reporter.failure
        if returned.failure is not None:
            return end(EndKind.FAILED, returned, returned.failure)
        # A later attempt may find in its checkpoint that everything was done and reported.
        if returned.values is None and reporter.index == 0 and start.attempt == 1:
            raise ReportError("the run function returned None without having reported anything")
        return end(EndKind.COMPLETED, returned)
    except StopTrial as stop:
        return told(reporter.ending or type(stop))
    except BaseException as error:  # SystemExit and KeyboardInterrupt in user code are failures of the trial, too
        if reporter.ending is not None:  # what goes wrong after the end was told changes nothing about it
            return told(reporter.ending)
        return end(EndKind.FAILED, None, _one_line(error), _trace(error))
    finally:
        if reporter.temporary_dir is not None:
            shutil.rmtree(reporter.temporary_dir, ignore_errors=True)


def _call(function: Callable[..., Any], data: Any, job: Job, config: Configuration, reporter: Reporter) -> Returned:
    result = job.form.call(function, config=config, report=reporter, data=data)
    if inspect.isgenerator(result):
        result = _drive(result, reporter)
    return read_returned(result, job.objectives)


def _drive(generator: Generator[Any, Any, Any], reporter: Reporter) -> Any:
    """Take each yielded mapping for a report; the generator is closed when the trial is to end."""
    try:
        while True:
            try:
                values = next(generator)
            except StopIteration as stop:
                return stop.value
            if not isinstance(values, Mapping):
                raise ReportError(f"the run function yielded {values!r}: yield a mapping such as {{'epoch': 1, ...}}")
            reporter(values)
    finally:
        generator.close()


def _one_line(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except BaseException:  # whatever it raises, it must not end the worker
        text = "(its message cannot be shown)"
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except BaseException:
        return f"{type(error).__name__} (its traceback cannot be shown)"
