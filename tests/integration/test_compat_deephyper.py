from __future__ import annotations

import functools
import json
import math
import re

import numpy as np
import pytest
from program_runner import run_program

import dhpo
from dhpo.compat import _deephyper_settings as settings
from dhpo.compat.deephyper import (
    CBO,
    Callback,
    Evaluator,
    HpProblem,
    LoggerCallback,
    RandomSearch,
    SearchEarlyStopping,
    SuccessiveHalvingStopper,
    TqdmCallback,
)
from dhpo.errors import RunFunctionError, SettingError, TransferError
from dhpo.executors.local import LocalExecutor

SHOW = """
import json
shown = {
    "frames": {name: df.to_dict("list") for name, df in results.items()},
    "reprs": [repr(problem_small), repr(problem_large)],
}
print("SHOWN " + json.dumps(shown, default=str))
"""


def sphere(config, n=1):
    return -sum(config[f"x{i}"] ** 2 for i in range(n))


def problem(n=1):
    return HpProblem({f"x{i}": (-10.0, 10.0) for i in range(n)})


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deephyper")
    done = run_program("transfer_learning_for_hps.py", folder, SHOW)
    line = next(line for line in done.stdout.splitlines() if line.startswith("SHOWN "))
    return json.loads(line.removeprefix("SHOWN ")), done, folder


def test_the_program_has_three_frames_of_twenty_rows(program):
    frames = program[0]["frames"]
    assert list(frames) == ["Small", "Large", "Large+TL"]
    for name, n in (("Small", 1), ("Large", 2), ("Large+TL", 2)):
        frame = frames[name]
        assert list(frame)[: n + 2] == [*(f"p:x{i}" for i in range(n)), "objective", "job_id"]
        assert all(len(column) == 20 for column in frame.values())
        expected = [
            -sum(xs[i] ** 2 for i in range(n)) for xs in zip(*(frame[f"p:x{i}"] for i in range(n)), strict=True)
        ]
        assert frame["objective"] == pytest.approx(expected)
        assert sorted(frame["job_id"]) == list(range(20))


def test_the_program_finds_the_optimum_and_starts_ahead_with_transfer(program):
    frames = program[0]["frames"]
    assert max(frames["Small"]["objective"]) > -0.01
    assert max(frames["Large"]["objective"]) > -1.0
    assert max(frames["Large+TL"]["objective"]) > -1.0
    # x0 comes from where the small problem was good, x1, which it does not have, from the whole range.
    x0, x1 = frames["Large+TL"]["p:x0"], frames["Large+TL"]["p:x1"]
    assert np.median(np.abs(x0[:3])) < np.median(np.abs(frames["Large"]["p:x0"][:3]))
    assert np.ptp(x1) > 5


def test_the_first_configuration_is_not_the_default_one_which_is_the_optimum(program):
    assert program[0]["frames"]["Small"]["objective"][0] < -0.01


def test_the_program_shows_the_spaces_as_configspace_does(program):
    head = "Configuration space object:\n  Hyperparameters:\n"
    x0, x1 = (f"    x{i}, Type: UniformFloat, Range: [-10.0, 10.0], Default: 0.0\n" for i in range(2))
    assert program[0]["reprs"] == [head + x0, head + x0 + x1]


def test_the_program_warns_of_q_and_shows_three_bars(program):
    stderr = program[1].stderr
    assert (
        "UserWarning: The value of q=0.9 is replaced by q_max=0.5 because a minimum of 10 samples are required to "
        "perform transfer-learning!"
    ) in stderr
    ends = re.findall(r"20/20 \[[^\]]*failures=0, objective=(-?[\d.e-]+)\]", stderr)
    assert len(ends) >= 3
    for shown in ends:
        assert len(shown.lstrip("-0.").replace(".", "").partition("e")[0]) <= 3


def test_the_program_writes_nothing(program):
    assert not [path for path in program[2].iterdir() if path.suffix != ".py"]


def test_a_further_call_counts_its_own_evaluations():
    search = CBO(problem(), Evaluator.create(sphere, method="serial"), random_state=1)
    assert len(search.search(4)) == 4
    assert len(search.search(max_evals=3)) == 7


