from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.special import ndtri
from sklearn.linear_model import BayesianRidge

from dhpo.errors import ExhaustedFailuresError, SettingError
from dhpo.objectives import Objectives
from dhpo.searchers import CBO, RandomSearcher, Searcher, fit_prior
from dhpo.searchers.acquisition import Acquisition, check_scheduler, scheduled
from dhpo.searchers.base import BoundSearcher
from dhpo.searchers.cbo import SCALARISATIONS, STRATEGIES
from dhpo.searchers.gaussian_process import FIT_ROWS, GaussianProcess
from dhpo.searchers.history import History, best_rows, clip_outliers, scale
from dhpo.searchers.surrogates import fit_surrogate
from dhpo.space import HpProblem
from dhpo.trial import Observation, Phase, Proposal

ONE = Objectives.parse({"loss": "MIN"})
TWO = Objectives.parse({"a": "MIN", "b": "MIN"})


def space(**values: Any) -> HpProblem:
    problem = HpProblem()
    for name, value in values.items():
        problem.add_hyperparameter(value, name)
    return problem


def square() -> HpProblem:
    return space(x=(0.0, 1.0), y=(0.0, 1.0))


def bowl(config: Mapping[str, Any]) -> tuple[float, ...]:
    return ((config["x"] - 0.3) ** 2 + (config["y"] - 0.8) ** 2,)


def search(
    searcher: Searcher,
    problem: HpProblem,
    cost: Callable[[Mapping[str, Any]], tuple[float, ...]],
    n: int,
    *,
    batch: int = 1,
    seed: int = 0,
    objectives: Objectives = ONE,
) -> tuple[BoundSearcher, list[Proposal], list[tuple[float, ...]]]:
    state = searcher.bind(problem, objectives, seed=seed, max_t=None)
    done: list[Proposal] = []
    costs: list[tuple[float, ...]] = []
    while len(done) < n:
        numbers = range(len(done), len(done) + batch)
        proposals = state.propose(numbers)
        pairs = list(zip(numbers, proposals, strict=True))
        state.observe([Observation(k, p.config, Phase.PENDING) for k, p in pairs])
        new = [cost(p.config) for p in proposals]
        state.observe([Observation(k, p.config, Phase.ENDED, None, c) for (k, p), c in zip(pairs, new, strict=True)])
        done, costs = done + proposals, costs + new
    return state, done, costs


def best(searcher: Searcher, n: int, seeds: int = 3, **kwargs: Any) -> float:
    return float(np.mean([min(c[0] for c in search(searcher, square(), bowl, n, seed=s, **kwargs)[2])
                          for s in range(seeds)]))  # fmt: skip


@pytest.mark.parametrize(
    ("searcher", "bound"),
    [
        (CBO(default_first=False), 1e-3),
        (CBO(default_first=False, acq_func="UCB"), 1e-3),
        (CBO(default_first=False, acq_func="logEI"), 1e-3),
        (CBO(default_first=False, acq_func="EI"), 1e-3),
        (CBO(default_first=False, acq_func="PI", xi=0.01), 5e-3),
        (CBO(default_first=False, surrogate_model="ET"), 2e-2),
        (CBO(default_first=False, surrogate_model="RF"), 2e-2),
        (CBO(default_first=False, scheduler={"type": "periodic-exp-decay", "period": 10}), 2e-3),
    ],
)
def test_a_model_finds_the_bottom_of_a_bowl(searcher: CBO, bound: float) -> None:
    assert best(searcher, 25, seeds=2) < bound
    assert best(RandomSearcher(default_first=False), 25, seeds=20) > 5e-3


@pytest.mark.parametrize("model", ["TB", "GBRT", "HGBRT", "DUMMY", BayesianRidge()])
def test_every_surrogate_proposes_something_new(model: Any) -> None:
    _, done, _ = search(CBO(surrogate_model=model, n_points=100), square(), bowl, 12)
    assert len({tuple(p.config.values()) for p in done}) == 12
    assert "model" in {p.origin for p in done}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_batch_is_spread_and_no_worse_than_random(strategy: str) -> None:
    searcher = CBO(default_first=False, multi_point_strategy=strategy, random_fraction=0.0, n_points=500)
    _, done, costs = search(searcher, square(), bowl, 32, batch=8)
    assert len({tuple(p.config.values()) for p in done}) == 32
    assert min(costs)[0] < 5e-3


