"""Results in the forms of Optuna and TensorBoard, read back by these."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ConfigSpace import EqualsCondition

import dhpo
from dhpo.errors import DhpoError, SettingError
from dhpo.export import export, format_of, to_optuna, to_tensorboard
from dhpo.results import Results


def needed(name: str) -> ModuleType:
    """A package that the tests need: without it they are skipped, but not in the continuous integration."""
    if os.environ.get("CI") == "true":
        return __import__(name)
    module: ModuleType = pytest.importorskip(name, reason=f"the export to {name} is not tested: it is not installed")
    return module


def train(config: Any, report: Any) -> dict[str, Any] | str:
    if config.x > 0.9:
        raise ValueError("too large")
    for epoch in (1, 2, 3):
        report(epoch=epoch, score=epoch * config.x, cost=config.n)
    return {"score": 3 * config.x, "cost": config.n, "metadata": {"note": "<b>"}}


def searched(directory: Path, objectives: dict[str, str]) -> Results:
    problem = dhpo.HpProblem({"x": (0.0, 1.0), "n": (1, 64, "log-uniform"), "size": [16, 32, 64], "fixed": 2})
    kind = problem.add(["a", "b"], "kind")
    only_a = problem.add((1e-4, 1.0, "log-uniform"), "only_a")
    problem.add_condition(EqualsCondition(only_a, kind, "a"))
    stopper = dhpo.Hyperband(time_attr="epoch", max_t=3, grace_period=1, reduction_factor=3)
    search = dhpo.Search(
        problem, train, objectives=objectives, stopper=stopper, searcher="random", cluster="serial", log_dir=directory,
        random_state=1, max_failures=None,
    )  # fmt: skip
    return search.run(num_trials=20, progress=False)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return searched(tmp_path_factory.mktemp("one") / "one search?", {"score": "MAX"})


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return searched(tmp_path_factory.mktemp("two") / "two", {"score": "MAX", "cost": "MIN"})


@pytest.mark.parametrize("name", ["study.db", "study.log"])
def test_optuna_reads_the_study(one: Results, tmp_path: Path, name: str) -> None:
    optuna = needed("optuna")
    assert to_optuna(one, tmp_path / name) == "one search?"
    storage = f"sqlite:///{tmp_path / name}"
    if name.endswith(".log"):
        from optuna.storages.journal import JournalFileBackend

        storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / name)))
    study = optuna.load_study(study_name="one search?", storage=storage)
    assert (study.direction.name, study.metric_names) == ("MAXIMIZE", ["score"])
    records = {record.number: record for record in one.records()}
    states = {"COMPLETED": "COMPLETE", "STOPPED": "PRUNED", "FAILED": "FAIL"}
    values = one.values_by_trial()
    assert [trial.number for trial in study.trials] == list(range(20))
    for trial in study.trials:
        record = records[trial.number]
        assert trial.params == dict(record.config)
        assert trial.state.name == states[record.status]
        if record.failed:
            assert trial.values is None
            assert "too large" in trial.user_attrs["error"]
            continue
        assert trial.values == [pytest.approx((record.values or {})["score"])]
        assert list(trial.intermediate_values.values()) == values[trial.number][1][:, 0].tolist()
        assert trial.datetime_start <= trial.datetime_complete
    found = study.trials[0].distributions
    assert found["n"] == optuna.distributions.IntDistribution(1, 64, log=True)
    assert found["size"] == optuna.distributions.CategoricalDistribution([16, 32, 64])


def test_a_study_of_several_objectives(two: Results, tmp_path: Path) -> None:
    optuna = needed("optuna")
    to_optuna(two, tmp_path / "study.db", "mine")
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "FAIL"}
    assert study.best_trials
    to_optuna(two, tmp_path / "study.db", "another")
    with pytest.raises(SettingError, match="'mine' already"):
        to_optuna(two, tmp_path / "study.db", "mine")


def test_tensorboard_has_a_run_for_each_trial(one: Results, tmp_path: Path) -> None:
    needed("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c  # the framing that is read below

    n_shown = len(one.values_by_trial())
    assert to_tensorboard(one, tmp_path) == n_shown
    runs = sorted(tmp_path.iterdir())
    assert len(runs) == n_shown
    (file,) = runs[0].iterdir()
    data, tags = file.read_bytes(), []
    while data:
        length = int.from_bytes(data[:8], "little")
        assert int.from_bytes(data[8:12], "little") == masked_crc32c(data[:8])
        event = Event()
        event.ParseFromString(data[12 : 12 + length])
        tags += [(value.tag, value.simple_value) for value in event.summary.value]
        data = data[16 + length :]
    trial = int(runs[0].name.removeprefix("trial_"))
    shown = [value for tag, value in tags if tag == "objective/score"]
    assert shown == pytest.approx(one.values_by_trial()[trial][1][:, 0].tolist())
    assert any(tag.startswith("_hparams_") for tag, _ in tags)


def test_formats_by_name(one: Results, tmp_path: Path) -> None:
    assert [format_of(f"a.{suffix}") for suffix in ("csv", "JSON", "parquet", "db", "log")] == [
        "csv", "json", "parquet", "optuna", "optuna",
    ]  # fmt: skip
    assert export(one, tmp_path / "table.csv") == "csv"
    assert (tmp_path / "table.csv").read_text().startswith("p:x,")
    with pytest.raises(SettingError, match="does not tell a format"):
        export(one, tmp_path / "table")
    with pytest.raises(SettingError, match="'xml'"):
        export(one, tmp_path / "table", "xml")


@pytest.mark.parametrize(("package", "write"), [("optuna", to_optuna), ("tensorboardX", to_tensorboard)])
def test_without_the_package_there_is_a_remedy(
    one: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, write: Any
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(DhpoError, match="pip install 'dhpo"):
        write(one, tmp_path / "out")