def test_the_evaluator_may_come_with_the_call():
    evaluator = Evaluator.create(sphere, method="serial")
    assert len(CBO(problem(), random_state=1).search(evaluator, 3, timeout=60)) == 3
    assert (
        len(RandomSearch(problem(), random_state=1).search(evaluator=evaluator, max_evals=3, max_evals_strict=True))
        == 3
    )
    assert len(CBO(problem(), random_state=1).search(sphere, 3)) == 3
    with pytest.raises(SettingError, match="no evaluator"):
        CBO(problem()).search(3)
    with pytest.raises(SettingError, match="evaluator=7"):
        CBO(problem(), 7)


def test_another_run_function_needs_another_search():
    search = RandomSearch(problem(), sphere, random_state=1)
    search.search(2)
    search.search(Evaluator.create(sphere, method="thread"), 1)
    with pytest.raises(SettingError, match="another run function"):
        search.search(lambda config: 0.0, 1)


def test_a_search_without_an_end_is_refused():
    with pytest.raises(SettingError, match="needs an end"):
        CBO(problem(), sphere).search()


def test_equal_seeds_give_equal_results():
    frames = [CBO(problem(), sphere, random_state=s).search(8) for s in (3, 3, np.random.RandomState(3))]
    assert frames[0]["p:x0"].tolist() == frames[1]["p:x0"].tolist()
    assert frames[0]["p:x0"].tolist() != frames[2]["p:x0"].tolist()


def test_log_dir_goes_on(tmp_path):
    first = CBO(problem(), sphere, random_state=1, log_dir=tmp_path).search(4)
    again = CBO(problem(), sphere, random_state=1, log_dir=tmp_path).search(6)
    assert (tmp_path / "results.csv").exists()
    assert again["p:x0"].tolist()[:4] == first["p:x0"].tolist()
    assert len(again) == 6


def test_what_a_job_offers():
    seen = []

    def run(job):
        seen.append((job["x0"], job.x0, job.parameters, job.id, dict(job), job.get("no", 0), job.stopped()))
        return {"objective": job.x0, "metadata": {"colour": "red"}}

    frame = RandomSearch(problem(), run, random_state=1).search(2)
    for number, (item, attribute, parameters, id_, as_dict, missing, stopped) in enumerate(seen):
        assert item == attribute
        assert type(parameters) is dict
        assert parameters == as_dict == {"x0": item}
        assert (id_, missing, stopped) == (str(number), 0, False)
    assert frame["m:colour"].tolist() == ["red", "red"]


def test_recording_and_stopping():
    def run(job):
        for step in range(1, 28):
            job.record(step, -abs(job["x0"]) - 1 / step)
            if job.stopped():
                break
        return job.objective

    stopper = SuccessiveHalvingStopper(max_steps=27, min_steps=1, reduction_factor=3)
    frame = RandomSearch(problem(), run, random_state=1, stopper=stopper).search(12)
    assert frame["m:stopped"].any()
    complete = frame[~frame["m:stopped"]]
    assert set(complete["m:resource"]) == {27}
    expected = -frame["p:x0"].abs() - 1 / frame["m:resource"]
    assert frame["objective"].tolist() == pytest.approx(expected.tolist())


def test_recording_without_a_stopper_never_stops():
    def run(job):
        for step in range(1, 4):
            job.record(step, float(step))
            assert not job.stopped()
        return job.objective

    assert RandomSearch(problem(), run).search(2)["objective"].tolist() == [3.0, 3.0]


def test_several_objectives():
    def run(job):
        return [job["x0"], -job["x0"]]

    frame = CBO(problem(), run, random_state=1, objectives=["gain", "loss"]).search(5)
    assert frame["objective_0"].tolist() == (-frame["objective_1"]).tolist()
    assert frame["pareto_efficient"].all()
    frame = CBO(problem(), run, random_state=1, moo_lower_bounds=[None, 0.0]).search(3)
    assert "objective_1" in frame


def test_failures_are_rows_and_nothing_but_failures_warns():
    def run(job):
        return "F_negative" if job["x0"] < 0 else job["x0"]

    frame = RandomSearch(problem(), run, random_state=1).search(12)
    assert (frame["objective"] == "F_negative").equals(frame["p:x0"] < 0)
    assert 0 < (frame["p:x0"] < 0).sum() < 12
    with pytest.warns(UserWarning, match="all 3 trials failed, the last one with: ValueError: no"):
        RandomSearch(problem(), functools.partial(_raise, "no")).search(3)


def _raise(text, config):
    raise ValueError(text)


