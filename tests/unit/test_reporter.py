"""One trial from call to end: the call forms, ``report``, and every way in which a run function may go wrong."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dhpo.errors import AbandonedTrial, ReportError, RunFunctionError, SettingError, StopTrial
from dhpo.events import Start
from dhpo.objectives import Objectives
from dhpo.trial import Configuration, Decision
from dhpo.walltime import Horizon
from dhpo.worker.isolation import Processes
from dhpo.worker.job import CallForm, Job
from dhpo.worker.package import pack
from dhpo.worker.reporter import Record, Reporter
from dhpo.worker.runner import End, run_trial

DATA = {"X": [1, 2]}


class Channel:
    """Takes records down and answers them as told."""

    horizon: Horizon | None = None
    unit = 0.0

    def __init__(self, *decisions: Decision, abandon_at: int = 0) -> None:
        self.sent: list[Record] = []
        self.asked: list[Record] = []
        self._decisions = list(decisions)
        self._abandon_at = abandon_at

    def send(self, record: Record) -> None:
        if record.index == self._abandon_at:
            raise AbandonedTrial
        self.sent.append(record)

    def ask(self, record: Record) -> Decision:
        self.asked.append(record)
        return self._decisions.pop(0) if self._decisions else Decision.CONTINUE

    def grace(self) -> float | None:
        return None


def run_in(
    isolation: str,
    function: Callable[..., Any],
    channel: Channel | None = None,
    *,
    data: Any = None,
    objectives: Any = None,
    milestones: tuple[float, ...] = (),
    max_t: float | None = None,
    attempt: int = 1,
    started: dict[str, float] | None = None,
    **job: Any,
) -> End:
    form = CallForm.of(function, has_data=data is not None)
    start = Start(7, attempt, {"x": 2.0, "name": "adam"}, milestones, max_t, **(started or {}))
    shared = Job("id", Objectives.parse(objectives), form, isolation=isolation, **job)
    channel = channel or Channel()
    if isolation == "thread":
        return run_trial(function, data, shared, start, channel, "worker")
    with pack(function, data, directory=None) as packed:
        processes = Processes(shared, packed.package, packed.read)
        try:
            return processes.run(start, channel, "worker")
        finally:
            processes.close()


Run = Callable[..., End]


@pytest.fixture(params=["thread", "process"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a trial, and returns its end: in this thread, and in a process of its own."""
    return functools.partial(run_in, request.param)


class Callable3:
    def __call__(self, config: Any, report: Any, data: Any) -> float:
        report(objective=1.0)
        return config.x + len(data["X"])


def keyword_only(config: Any, *, data: Any, reporter: Any, unused: int = 3) -> float:
    reporter(objective=0.0)
    return config["x"] + data["X"][1]


def by_position(c: Any, r: Any, d: Any) -> float:
    r(objective=0.0)
    return c.x + d["X"][1]


def out_of_order(config: Any, data: Any, report: Any) -> float:
    report(objective=0.0)
    return config.x + data["X"][1]


@pytest.mark.parametrize(
    "function",
    [Callable3(), Callable3().__call__, keyword_only, by_position, out_of_order, functools.partial(by_position)],
)
def test_call_forms_with_data(run: Run, function: Any) -> None:
    assert run(function, data=DATA).values == {"objective": 4.0}


@pytest.mark.parametrize(
    "function",
    [
        lambda config: config.x,
        lambda config: config["x"],
        lambda config, report: report(objective=2.0),
        lambda config, *args, **kwargs: dict(**config)["x"],
        lambda *args: args[0].x,
        lambda job, scale=1: job.x * scale,
        functools.partial(lambda scale, config: scale * config.x, 1),
        functools.partial(lambda config, scale: scale * config.x, scale=1),
    ],
)
def test_call_forms(run: Run, function: Any) -> None:
    channel = Channel()
    end = run(function, channel)
    assert end.kind == "completed", end.error
    assert (end.values or {"objective": channel.sent[-1].values["objective"]}) == {"objective": 2.0}


def test_default_parameters_named_report_and_data_are_filled(run: Run) -> None:
    def train(config: Any, scale: float = 2.0, report: Any = None, data: Any = None) -> float:
        report(objective=1.0)
        return scale * data["X"][1]

    assert run(train, data=DATA).values == {"objective": 4.0}


