"""Callbacks: what they are told, that they harm nobody, and the ones that come with dhpo."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import pytest

import dhpo
from dhpo.callbacks import (
    Callback,
    CsvCallback,
    EarlyStoppingCallback,
    Ended,
    Finished,
    LoggerCallback,
    MLflowCallback,
    SearchInfo,
    StopSearch,
    TensorBoardCallback,
    TqdmCallback,
)
from dhpo.callbacks.base import Reported
from dhpo.callbacks.dispatch import Dispatcher
from dhpo.errors import SettingError
from dhpo.events import Decide, Event, SessionOpened, TrialFailed, TrialProposed, TrialReported, WorkerLost
from dhpo.journal import read
from dhpo.objectives import Objectives
from dhpo.stopping.hyperband import Hyperband
from dhpo.study import Study
from dhpo.trial import Decision, Status


def train(config: Any, report: Any) -> None:
    if config.x > 0.95:
        raise ValueError("too large")
    (report.checkpoint_dir / "model").write_text("saved")
    for epoch in range(1, 10):
        report(epoch=epoch, loss=config.x / epoch, more="text")


def search_of(callbacks: Any, **settings: Any) -> dhpo.Search:
    given: dict[str, Any] = {
        "objectives": {"loss": "MIN"},
        "stopper": dhpo.Hyperband(max_t=9),
        "searcher": "random",
        "cluster": "serial",
        "random_state": 3,
    }
    return dhpo.Search({"x": (0.0, 1.0)}, train, callbacks=callbacks, **(given | settings))


class Recorder(Callback):
    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def of(self, kind: str) -> list[Any]:
        return [value for name, value in self.told if name == kind]


def _recording(name: str) -> Any:
    def method(self: Recorder, value: Any) -> None:
        self.told.append((name, value))

    return method


for _name in [name for name in vars(Callback) if name.startswith("on_")]:
    setattr(Recorder, _name, _recording(_name.removeprefix("on_")))


def test_a_callback_is_told_of_everything_in_order(tmp_path: Path) -> None:
    recorder = Recorder()
    results = search_of([recorder], log_dir=tmp_path).run(num_trials=12, progress=False)
    assert recorder.told[0][0] == "start"
    assert recorder.told[-1][0] == "finish"
    info: SearchInfo = recorder.told[0][1]
    assert (info.directory, info.objectives, info.hyperparameters) == (tmp_path, {"loss": "MIN"}, ("x",))
    assert (info.time_attr, info.num_trials, info.n_trials) == ("epoch", 12, 0)
    assert [trial.trial for trial in recorder.of("proposal")] == list(range(12))
    ends: list[Ended] = recorder.of("end")
    assert {end.trial: end.status for end in ends} == results.statuses()
    assert {end.status for end in ends} >= {Status.COMPLETED, Status.STOPPED}
    frame = results.to_frame().set_index("job_id")
    for end in ends:
        if end.values is not None:
            assert end.values["loss"] == frame.loc[end.trial, "objective"]
            assert end.resource == frame.loc[end.trial, "m:resource"]
    history = results.training_history
    assert len(recorder.of("report")) == sum(len(entries) for entries in history.values())
    stopped = {d.trial for d in recorder.of("decision") if d.decision is Decision.STOP}
    assert stopped == {end.trial for end in ends if end.status is Status.STOPPED}
    assert {d.resource for d in recorder.of("decision")} <= {1, 3}
    assert {saved.directory for saved in recorder.of("checkpoint")} == {
        tmp_path / "checkpoints" / f"trial-{end.trial}" for end in ends if end.status is not Status.FAILED
    }
    assert recorder.told[-1][1].reason == "num_trials=12 reached"


def test_a_callback_hears_only_of_what_is_in_the_journal(tmp_path: Path) -> None:
    class Checking(Callback):
        checked = 0

        def on_end(self, trial: Ended) -> None:
            ended = [e.trial for batch in read(tmp_path)[1] for e in batch if type(e).__name__ == "TrialCompleted"]
            assert trial.trial in ended or trial.error
            Checking.checked += 1

    search_of([Checking()], log_dir=tmp_path).run(num_trials=3, progress=False)
    assert Checking.checked == 3


@pytest.mark.parametrize("background", [False, True])
def test_a_callback_that_raises_stops_nothing_and_is_logged_once(
    background: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Callback):
        def on_report(self, report: Reported) -> None:
            raise RuntimeError("no")

    Broken.background = background
    recorder = Recorder()
    results = search_of([Broken(), recorder]).run(num_trials=4, progress=False)
    assert len(results) == len(recorder.of("end")) == 4
    said = [r.getMessage() for r in caplog.records if r.name == "dhpo.callbacks"]
    assert len(said) == 2
    assert "Broken raised in on_report" in said[0]
    assert "times in all" in said[1]


@pytest.mark.parametrize("background", [False, True])
def test_a_callback_ends_the_search_and_the_next_run_goes_on(background: bool, tmp_path: Path) -> None:
    class Enough(Callback):
        def on_end(self, trial: Ended) -> None:
            if trial.trial == 2:
                raise StopSearch("it is enough")

    Enough.background = background
    recorder = Recorder()
    results = search_of([Enough(), recorder], log_dir=tmp_path).run(num_trials=200, progress=False)
    assert 3 <= len(results) < 200
    assert recorder.of("finish")[0].reason == "it is enough"
    last = [event for batch in read(tmp_path)[1] for event in batch][-1]
    assert last.reason == "it is enough"
    assert len(search_of([], log_dir=tmp_path).run(num_trials=len(results) + 2, progress=False)) == len(results) + 2


def test_a_resumed_search_tells_what_there_was(tmp_path: Path) -> None:
    recorder = Recorder()
    for n in (2, 5):
        search_of([recorder], log_dir=tmp_path).run(num_trials=n, progress=False)
    assert [(info.n_trials, info.n_ended) for info in recorder.of("start")] == [(0, 0), (2, 2)]
    assert recorder.of("start")[0].id == recorder.of("start")[1].id
    assert [end.trial for end in recorder.of("end")] == [0, 1, 2, 3, 4]


def test_paused_trials_end_and_are_proposed_again() -> None:
    recorder = Recorder()
    search_of([recorder], stopper=dhpo.Hyperband(max_t=9, type="promotion")).run(num_trials=9, progress=False)
    paused = [end for end in recorder.of("end") if end.status is Status.PAUSED]
    again = [trial for trial in recorder.of("proposal") if trial.origin == "promoted"]
    assert paused
    assert again
    assert {trial.trial for trial in again} <= {end.trial for end in paused}
    assert all(trial.attempt > 1 for trial in again)
    assert Decision.PAUSE in {d.decision for d in recorder.of("decision")}


def test_what_no_longer_counts_is_told_to_nobody() -> None:
    study = Study(Objectives.parse({"loss": "MIN"}), Hyperband(max_t=9).bind(1, max_t=None, seed=0), 0)
    recorder = Recorder()
    settings = {"problem": {"names": ["x"]}, "time_attr": "epoch"}
    dispatcher = Dispatcher([recorder], "id", settings, None, None, lambda: None)
    batches: list[list[Event]] = [
        [SessionOpened(0.0, 0.0, "host", 1, "0")],
        [TrialProposed(0.1, 0, {"x": 0.5}, 0, "random", 0)],
        [
            TrialReported(0.2, 0, 1, 1, 1, {"epoch": 1, "loss": 3.0}),
            TrialReported(0.2, 0, 1, 1, 1, {"epoch": 1, "loss": 3.0}),  # a copy
            WorkerLost(0.3, 0, 1, "w"),
            TrialReported(0.4, 0, 1, 2, 2, {"epoch": 2, "loss": 2.0}),  # of the lost attempt
            TrialReported(0.5, 0, 2, 1, 2, {"epoch": 2, "loss": 1.0}),
        ],
        [TrialFailed(0.6, 0, 1, "old", "", 0.0, 0.1, "w"), TrialFailed(0.7, 0, 2, "new", "", 0.5, 0.7, "v")],
    ]
    for batch in batches:
        for event in batch:
            for command in study.apply(event):
                if isinstance(command, Decide):
                    dispatcher.decided(command)
        dispatcher(batch, study)
    dispatcher.finish(study)
    assert [name for name, _ in recorder.told] == [
        "start", "proposal", "report", "decision", "loss", "report", "end", "finish",
    ]  # fmt: skip
    assert [report.values["loss"] for report in recorder.of("report")] == [3.0, 1.0]
    (end,) = recorder.of("end")
    assert (end.error, end.status, end.values, end.duration) == ("new", Status.FAILED, None, pytest.approx(0.2))
    assert recorder.of("finish")[0].reason is None


def test_what_is_no_callback_is_refused() -> None:
    with pytest.raises(SettingError, match=r"subclasses of dhpo\.callbacks\.Callback"):
        search_of([print])


def test_early_stopping_ends_at_the_patience() -> None:
    recorder = Recorder()
    callbacks = [EarlyStoppingCallback(patience=5, min_delta=10.0), recorder]
    results = search_of(callbacks).run(num_trials=100, progress=False)
    assert len(recorder.of("end")) == 6  # the first one is an improvement
    assert recorder.of("finish")[0].reason == "no improvement of loss by more than 10 in 5 trials"
    assert len(results) <= 7
    with pytest.raises(SettingError, match="patience=0"):
        EarlyStoppingCallback(patience=0)


def test_the_logger_says_what_happens(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "dhpo.search"):
        search_of([LoggerCallback()]).run(num_trials=3, progress=False)
    said = [r.getMessage() for r in caplog.records if r.name == "dhpo.search"]
    assert "begins in memory" in said[0]
    assert any("COMPLETED at 9" in line for line in said)
    assert "num_trials=3 reached" in said[-1]
    assert any(line.startswith("trial 0 reported") for line in said)


def test_the_bar_counts(capsys: pytest.CaptureFixture[str]) -> None:
    search_of([TqdmCallback(mininterval=0)]).run(num_trials=4, progress=False)
    assert "4/4" in capsys.readouterr().err


def test_the_csv_has_each_report_and_goes_on(tmp_path: Path) -> None:
    for n in (2, 4):
        search_of([CsvCallback()], log_dir=tmp_path).run(num_trials=n, progress=False)
    with (tmp_path / "reports.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    history = dhpo.Results.load(tmp_path).training_history
    reports = [row for row in rows if not row["status"]]
    assert len(reports) == sum(map(len, history.values()))
    assert len([row for row in rows if row["status"]]) == 4
    first = history["0"][0]
    row = next(row for row in reports if row["trial"] == "0")
    assert (float(row["loss"]), float(row["epoch"]), row["more"]) == (first["loss"], first["epoch"], "text")


def test_the_csv_takes_in_new_names(tmp_path: Path) -> None:
    callback = CsvCallback(tmp_path / "there" / "all.csv")
    callback.on_start(SearchInfo("id", None, {"loss": "MIN"}, ("x",), "epoch", 1, 0, 0, {}, {}))
    callback.on_report(Reported(0, 1, 1, {"epoch": 1, "loss": 2.0}, 0.5))
    callback.on_report(Reported(0, 1, 2, {"epoch": 2, "loss": 1.0, "late": 7}, 0.6))
    callback.on_finish(Finished(None, 1, 0, 1.0))
    with (tmp_path / "there" / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["late"] for row in rows] == ["", "7"]
    assert [row["loss"] for row in rows] == ["2.0", "1.0"]


def test_tensorboard_has_scalars_and_hyperparameters(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="TensorBoardCallback is not tested: tensorboardX is not installed")
    from tensorboardX.proto import event_pb2

    results = search_of([TensorBoardCallback()], log_dir=tmp_path).run(num_trials=3, progress=False)
    for number, entries in results.training_history.items():
        scalars: dict[str, dict[int, float]] = {}
        tags = set()
        for path in (tmp_path / "tensorboard" / f"trial-{number}").iterdir():
            for record in read_events(path):
                event = event_pb2.Event.FromString(record)
                for value in event.summary.value:
                    tags.add(value.tag)
                    if value.HasField("simple_value"):
                        scalars.setdefault(value.tag, {})[event.step] = value.simple_value
        assert scalars["loss"] == pytest.approx({entry["epoch"]: entry["loss"] for entry in entries})
        assert "final/loss" in scalars
        assert "_hparams_/session_start_info" in tags


def read_events(path: Path) -> list[bytes]:
    """The records of an event file: 8 bytes of length, 4 of checksum, the record, 4 of checksum."""
    data, at, records = path.read_bytes(), 0, []
    while at < len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        records.append(data[at + 12 : at + 12 + length])
        at += 16 + length
    return records


def test_mlflow_has_a_nested_run_for_each_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="MLflowCallback is not tested: mlflow is not installed")
    from mlflow.tracking import MlflowClient

    uri = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for n in (2, 4):
        callback = MLflowCallback("mine", tracking_uri=uri, tags={"team": "a"})
        results = search_of([callback], log_dir=tmp_path / "search").run(num_trials=n, progress=False)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("mine")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "dhpo.search" in run.data.tags]
    assert len(parents) == 1
    assert parents[0].data.tags["team"] == "a"
    assert parents[0].info.status == "FINISHED"
    trials = {int(run.data.tags["dhpo.trial"]): run for run in runs if "dhpo.trial" in run.data.tags}
    assert sorted(trials) == [0, 1, 2, 3]
    statuses = results.statuses()
    for number, run in trials.items():
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert float(run.data.params["x"]) == results.config_history[str(number)]["x"]
        assert run.data.tags["dhpo.status"] == statuses[number].value
        logged = client.get_metric_history(run.info.run_id, "loss")
        reported = results.training_history.get(str(number), [])
        assert {m.step: m.value for m in logged} == {entry["epoch"]: entry["loss"] for entry in reported}