def test_believed_batches_spread_more_than_the_plain_best() -> None:
    def spread(strategy: str) -> float:
        searcher = CBO(multi_point_strategy=strategy, acq_func="UCBd", random_fraction=0.0)
        state, _, _ = search(searcher, square(), bowl, 8)
        x = np.array([list(p.config.values()) for p in state.propose(range(8, 18))])
        return float(np.min(np.linalg.norm(x[:, None] - x[None], axis=2) + 9 * np.eye(10), axis=1).mean())

    assert spread("qUCBd") > 3 * spread("topk")


def test_pending_trials_are_kept_clear_of() -> None:
    state, _, _ = search(CBO(random_fraction=0.0, acq_func="logEI"), square(), bowl, 4)
    (first,) = state.propose([4])
    state.observe([Observation(4, first.config, Phase.PENDING)])
    (second,) = state.propose([4])  # the same random stream
    assert max(abs(first.config[k] - second.config[k]) for k in "xy") > 0.05


def test_the_first_proposals_are_the_default_then_a_design_then_the_model() -> None:
    _, done, _ = search(CBO(random_fraction=0.0, initial_points=[{"x": 0.1, "y": 0.2}]), square(), bowl, 6)
    assert [p.origin for p in done] == ["default", "initial", "design", "model", "model", "model"]
    assert [p.n_observed for p in done] == list(range(6))


def test_no_model_is_used_before_enough_trials_have_shown_values() -> None:
    state = CBO(n_initial_points=4).bind(square(), ONE, seed=0, max_t=None)
    proposals = state.propose(range(20))
    assert len(proposals) == 20
    assert "model" not in {p.origin for p in proposals}
    state.observe([Observation(k, p.config, Phase.FAILED) for k, p in enumerate(proposals[:10])])
    assert "model" not in {p.origin for p in state.propose(range(20, 40))}


def test_asking_again_gives_the_same_also_after_pickling() -> None:
    state, done, _ = search(CBO(), square(), bowl, 10)
    asked = state.propose([10, 11, 12])
    assert state.propose([10, 11, 12]) == asked
    assert pickle.loads(pickle.dumps(state)).propose([10, 11, 12]) == asked
    assert search(CBO(), square(), bowl, 10)[1] == done
    assert search(CBO(), square(), bowl, 10, seed=1)[1] != done


def test_a_proposal_does_not_depend_on_when_others_were_asked_for() -> None:
    quiet, curious = (CBO().bind(square(), ONE, seed=3, max_t=None) for _ in range(2))
    for k in range(12):
        config = {"x": (k * 0.37) % 1, "y": (k * 0.73) % 1}
        for state in (quiet, curious):
            state.observe([Observation(k, config, Phase.ENDED, None, bowl(config))])
        curious.propose([100 + k])
    assert quiet.propose([50]) == curious.propose([50])


def test_failures_are_avoided_when_they_count_as_the_worst() -> None:
    def share_failing(how: str) -> float:
        state = CBO(filter_failures=how, default_first=False, random_fraction=0.0).bind(
            square(), ONE, seed=0, max_t=None
        )
        rng, failing = np.random.default_rng(0), 0
        for k in range(30):
            (proposal,) = state.propose([k])
            fails = proposal.config["x"] < 0.5  # where the optimum is
            costs = None if fails else (float(bowl(proposal.config)[0] + 1e-3 * rng.standard_normal()),)
            phase = Phase.FAILED if fails else Phase.ENDED
            state.observe([Observation(k, proposal.config, phase, None, costs)])
            failing += fails and k >= 10
        return failing / 20

    assert share_failing("min") < 0.6 < share_failing("ignore")


def test_a_search_that_only_fails_ends_with_a_clear_error() -> None:
    state = CBO(max_failures=3).bind(square(), ONE, seed=0, max_t=None)
    state.observe([Observation(k, {"x": 0.1 * k, "y": 0.5}, Phase.FAILED) for k in range(2)])
    assert len(state.propose([2])) == 1
    state.observe([Observation(2, {"x": 0.9, "y": 0.5}, Phase.FAILED)])
    with pytest.raises(ExhaustedFailuresError, match="max_failures=3"):
        state.propose([3])
    state.observe([Observation(3, {"x": 0.8, "y": 0.5}, Phase.ENDED, None, (1.0,))])
    assert len(state.propose([4])) == 1