@pytest.mark.parametrize(
    ("function", "has_data", "error", "names"),
    [
        (3, False, RunFunctionError, "3"),
        (lambda: 1.0, False, RunFunctionError, "no configuration"),
        (lambda config, report, data, more: 1.0, True, RunFunctionError, "'more'"),
        (lambda config, *, lr: 1.0, False, RunFunctionError, "'lr'"),
        (lambda config, report, data: 1.0, False, SettingError, "data="),
        (lambda config: 1.0, True, SettingError, "no parameter for it"),
    ],
)
def test_functions_that_cannot_be_called(function: Any, has_data: bool, error: type[Exception], names: str) -> None:
    with pytest.raises(error, match=names):
        CallForm.of(function, has_data=has_data)


def test_a_builtin_without_a_signature_gets_the_configuration() -> None:
    assert CallForm.of(max, has_data=False) == CallForm(("config",))


def counts(last: int) -> Callable[..., None]:
    def train(config: Any, report: Any) -> None:
        for epoch in range(1, last + 1):
            report(epoch=epoch, objective=epoch / 10)

    return train


def test_reports_carry_trial_attempt_index_and_resource(run: Run) -> None:
    channel = Channel()
    end = run(counts(3), channel, time_attr="epoch", attempt=2)
    assert [tuple(r)[:5] for r in channel.sent] == [
        (7, 2, i, i, {"epoch": i, "objective": i / 10}) for i in (1, 2, 3)
    ]  # fmt: skip
    assert [(r.units, 0 <= r.seconds < 60) for r in channel.sent] == [(1, True)] * 3
    assert (end.kind, end.values, end.index, end.attempt, end.stopped) == ("completed", None, 3, 2, False)
    assert end.started <= end.ended


def test_without_a_time_attr_reports_are_counted(run: Run) -> None:
    channel = Channel()
    run(counts(3), channel)
    assert [r.resource for r in channel.sent] == [1, 2, 3]


def test_rungs_ask_and_stop(run: Run) -> None:
    channel = Channel(Decision.CONTINUE, Decision.STOP)
    end = run(counts(50), channel, time_attr="epoch", milestones=(1, 3, 9))
    assert [r.resource for r in channel.asked] == [1, 3]
    assert [r.resource for r in channel.sent] == [2]  # not one epoch beyond the rung at which it was stopped
    assert (end.kind, end.stopped, end.index) == ("completed", True, 3)


def test_max_t_ends_the_trial(run: Run) -> None:
    channel = Channel()
    end = run(counts(50), channel, time_attr="epoch", max_t=4)
    assert len(channel.sent) == 4
    assert (end.kind, end.stopped) == ("completed", False)


def test_a_report_that_leaps_over_milestones_asks_once(run: Run) -> None:
    def train(config: Any, report: Any) -> None:
        for epoch in (4, 5, 10):
            report(epoch=epoch, objective=0.0)

    channel = Channel()
    run(train, channel, time_attr="epoch", milestones=(1, 3, 9))
    assert [r.resource for r in channel.asked] == [4, 10]


def test_a_pause_ends_the_run_but_not_the_trial(run: Run, tmp_path: Any) -> None:
    def saves(config: Any, report: Any) -> None:
        for epoch in range(1, 50):
            try:
                report(epoch=epoch, objective=0.0)
            finally:
                (report.checkpoint_dir / "epoch").write_text(str(epoch))

    channel = Channel(Decision.CONTINUE, Decision.PAUSE)
    end = run(saves, channel, time_attr="epoch", milestones=(1, 3, 9), checkpoint_root=str(tmp_path))
    assert [r.resource for r in (*channel.asked, *channel.sent)] == [1, 3, 2]
    assert (end.kind, end.stopped, end.values, end.index) == ("paused", False, None, 3)
    assert (tmp_path / "trial-7" / "epoch").read_text() == "3"


@pytest.mark.parametrize("result", [5.0, "F_reason", None, "raise"])
def test_a_pause_that_is_swallowed_is_one_all_the_same(run: Run, result: Any) -> None:
    def stubborn(config: Any, report: Any) -> Any:
        with suppress(StopTrial):
            report(epoch=1, objective=0.0)
        if result == "raise":
            raise OSError("the checkpoint cannot be written")
        return result

    end = run(stubborn, Channel(Decision.PAUSE), time_attr="epoch", milestones=(1,))
    assert (end.kind, end.values, end.error) == ("paused", None, "")


