from __future__ import annotations

import json
from collections import OrderedDict

import pytest
from program_runner import run_program

from dhpo import retrieve_pareto_front
from dhpo.compat import autogluon as ag
from dhpo.compat._autogluon_space import TrainFunction, problem_of
from dhpo.errors import SettingError, SpaceError
from dhpo.trial import Configuration

OBJECTIVES = {"score": "MAX", "cost": "MIN"}

SHOW = """
import json
print("SHOWN " + json.dumps({
    "front": front,
    "again": retrieve_pareto_front(history, objectives),
    "history": history,
    "kind": type(history).__name__,
    "configs": scheduler.config_history,
    "best": scheduler.get_best_config(),
    "points": len(histories["test_score"]),
}))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("autogluon")
    done = run_program("mo_hyperband.py", folder, SHOW)
    line = next(line for line in done.stdout.splitlines() if line.startswith("SHOWN "))
    return json.loads(line.removeprefix("SHOWN ")), done, folder


def test_the_program_runs_once_without_a_main_guard(program):
    assert program[1].stdout.count("SHOWN") == 1


def test_the_program_has_a_front_in_autogluons_form(program):
    front, history = program[0]["front"], program[0]["history"]
    assert front
    assert front == program[0]["again"]
    for point in front:
        assert list(point) == ["task_id-ressource", "test_score", "prediction_time"]
        task, index = point["task_id-ressource"]
        report = history[task][index - 1]
        assert (report["test_score"], report["prediction_time"]) == (point["test_score"], point["prediction_time"])
    places = [(int(p["task_id-ressource"][0]), p["task_id-ressource"][1]) for p in front]
    assert places == sorted(places)


def test_the_program_has_a_history_in_autogluons_form(program):
    history = program[0]["history"]
    assert program[0]["kind"] == "OrderedDict"
    assert list(history) == [str(i) for i in range(10)]
    assert program[0]["points"] == sum(map(len, history.values()))
    for reports in history.values():
        assert [r["epoch"] for r in reports] == list(range(1, len(reports) + 1))
        assert {"epoch", "train_score", "test_score", "prediction_time", "bracket"} <= set(reports[0])
        terminated = ["terminated" in r for r in reports]
        assert not any(terminated[:-1])
        assert (reports[-1]["epoch"] in (1, 3, 9, 27)) if terminated[-1] else (reports[-1]["epoch"] == 50)


def test_the_program_begins_with_the_default_configuration_and_has_no_constants(program):
    first = program[0]["configs"]["0"]
    assert list(first) == [
        "n_layers", "layer_1", "layer_2", "layer_3", "layer_4",
        "alpha", "learning_rate_init", "beta_1", "beta_2", "tol",
    ]  # fmt: skip
    assert first["layer_1"] == 17
    assert first["learning_rate_init"] == pytest.approx(1e-4)
    assert program[0]["best"] in program[0]["configs"].values()


def test_the_program_shows_a_bar_and_no_warning(program):
    stderr = program[1].stderr
    assert "10/10" in stderr
    assert "failures=0" in stderr
    for word in ("Large object", "large graph", "Warning", "Traceback"):
        assert word.lower() not in stderr.lower()
    assert not [path for path in program[2].iterdir() if path.suffix != ".py"]


@ag.args(x=ag.space.Real(0.0, 1.0), width=ag.space.Int(1, 5), epochs=9)
def train(args, reporter):
    for epoch in range(1, args.epochs + 1):
        reporter(epoch=epoch, score=args.x * epoch, cost=args.width * args.x, task=args.task_id)


def scheduler(train_fn=train, *, kind=ag.scheduler.MOHyperbandScheduler, **arguments):
    given = {"objectives": OBJECTIVES, "num_trials": 8, "cluster": "serial", **arguments}
    return kind(train_fn, **given)


def test_what_a_scheduler_finds(tmp_path):
    s = scheduler()
    assert s.training_history == {}
    assert s.get_pareto_front() == []
    assert s.get_best_config() == {}
    s.run()
    s.join_jobs()
    history = s.training_history
    assert isinstance(history, OrderedDict)
    assert list(history) == [str(i) for i in range(8)]
    assert all(r["task"] == int(task) for task, reports in history.items() for r in reports)
    assert (
        s.get_pareto_front()
        == retrieve_pareto_front(history, OBJECTIVES)
        == ag.retrieve_pareto_front(history, OBJECTIVES)
    )
    assert s.config_history["0"] == {"x": 0.5, "width": 3}
    assert s.get_best_config() == s.config_history[s.get_best_task_id()]
    assert s.get_best_task_id() in {point["task_id-ressource"][0] for point in s.get_pareto_front()}
    s.get_training_curves(filename=tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
    s.shutdown()


def test_seeds():
    configs = []
    for seed in (1, 1, 2):
        s = scheduler(random_seed=seed)
        s.run()
        configs.append(s.config_history)
    assert configs[0] == configs[1] != configs[2]


@pytest.mark.parametrize(
    ("options", "ranking"),
    [
        (None, "random_weights"),
        ({"algorithm": "random_weights", "num_weights": 7}, "random_weights"),
        ({"algorithm": "parego", "num_weights": 100, "rho": 0.1}, "parego"),
        ({"algorithm": "golovin"}, "golovin"),
        ({"algorithm": "parego", "rho": 0.1, "legacy": True}, "legacy_parego"),
    ],
)
def test_scalarizations(options, ranking):
    stopper = scheduler(scalarization_options=options)._search.stopper
    assert stopper.ranking == ranking
    assert stopper.num_weights == (options or {}).get("num_weights", 100)
    assert stopper.rho == (options or {}).get("rho", 0.05)
    assert (stopper.max_t, stopper.type) == (9, "stopping")


def test_max_t_and_rungs():
    assert scheduler(max_t=5)._search.stopper.max_t == 5
    assert scheduler(rung_levels=[1, 4, 9])._search.stopper.rung_levels == (1, 4)

    @ag.args(x=ag.space.Real(0, 1))
    def endless(args, reporter):
        reporter(epoch=1, score=args.x, cost=1.0)

    with pytest.raises(SettingError, match="max_t"):
        scheduler(endless)


def test_moasha():
    for kind in ("eps_net", "nsga_ii"):
        s = scheduler(kind=ag.scheduler.MOASHAScheduler, type=kind)
        assert s._search.stopper.ranking == kind
        assert s._search.stopper.type == "promotion"
        s.run()
        assert len(s.training_history) == 8
    with pytest.raises(SettingError, match="type='stopping'"):
        scheduler(kind=ag.scheduler.MOASHAScheduler, type="stopping")


def test_trials_are_promoted_where_that_is_asked_for():
    assert scheduler()._search.stopper.type == "stopping"
    s = scheduler(type="promotion")
    s.run()
    assert s._search.stopper.type == "promotion"
    assert len(s.training_history) == 8
    assert len({len(reports) for reports in s.training_history.values()}) > 1


def test_objectives_as_autogluon_checks_them():
    with pytest.raises(KeyError, match="objectives"):
        scheduler(objectives=None)
    for direction in ("min", "maximize", "UP"):
        with pytest.raises(
            ValueError, match=r"^Error, in conversion of objective dict\. Allowed values are 'MIN' and 'MAX'$"
        ):
            scheduler(objectives={"score": direction})
    with pytest.raises(ValueError, match="_SCALARIZATION"):
        scheduler(objectives={"_SCALARIZATION": "MAX"})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"num_trials": None}, SettingError, "num_trials nor time_out"),
        ({"scalarization_options": {"algorithm": "luck"}}, SettingError, "luck"),
        ({"scalarization_options": {"weights": 3}}, SettingError, "weights"),
        ({"num_trial": 3}, TypeError, "num_trial"),
        ({"searcher": "rl"}, SettingError, "rl"),
        ({"train_fn": lambda args, reporter: None}, SettingError, "ag.args"),
        ({"resource": {"num_tpus": 1}}, SettingError, "num_tpus"),
    ],
)
def test_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        scheduler(**arguments)


def test_arguments_without_effect():
    scheduler(visualizer="none", searcher_data="rungs", delay_get_config=True, reward_attr="accuracy")
    with pytest.warns(UserWarning, match="dist_ip_addrs has no effect: give cluster="):
        scheduler(dist_ip_addrs=["10.0.0.1"])


def test_searchers():
    plain = scheduler(search_options={"first_is_default": False, "num_init_random": 3})
    assert plain._search.searcher.settings()["searcher"] == "RandomSearcher"
    plain.run()
    assert plain.config_history["0"] != {"x": 0.5, "width": 3}
    model = scheduler(searcher="bayesopt", search_options={"num_init_random": 4, "debug_log": True})._search.searcher
    assert (model.settings()["searcher"], model.n_initial_points) == ("CBO", 4)
    assert scheduler(searcher="grid")._search.searcher.settings()["design"] == "grid"


def test_checkpoints(tmp_path):
    place = tmp_path / "checkpoint.ag"
    with pytest.raises(SettingError, match="holds no search"):
        scheduler(checkpoint=place, resume=True)
    first = scheduler(checkpoint=place, num_trials=3)
    first.run()
    with pytest.raises(SettingError, match="resume=True"):
        scheduler(checkpoint=place)
    again = scheduler(checkpoint=place, num_trials=5, resume=True)
    assert len(again.training_history) == 3
    again.run()
    assert len(again.training_history) == 5
    assert {k: again.config_history[k] for k in first.config_history} != {}


def test_a_failing_trial_fails_alone():
    @ag.args(x=ag.space.Real(0, 1), epochs=3)
    def sometimes(args, reporter):
        reporter(epoch=1, score=args.x, cost=1.0)
        if args.task_id % 2:
            raise RuntimeError("no")
        reporter(epoch=2, score=args.x, cost=1.0)
        reporter(epoch=3, score=args.x, cost=1.0)

    s = scheduler(sometimes, num_trials=6)
    s.run()
    failed = s.results.failures()["trial"].tolist()
    assert failed
    assert all(trial % 2 for trial in failed)
    assert len(s.training_history) == 6


def test_nothing_but_failures_warns():
    @ag.args(x=ag.space.Real(0, 1), epochs=3)
    def never(args, reporter):
        reporter(epoch=1, score=args.x)

    with pytest.warns(UserWarning, match="all 2 trials failed, the last one with: ReportError: .*'cost'"):
        scheduler(never, num_trials=2).run()


def test_spaces():
    space = {
        "rate": ag.space.Real(1e-4, 1, log=True, default=0.01),
        "flag": ag.space.Bool(),
        "kind": ag.space.Categorical(3, "a", None, [1, 2]),
        "net": ag.space.Dict(depth=ag.space.Int(1, 3), tag="t"),
        "sizes": ag.space.List(ag.space.Int(2, 4), 7, ag.space.List(ag.space.Bool())),
        "constant": [1, {"any": object}],
    }
    problem = problem_of(space)
    assert list(problem) == ["rate", "flag", "kind", "net.depth", "sizes.0", "sizes.2.0"]
    default = problem.default_configuration
    assert (default["rate"], default["flag"], default["kind"]) == (0.01, False, 3)
    assert "log" in repr(problem)

    seen = []
    config = {"rate": 0.5, "flag": True, "kind": (1, 2), "net.depth": 2, "sizes.0": 4, "sizes.2.0": False}
    report = type("Report", (), {"trial": 5})()
    TrainFunction(lambda args, reporter: seen.append(args), space)(Configuration(config), report)
    args = seen[0]
    assert (args.task_id, args.rate, args.flag, args.kind) == (5, 0.5, True, (1, 2))
    assert (args.net.depth, args.net.tag, args["net"]["depth"]) == (2, "t", 2)
    assert args.sizes == [4, 7, [False]]
    assert args.constant is space["constant"]


def test_every_categorical_value_is_drawn():
    problem = problem_of({"kind": ag.space.Categorical(3, "a", None, [1, 2])})
    assert {config["kind"] for config in problem.sample(100, rng=1)} == {3, "a", None, (1, 2)}


def test_spaces_within_a_categorical_are_refused():
    for data in ((), (ag.space.Int(1, 2), 3), (ag.space.Dict(a=1),)):
        with pytest.raises(SpaceError, match="'kind'"):
            problem_of({"kind": ag.space.Categorical(*data)})