def test_trials_stopped_early_inform_the_model_about_the_full_resource() -> None:
    """Costs sink with the resource; only the trend over it shows that x near 0.7 is best at the end."""
    problem = space(x=(0.0, 1.0))
    state = CBO(random_fraction=0.0, acq_func="UCBd", kappa=0.0, default_first=False).bind(
        problem, ONE, seed=0, max_t=27
    )
    for k in range(15):
        config = {"x": (k * 0.618) % 1}
        stop = 9.0 if k % 3 else 27.0
        for resource in (1.0, 3.0, 9.0, 27.0):
            if resource <= stop:
                phase = Phase.ENDED if resource == stop else Phase.RUNG
                cost = (config["x"] - 0.7) ** 2 + 1.0 / resource
                state.observe([Observation(k, config, phase, resource, (cost,))])
    (proposal,) = state.propose([15])
    assert proposal.n_observed == 15 * 3 + 5
    assert proposal.config["x"] == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize("strategy", SCALARISATIONS)
def test_two_objectives_are_traded_off_along_the_front(strategy: str) -> None:
    def cost(config: Mapping[str, Any]) -> tuple[float, ...]:
        return ((config["x"] - 0.2) ** 2 + config["y"], (config["x"] - 0.8) ** 2 + config["y"])

    searcher = CBO(moo_scalarization_strategy=strategy, default_first=False, n_points=500)
    _, done, _ = search(searcher, square(), cost, 25, objectives=TWO)
    late = np.array([list(p.config.values()) for p in done[10:]])
    assert np.median(late[:, 1]) < 0.15
    assert np.ptp(late[:, 0]) > 0.15


def test_fixed_weights_and_bounds_steer_the_trade_off() -> None:
    def cost(config: Mapping[str, Any]) -> tuple[float, ...]:
        return (config["x"], 1.0 - config["x"])

    def median_x(**kwargs: Any) -> float:
        searcher = CBO(default_first=False, random_fraction=0.0, n_points=300, **kwargs)
        done = search(searcher, space(x=(0.0, 1.0)), cost, 20, objectives=TWO)[1]
        return float(np.median([p.config["x"] for p in done[8:]]))

    assert median_x(moo_scalarization_weight=[0.9, 0.1]) < 0.4 < 0.6 < median_x(moo_scalarization_weight=[0.1, 0.9])
    assert median_x(moo_lower_bounds=[0.3, None]) < median_x(moo_lower_bounds=[None, 0.3])


def test_transfer_keeps_the_head_start_and_does_not_lose_the_end() -> None:
    def sphere(config: Mapping[str, Any]) -> tuple[float, ...]:
        return (sum((v - 0.3) ** 2 for v in config.values()),)

    means = {}
    for transfer in (False, True):
        curves = []
        for seed in range(6):
            searcher = CBO(default_first=False)
            if transfer:
                _, done, costs = search(searcher, space(x=(0.0, 1.0)), sphere, 20, seed=seed)
                with pytest.warns(UserWarning, match="q_max"):
                    prior = fit_prior(square(), [p.config for p in done], [-c[0] for c in costs])
                searcher = CBO(default_first=False, prior=prior)
            curves.append(np.minimum.accumulate([c[0] for c in search(searcher, square(), sphere, 20, seed=seed)[2]]))
        means[transfer] = np.mean(curves, axis=0)
    assert means[True][4] < 0.5 * means[False][4]
    assert means[True][19] < 1e-3


def test_a_prior_of_another_space_is_refused() -> None:
    with pytest.warns(UserWarning, match="q_max"):
        prior = fit_prior(space(x=(0.0, 1.0)), [{"x": 0.1}] * 12, [1.0] * 12)
    with pytest.raises(SettingError, match="another space"):
        CBO(prior=prior).bind(square(), ONE, seed=0, max_t=None)
    with pytest.raises(SettingError, match="prior="):
        CBO(prior=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("surrogate_model", "XYZ"), ("surrogate_model", 3), ("surrogate_model_kwargs", {"n_estimators": 3}),
        ("acq_func", "qEI"), ("acq_func", None), ("kappa", -1), ("kappa", "big"), ("xi", math.nan),
        ("scheduler", {"type": "linear"}), ("scheduler", {"type": "bandit", "period": 3}),
        ("scheduler", {"type": "bandit", "delta": 0}), ("acq_optimizer", "newton"), ("n_points", 0),
        ("multi_point_strategy", "qEI"), ("n_initial_points", 0), ("initial_point_generator", "best"),
        ("initial_points", {"x": 1}), ("filter_failures", "max"), ("max_failures", 0), ("objective_scaler", "z"),
        ("moo_scalarization_strategy", "chebyshev"), ("random_fraction", 1.5),
    ],
)  # fmt: skip
def test_an_unusable_setting_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=name):
        CBO(**{name: value})