def test_a_promoted_trial_is_told_where_it_stands_and_what_is_known_is_left_out(run: Run) -> None:
    def train(config: Any, report: Any) -> None:
        for epoch in range(1, 51):
            report(epoch=epoch, objective=epoch / 10, told=report.resume_from)

    channel = Channel(Decision.PAUSE)
    started = {"resume_from": 4.0, "skip_to": 3.0}
    end = run(train, channel, time_attr="epoch", milestones=(9,), attempt=2, started=started)
    assert {r.values["told"] for r in channel.sent} == {4.0}
    assert [(r.index, r.resource) for r in channel.sent] == [(i, i + 3) for i in range(1, 6)]
    assert [(r.index, r.resource) for r in channel.asked] == [(6, 9)]
    assert (end.kind, end.index) == ("paused", 6)
    end = run_in("thread", train, time_attr="epoch", attempt=2, started=started, trial_timeout=1e-9)
    assert (end.kind, end.index) == ("timed_out", 0)


def test_a_decision_may_be_due_at_every_report(run: Run) -> None:
    channel = Channel(*[Decision.CONTINUE] * 3, Decision.STOP)
    end = run(counts(50), channel, time_attr="epoch", milestones=(1,), started={"every": 4.0})
    assert [r.resource for r in channel.asked] == [1, 4, 5, 6]
    assert [r.resource for r in channel.sent] == [2, 3]
    assert end.stopped


def test_a_stop_that_is_swallowed_is_raised_again(run: Run) -> None:
    def stubborn(config: Any, report: Any) -> Any:
        said = set()
        for epoch in range(1, 10):
            try:
                report(epoch=epoch, objective=0.0)
            except Exception:
                said.add("exception")
            except BaseException as error:
                said.add(type(error).__name__)
        return {"objective": 5.0, "said": said}

    end = run(stubborn, Channel(Decision.STOP), time_attr="epoch", milestones=(1,))
    assert end.metadata == {"said": ["StopTrial"]}
    assert (end.kind, end.stopped, end.index) == ("completed", True, 1)


def test_an_exception_handler_does_not_swallow_the_stop(run: Run) -> None:
    def careless(config: Any, report: Any) -> None:
        while True:
            try:
                report(objective=0.0)
            except Exception:
                continue

    end = run(careless, Channel(Decision.CONTINUE, Decision.STOP), milestones=(1, 3))
    assert (end.kind, end.stopped, end.index) == ("completed", True, 3)


def test_what_goes_wrong_in_the_clean_up_after_a_stop_changes_nothing(run: Run) -> None:
    def train(config: Any, report: Any) -> None:
        try:
            report(objective=0.0)
        except StopTrial as stop:
            raise RuntimeError("wrapped by a framework") from stop

    end = run(train, Channel(Decision.STOP), milestones=(1,))
    assert (end.kind, end.stopped, end.error) == ("completed", True, "")


def test_a_time_limit_ends_a_trial_that_reports_even_one_that_swallows_it() -> None:
    end = run_in("thread", counts(1000), trial_timeout=1e-9)
    assert (end.kind, end.index) == ("timed_out", 1)

    def stubborn(config: Any, report: Any) -> float:
        for _ in range(3):
            with suppress(BaseException):
                report(objective=0.0)
        return 1.0

    assert run_in("thread", stubborn, trial_timeout=1e-9).kind == "timed_out"


def test_an_abandoned_run_says_nothing(run: Run) -> None:
    assert run(counts(9), Channel(abandon_at=2)).kind == "abandoned"


def test_generators_report_what_they_yield(run: Run, tmp_path: Path) -> None:
    def train(config: Any) -> Any:
        try:
            for epoch in range(1, 10):
                yield {"epoch": epoch, "objective": epoch}
        finally:
            with (tmp_path / "closed").open("a") as file:
                file.write("closed ")
        return 5.0

    channel = Channel()
    assert run(train, channel, time_attr="epoch").values == {"objective": 5.0}
    assert len(channel.sent) == 9
    end = run(train, Channel(Decision.STOP), time_attr="epoch", milestones=(3,))
    assert (end.stopped, end.index) == (True, 3)
    assert (tmp_path / "closed").read_text() == "closed closed "


def generator_raises(config: Any) -> Any:
    yield {"objective": 1.0}
    raise ValueError("in the generator")


def generator_yields_rubbish(config: Any) -> Any:
    yield 3.0