def test_callbacks_are_told(capsys):
    told = []

    class Mine(Callback):
        def on_launch(self, job):
            told.append(("launch", job.id, job.objective))

        def on_done(self, job):
            told.append(("done", job.id, job.objective, job.args == job.parameters))

    def run(job):
        return "F_odd" if job.id == "1" else float(job.id)

    callbacks = [Mine(), LoggerCallback()]
    evaluator = Evaluator.create(run, method="serial", method_kwargs={"callbacks": callbacks})
    RandomSearch(problem(), evaluator, random_state=1).search(3)
    assert told == [
        ("launch", "0", None), ("done", "0", 0.0, True),
        ("launch", "1", None), ("done", "1", "F_odd", True),
        ("launch", "2", None), ("done", "2", 2.0, True),
    ]  # fmt: skip
    assert capsys.readouterr().out.splitlines() == [
        "[00001] -- best objective: 0.00000 -- received objective: 0.00000",
        "[00002] -- best objective: 0.00000 -- received objective: F_odd",
        "[00003] -- best objective: 2.00000 -- received objective: 2.00000",
    ]


def test_a_bar_is_shown_for_its_callback_only(capsys):
    RandomSearch(problem(), sphere).search(2)
    assert capsys.readouterr().err == ""
    evaluator = Evaluator.create(sphere, method="serial", method_kwargs={"callbacks": [TqdmCallback()]})
    RandomSearch(problem(), evaluator).search(2)
    assert "failures=0, objective=" in capsys.readouterr().err


def test_early_stopping_ends_the_search():
    evaluator = Evaluator.create(
        lambda job: 1.0, method="serial", method_kwargs={"callbacks": [SearchEarlyStopping(patience=5)]}
    )
    assert len(RandomSearch(problem(), evaluator).search(100)) < 10
    with pytest.raises(SettingError, match="threshold"):
        SearchEarlyStopping(threshold=0.5)


def test_evaluators():
    assert Evaluator.create(sphere, "serial").cluster() == "serial"
    thread = Evaluator.create(sphere, "thread", {"num_workers": 3}).cluster()
    assert isinstance(thread, LocalExecutor)
    assert thread.threads == 3
    for method in ("process", "loky", "dask"):
        assert Evaluator.create(sphere, method, {"num_workers": 2}).cluster().n_workers == 2
    assert Evaluator.create(sphere, "dask", {"cluster": "tcp://host:1"}).cluster() == "tcp://host:1"
    bound = Evaluator.create(sphere, "serial", {"run_function_kwargs": {"n": 2}})
    assert len(RandomSearch(problem(2), bound).search(2)) == 2


@pytest.mark.parametrize(
    ("method", "kwargs", "message"),
    [
        ("mpicomm", {}, "not available"),
        ("serial", {"num_workers": 2}, "num_workers=2"),
        ("thread", {"storage": None}, "storage"),
        ("process", {"cluster": "x"}, "cluster"),
    ],
)
def test_evaluators_refuse(method, kwargs, message):
    with pytest.raises(SettingError, match=message):
        Evaluator.create(sphere, method, kwargs)


def test_coroutines_are_refused():
    async def run(job):
        return 0.0

    with pytest.raises(RunFunctionError, match="asynchronous"):
        Evaluator.create(run)


def test_worker_processes():
    base = 5.0
    evaluator = Evaluator.create(lambda job: base + job["x0"], "process", {"num_workers": 1})
    frame = RandomSearch(problem(), evaluator, random_state=1).search(3)
    assert frame["objective"].tolist() == pytest.approx((5.0 + frame["p:x0"]).tolist())


def test_generative_model_returns_score_and_model(tmp_path):
    source = RandomSearch(problem(), sphere, random_state=1, log_dir=tmp_path).search(40)
    for given in (source, str(tmp_path / "results.csv")):
        search = CBO(problem(2), functools.partial(sphere, n=2), random_state=1)
        score, model = search.fit_generative_model(given, q=0.5, n_samples=10, verbose=True)
        assert math.isnan(score)
        assert len(model.rows) >= 10
        first = search.search(6)
        assert first["p:x0"][:3].abs().max() < 4  # those that the source proposes; the next one is a plain one
    with pytest.raises(SettingError, match="too late"):
        search.fit_generative_model(source)