@pytest.mark.parametrize("name", ["moo_scalarization_weight", "moo_lower_bounds"])
def test_weights_and_bounds_must_fit_the_objectives(name: str) -> None:
    with pytest.raises(SettingError, match=name):
        CBO(**{name: [1.0]}).bind(square(), TWO, seed=0, max_t=None)


def test_settings_are_json() -> None:
    odd = CBO(scheduler=lambda i, kappa: kappa, surrogate_model=BayesianRidge(), initial_points=[{"x": 1}])
    assert json.loads(json.dumps(odd.settings()))["initial_points"] == [{"x": 1}]
    assert CBO().settings() == json.loads(json.dumps(CBO().settings()))
    assert CBO().settings() != CBO(kappa=1.0).settings()
    with pytest.warns(UserWarning, match="q_max"):
        priors = [fit_prior(space(x=(0.0, 1.0)), [{"x": x}] * 12, [1.0] * 12) for x in (0.1, 0.2)]
    assert CBO(prior=priors[0]).settings() == CBO(prior=priors[0]).settings() != CBO(prior=priors[1]).settings()


# Acquisition functions -----------------------------------------------------------------------------------------------


@given(mean=st.floats(-5, 5), std=st.floats(1e-3, 5), best=st.floats(-5, 5), xi=st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_expected_improvement_equals_its_integral_and_its_logarithm_agrees(
    mean: float, std: float, best: float, xi: float
) -> None:
    m, s = np.array([mean]), np.array([std])
    z = np.linspace(-9, 9, 20_001)
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    integral = trapezoid(np.maximum(best - xi - (mean + std * z), 0) * density, z)
    ei = Acquisition.parse("EI").score(m, s, best, 0.0, xi)[0]
    assert ei == pytest.approx(integral, abs=1e-4 * std)
    if ei > 1e-12:
        assert Acquisition.parse("logEI").score(m, s, best, 0.0, xi)[0] == pytest.approx(math.log(ei), abs=1e-3)


def test_log_expected_improvement_stays_finite_and_rising() -> None:
    mean = np.geomspace(1e12, 1e-3, 500)
    scores = Acquisition.parse("logEId").score(mean, np.ones(500), 0.0, 0.0, 0.0)
    assert np.isfinite(scores).all()
    assert (np.diff(scores) > 0).all()


def test_names_tell_the_kind_of_uncertainty_and_of_kappa() -> None:
    assert Acquisition.parse("qUCBd") == ("UCB", True, True)
    assert Acquisition.parse("logEI") == ("logEI", False, False)
    assert Acquisition.parse("PId") == ("PI", True, False)


def test_schedules_of_kappa() -> None:
    decay = {"type": "periodic-exp-decay", "period": 10, "kappa_final": 0.1, "delay": 5}
    assert [round(scheduled(decay, i, 1.0, 0), 6) for i in (0, 5, 10, 15)] == [1.0, 1.0, round(0.1**0.5, 6), 1.0]
    bandit = [scheduled({"type": "bandit"}, i, 1.0, 3) for i in (3, 10, 100)]
    assert bandit[0] == pytest.approx(math.sqrt(0.4 * math.log(math.pi**2 / 0.3)))
    assert bandit == sorted(bandit)
    assert scheduled(lambda i, kappa: kappa / (i + 1), 1, 4.0, 0) == 2.0
    assert scheduled({"type": "constant"}, 9, 4.0, 0) == scheduled(None, 9, 4.0, 0) == 4.0
    check_scheduler(decay)


# Surrogates ----------------------------------------------------------------------------------------------------------


def data(n: int, d: int = 2, seed: int = 0) -> tuple[Any, Any]:
    x = np.random.default_rng(seed).random((n, d))
    return x, np.sin(5 * x[:, 0]) + x[:, 1] ** 2


def test_a_gaussian_process_interpolates_and_predicts() -> None:
    x, y = data(60)
    test, truth = data(200, seed=1)
    model = GaussianProcess(x, y)
    belief = model.belief(test)
    assert np.abs(belief.pool().mean - truth).max() < 0.1
    assert belief.at(x).epistemic.max() < 0.05
    assert (belief.pool().total >= belief.pool().epistemic).all()
    np.testing.assert_allclose(belief.at(test).mean, belief.pool().mean)


def test_noise_is_told_from_the_models_own_uncertainty() -> None:
    x, y = data(120)
    y = y + 0.3 * np.random.default_rng(1).standard_normal(120)
    for model in (fit_surrogate("GP", None, x, y, np.random.default_rng(0)),
                  fit_surrogate("RF", {"min_samples_leaf": 5}, x, y, np.random.default_rng(0))):  # fmt: skip
        prediction = model.belief(data(200, seed=2)[0]).pool()
        noise = np.sqrt(prediction.total**2 - prediction.epistemic**2)
        assert 0.1 < np.median(noise) < 0.5


@pytest.mark.parametrize("model", ["GP", "ET", "HGBRT", "DUMMY"])
def test_what_is_believed_loses_uncertainty_but_keeps_its_mean(model: str) -> None:
    x, y = data(30)
    points = data(40, seed=3)[0]
    belief = fit_surrogate(model, None, x, y, np.random.default_rng(0)).belief(points)
    before = belief.pool()
    belief.believe(points[:3])
    belief.believe(points[3:5])
    belief.believe(points[:0])
    after = belief.pool()
    np.testing.assert_allclose(after.mean, before.mean)
    assert (after.epistemic <= before.epistemic + 1e-9).all()
    assert after.epistemic[:5].max() < 0.2 * max(before.epistemic.max(), 1e-9)
    np.testing.assert_allclose(belief.at(points).epistemic, after.epistemic, atol=1e-5)


def test_believing_equals_refitting_with_the_predicted_costs() -> None:
    x, y = data(20)
    extra, pool = data(4, seed=5)[0], data(50, seed=6)[0]
    model = GaussianProcess(x, y)
    belief = model.belief(pool)
    belief.believe(extra)
    joined = np.vstack([x, extra])
    covariance = model.kernel(joined, joined) + (model.noise + 1e-7) * np.eye(24)
    cross = model.kernel(joined, pool)
    variance = model.variance - np.einsum("ij,ij->j", cross, np.linalg.solve(covariance, cross))
    np.testing.assert_allclose(belief.pool().epistemic, np.sqrt(np.maximum(variance, 0)) * y.std(), atol=5e-3)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (2, 3), (FIT_ROWS + 30, 2), (5, 0)])