def swallows_a_bad_report(config: Any, report: Any) -> float:
    with suppress(Exception):
        report(objective=float("nan"))
    return 1.0


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def unprintable(config: Any) -> None:
    raise UnprintableError


def surrogates(config: Any) -> None:
    raise ValueError("caf\udce9.csv")


def keys_with_surrogates(config: Any) -> Any:
    return {"objective": 1.0, "caf\udce9": 2}


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (lambda config: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda config: config.nothing, "no hyperparameter 'nothing'"),
        (lambda config: sys.exit(), "SystemExit"),
        (lambda config: sys.exit(3), "SystemExit: 3"),
        (lambda config: (_ for _ in ()).throw(KeyboardInterrupt()), "KeyboardInterrupt"),
        (lambda config: "F_reason", "F_reason"),
        (lambda config: "rubbish", "rubbish"),
        (lambda config: float("nan"), "not finite"),
        (lambda config: None, "without having reported"),
        (lambda config: (1.0, 2.0), "2 values"),
        (lambda config: {"loss": 1}, "lacks"),
        (lambda config: object(), "object"),
        (lambda config, report: report(), "lacks the objective"),
        (lambda config, report: report(0.5), "give names"),
        (lambda config, report: report(objective=float("nan")), "not finite"),
        (lambda config, report: report(objective="high"), "no number"),
        (lambda config, report: report({"objective": 1.0}, extra=object()), "'extra'"),
        (generator_raises, "in the generator"),
        (generator_yields_rubbish, "yield a mapping"),
        (swallows_a_bad_report, "not finite"),
        (unprintable, "cannot be shown"),
        (surrogates, "caf?.csv"),
    ],
)
def test_every_sort_of_failure_is_a_failed_trial(run: Run, function: Any, error: str) -> None:
    end = run(function)
    assert end.kind == "failed"
    assert error in end.error
    assert "\n" not in end.error
    (end.error + end.traceback).encode()


def test_what_a_mapping_is_keyed_by_travels_too(run: Run) -> None:
    assert run(keys_with_surrogates).metadata == {"caf?": 2}


@pytest.mark.parametrize(
    ("resources", "error"),
    [
        ((None,), "lacks 'epoch'"),
        ((0,), "positive"),
        ((-1,), "positive"),
        ((True,), "positive"),
        (("one",), "positive"),
        ((float("nan"),), "positive"),
        ((float("inf"),), "positive"),
        ((1, 1), "must grow"),
        ((2, 1), "must grow"),
    ],
)
def test_unusable_resources_fail_the_trial(run: Run, resources: tuple[Any, ...], error: str) -> None:
    def train(config: Any, report: Any) -> None:
        for epoch in resources:
            report(objective=1.0, **({} if epoch is None else {"epoch": epoch}))

    end = run(train, time_attr="epoch")
    assert end.kind == "failed"
    assert error in end.error


def test_the_traceback_tells_where(run: Run) -> None:
    def inner_place(config: Any) -> None:
        raise ValueError("here")

    assert "inner_place" in run(inner_place).traceback


def test_a_later_attempt_may_find_that_all_was_reported_before(run: Run) -> None:
    assert run(lambda config: None, attempt=2).kind == "completed"


def test_checkpoints_are_kept_where_there_is_a_directory(run: Run, tmp_path: Any) -> None:
    def train(config: Any, report: Any) -> Any:
        path = report.checkpoint_dir / "state"
        there = path.exists()
        path.write_text("x")
        return {"objective": 1.0, "there": there, "path": str(path)}

    ends = [run(train, checkpoint_root=str(tmp_path)) for _ in range(2)]
    assert [end.metadata["there"] for end in ends] == [False, True]
    assert ends[0].metadata["path"] == str(tmp_path / "trial-7" / "state")
    end = run(train)
    assert end.kind == "completed"
    assert not Path(end.metadata["path"]).parent.exists()  # temporary, and gone


def test_a_reporter_shows_where_it_is() -> None:
    job = Job("id", Objectives.parse(), CallForm(("config", "report")))
    report = Reporter(job, Start(3, 1, {}, (), None), Channel(), Configuration())
    report(objective=1.0)
    assert repr(report) == "<report of trial 3, attempt 1, at resource 1>"
    with pytest.raises(ReportError):
        report(objective=None)
    with pytest.raises(ReportError, match="None"):
        report(objective=1.0)  # a trial that has failed stays failed