def test_generative_model_needs_ten_rows():
    source = RandomSearch(problem(), sphere).search(5)
    with pytest.raises(ValueError, match="contains only 5 results when a minimum of 10 is required"):
        CBO(problem(), sphere).fit_generative_model(source)


def test_surrogate_continues_from_a_frame():
    source = RandomSearch(problem(2), functools.partial(sphere, n=2), random_state=1).search(30)
    search = CBO(problem(2), functools.partial(sphere, n=2), random_state=2)
    search.fit_surrogate(source)
    frame = search.search(5)
    assert frame["objective"].max() > source["objective"].max()
    assert not set(frame["p:x0"]) & set(source["p:x0"])
    with pytest.raises(SettingError, match="too late"):
        search.fit_surrogate(source)
    with pytest.raises(TransferError, match=r"Incompatible dataframe 'df' to fit surrogate model of CBO. .*x1"):
        CBO(problem(2), sphere).fit_surrogate(source.drop(columns="p:x1"))


def test_surrogate_counts_failures_and_adds_up():
    source = RandomSearch(problem(), lambda job: "F_no" if job["x0"] < 0 else job["x0"], random_state=1).search(12)
    search = CBO(problem(), sphere, random_state=2)
    search.fit_surrogate(source)
    search.fit_surrogate(RandomSearch(problem(), sphere, random_state=5).search(3))
    trials = {o.trial for o in search._earlier}
    assert trials == set(range(-15, 0))
    assert len(search.search(3)) == 3


def test_arguments_of_both_generations():
    old = settings.to_cbo({
        "surrogate_model": "RF", "acq_func": "UCB", "acq_optimizer": "lbfgs", "acq_optimizer_freq": 10, "kappa": 1.5,
        "xi": 0.01, "n_points": 500, "filter_duplicated": True, "update_prior": False, "multi_point_strategy": "cl_max",
        "n_jobs": 2, "n_initial_points": 7, "initial_point_generator": "lhs", "initial_points": [{"x0": 1.0}],
        "filter_failures": "mean", "max_failures": -1, "objective_scaler": "minmaxlog",
        "moo_scalarization_weight": "random",
        "scheduler": {"type": "bandit", "delta": 0.1, "lamb": 0.3},
    })  # fmt: skip
    assert old == dhpo.CBO(
        surrogate_model="RF", acq_func="UCB", kappa=1.5, xi=0.01, n_points=500, multi_point_strategy="cl_max",
        n_initial_points=7, initial_point_generator="lhs", initial_points=[{"x0": 1.0}], filter_failures="mean",
        max_failures=None, objective_scaler="log", scheduler={"type": "bandit", "delta": 0.1, "lamb": 0.3},
        default_first=False,
    )  # fmt: skip
    new = settings.to_cbo({
        "acq_func_kwargs": {
            "kappa": 2.0, "xi": 0.1,
            "scheduler": {"type": "periodic-exp-decay", "period": 25, "kappa_final": 0.01, "xi_final": 1e-4,
                          "rate": None, "delay": "n-initial-points", "delta": 0.05, "lamb": 0.2},
        },
        "acq_optimizer": "mixedga",
        "acq_optimizer_kwargs": {"n_points": 300, "filter_failures": "max", "max_total_failures": 5, "ga_pop_size": 10},
    })  # fmt: skip
    assert new == dhpo.CBO(
        kappa=2.0, xi=0.1, scheduler={"type": "periodic-exp-decay", "period": 25, "kappa_final": 0.01}, n_points=300,
        filter_failures="min", max_failures=5, default_first=False,
    )  # fmt: skip
    assert settings.to_cbo({}) == dhpo.CBO(default_first=False)


def test_what_is_not_there_is_replaced_with_a_warning():
    with pytest.warns(UserWarning, match="surrogate_model='MF' is not available: 'ET' is used"):
        assert settings.to_cbo({"surrogate_model": "MF"}).surrogate_model == "ET"
    with pytest.warns(UserWarning, match="acq_func='MES' is not available: 'EI' is used"):
        CBO(problem(), sphere, acq_func="MES")


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="kapa"):
        CBO(problem(), sphere, kapa=1.0)
    with pytest.raises(TypeError, match="ga_size"):
        CBO(problem(), sphere, acq_optimizer_kwargs={"ga_size": 1})
    with pytest.raises(SettingError, match="acq_func"):
        CBO(problem(), sphere, acq_func="LUCK")