def test_a_gaussian_process_takes_any_shape(n: int, d: int) -> None:
    x = np.random.default_rng(0).random((n, d))
    for y in (np.arange(float(n)), np.ones(n)):
        prediction = GaussianProcess(x, y).belief(x).pool()
        assert np.isfinite(prediction.mean).all()
        assert np.isfinite(prediction.total).all()


def test_repeated_rows_do_no_harm() -> None:
    x = np.repeat(data(3)[0], 20, axis=0)
    belief = GaussianProcess(x, np.arange(60.0)).belief(x)
    belief.believe(np.repeat(x[:1], 30, axis=0))
    assert np.isfinite(belief.pool().epistemic).all()


# The matrices of a fit -----------------------------------------------------------------------------------------------


def history(costs: Sequence[float], failed: int = 0) -> History:
    record = History(space(x=(0.0, 1.0)).encoding, 1, None)
    n = len(costs) + failed
    phases = [Phase.ENDED] * len(costs) + [Phase.FAILED] * failed
    record.observe(
        [Observation(i, {"x": i / n}, phase, None, (costs[i],) if i < len(costs) else None)
         for i, phase in enumerate(phases)]
    )  # fmt: skip
    return record


@pytest.mark.parametrize(("how", "imputed"), [("min", [1.0]), ("mean", [0.5]), ("ignore", [])])
def test_failures_are_imputed(how: str, imputed: list[float]) -> None:
    training = history([0.0, 2.0, 1.0], failed=1).training_set(100, how, "minmax", np.array([np.inf]))
    assert training.costs[:, 0].tolist() == [0.0, 1.0, 0.5, *imputed]
    assert len(training.rows) == 3 + len(imputed)


def test_a_long_history_keeps_the_best_and_the_latest() -> None:
    costs = np.random.default_rng(0).random(1000)
    training = history(costs.tolist()).training_set(100, "min", "identity", np.array([np.inf]))
    assert len(training.rows) == 100
    assert np.isin(np.sort(costs)[:50], training.costs).all()
    np.testing.assert_allclose(training.rows[-5:, 0], np.arange(995, 1000) / 1000)
    np.testing.assert_allclose(best_rows(training, 1)[0, 0], costs.argmin() / 1000)


def test_resources_become_a_log_scale_up_to_the_largest() -> None:
    record = History(space(x=(0.0, 1.0)).encoding, 1, 81)
    record.observe([Observation(i, {"x": 0.1 * i}, Phase.RUNG, r, (1.0,)) for i, r in enumerate((1.0, 9.0, 81.0))])
    relative = record.training_set(10, "min", "auto", np.array([np.inf])).resources
    assert relative is not None
    np.testing.assert_allclose(relative, [0.0, 0.5, 1.0])
    assert len(record.pending()[0]) == 0
    assert history([1.0, 2.0]).training_set(10, "min", "auto", np.array([np.inf])).resources is None


def test_a_report_is_replaced_by_the_end_at_the_same_resource() -> None:
    record = History(space(x=(0.0, 1.0)).encoding, 1, None)
    record.observe([Observation(0, {"x": 0.5}, Phase.RUNG, 3.0, (2.0,))])
    record.observe([Observation(0, {"x": 0.5}, Phase.ENDED, 3.0, (1.0,))])
    assert record.training_set(10, "min", "identity", np.array([np.inf])).costs.tolist() == [[1.0]]
    assert (record.n_observed, record.n_succeeded) == (2, 1)


def test_outliers_are_clipped_and_scales_reach_from_0_to_1() -> None:
    costs = np.array([*range(20), 1e9], dtype=float)[:, None]
    assert clip_outliers(costs).max() < 50
    assert (clip_outliers(costs)[:20] == costs[:20]).all()
    for scaler in ("minmax", "log", "quantile-uniform", "auto"):
        scaled = scale(costs, scaler)
        assert (scaled.min(), scaled.max()) == pytest.approx((0.0, 1.0), abs=1e-3)
        assert np.isfinite(scale(np.ones((3, 2)), scaler)).all()
    assert scale(np.array([[1.0], [1.0], [2.0]]), "quantile-uniform")[:, 0].tolist() == [0.25, 0.25, 1.0]


def test_the_fence_is_at_numpys_percentiles() -> None:
    rng = np.random.default_rng(0)
    for n in (10, 11, 12, 13, 97):
        costs = rng.lognormal(0.0, 2.0, (n, 2))
        low, high = np.percentile(costs, (25, 75), axis=0)
        np.testing.assert_allclose(clip_outliers(costs), np.minimum(costs, high + 1.5 * (high - low)), rtol=1e-12)


def test_the_worse_half_is_spread_as_a_normal_sample() -> None:
    costs = np.array([0.0, 1.0, 2.0, 3.0, 50.0, 50.0, 900.0])[:, None]
    spread = math.sqrt((9 + 4 + 1) / 4)
    quantiles = ndtri(0.5 + 0.5 * np.array([1, 1, 2]) / 3)
    expected = [0.0, 1.0, 2.0, 3.0, *(3.0 + spread * quantiles)]
    unit = (np.array(expected) - expected[0]) / (expected[-1] - expected[0])
    np.testing.assert_allclose(scale(costs, "half-rank")[:, 0], unit, rtol=1e-12)


def test_the_row_of_a_proposal_counts_for_its_own_configuration_only() -> None:
    encoding = space(x=(0.0, 1.0)).encoding
    record, config = History(encoding, 1, None), {"x": 0.25}
    row = encoding.encode([config])[0]
    record.propose(0, config, row)
    record.propose(1, config, row)
    rows = record.observe([Observation(0, {"x": 0.25}, Phase.PENDING), Observation(1, {"x": 0.75}, Phase.PENDING)])
    assert rows[:, 0].tolist() == [0.25, 0.75]
    assert record.rows[:, 0].tolist() == [0.25, 0.75]
    assert len(record.observe([Observation(0, {"x": 0.25}, Phase.ENDED, None, (1.0,))])) == 0


def test_the_default_model_needs_no_scipy() -> None:
    program = (
        "import sys, dhpo; from dhpo import Search\n"
        "Search({'x': (0.0, 1.0)}, lambda config: config.x, cluster='serial', log_dir=sys.argv[1])"
        ".run(12, progress=False)\n"
        "print([name for name in sys.modules if name.startswith(('scipy.optimize', 'scipy.linalg', 'scipy.special'))])"
    )
    with TemporaryDirectory() as directory:
        ran = subprocess.run([sys.executable, "-c", program, directory], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
