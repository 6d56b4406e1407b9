"""When the model is fitted, to which observations, and that nothing but the observations decides it."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo.objectives import Objectives
from dhpo.pareto import hypervolume
from dhpo.searchers import CBO
from dhpo.searchers.acquisition import HEDGED
from dhpo.searchers.ehvi import expected_hypervolume_improvement
from dhpo.searchers.fitting import fitted_at, kernel_found_at
from dhpo.searchers.gaussian_process import GaussianProcess
from dhpo.searchers.history import History, scale
from dhpo.searchers.surrogates import fit_surrogate
from dhpo.space import HpProblem
from dhpo.trial import Observation, Phase

NO_BOUND = np.array([np.inf])


def space(d: int = 2) -> HpProblem:
    problem = HpProblem()
    for j in range(d):
        problem.add_hyperparameter((0.0, 1.0), f"x{j}")
    return problem


def observations(n: int, m: int = 1, seed: int = 0) -> list[Observation]:
    """Trials at the rungs 1, 3, 9 of 9; two of three stop at each."""
    rng = np.random.default_rng(seed)
    made: list[Observation] = []
    for k in range(n):
        config = {"x0": float(rng.random()), "x1": float(rng.random())}
        value = (config["x0"] - 0.3) ** 2 + (config["x1"] - 0.6) ** 2
        for resource, goes_on in ((1.0, k % 3 == 0), (3.0, k % 9 == 0), (9.0, False)):
            costs = tuple(value + 1.0 / resource + i * config["x0"] for i in range(m))
            made.append(Observation(k, config, Phase.RUNG if goes_on else Phase.ENDED, resource, costs))
            if not goes_on:
                break
    return made


def history(made: list[Observation]) -> History:
    record = History(space().encoding, 1, 9)
    record.observe(made)
    return record


# When ----------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 200_000))
@settings(deadline=None, max_examples=200)
def test_the_fit_in_use_is_never_old(n: int) -> None:
    start = fitted_at(n)
    assert 0 < start <= n
    assert fitted_at(start) == start
    assert n - start < max(n / 16 + 1, 1) <= n + 1
    assert n - start < 64


@given(st.integers(1, 1_000_000))
@settings(deadline=None, max_examples=200)
def test_kernels_are_kept_until_the_log_has_grown_by_an_eighth(n: int) -> None:
    start = fitted_at(n)
    found_at = kernel_found_at(start)
    assert 0 < found_at <= start
    assert fitted_at(found_at) == found_at
    assert found_at == start if start < 1_024 else start - found_at < start / 8


def test_kernels_are_found_a_few_times_only() -> None:
    assert len({kernel_found_at(fitted_at(n)) for n in range(1_024, 100_000)}) < 100


@pytest.mark.parametrize("m", [1, 2])
def test_a_fit_with_a_kernel_of_before_predicts_about_as_well(m: int) -> None:
    objectives = Objectives.parse({f"loss{i}": "MIN" for i in range(m)})
    state = CBO(n_points=100).bind(space(), objectives, seed=1, max_t=9)
    state.observe(observations(1_100, m))
    fitter, start = state._fitter, 1_088
    assert len(state._history) > start == fitted_at(start) > kernel_found_at(start)
    kept = fitter._kernels_for(start)
    assert len(kept) == m
    again = fitter._surrogates(fitter._training(start, start), start, False)
    for kernel, model in zip(kept, again, strict=True):
        assert isinstance(model, GaussianProcess)
        found = GaussianProcess(model.x, model.y, kernel=kernel)
        at = np.random.default_rng(0).random((50, model.x.shape[1]))
        old, new = found.belief(at).pool().mean, model.belief(at).pool().mean
        assert np.corrcoef(old, new)[0, 1] > 0.9


def test_a_log_that_begins_with_failures_alone_is_fitted_to() -> None:
    state = CBO(n_points=50, max_failures=None, default_first=False).bind(
        space(), Objectives.parse({"loss": "MIN"}), seed=1, max_t=None
    )
    made = [o._replace(phase=Phase.ENDED, resource=None) for o in one_per_trial(308)]
    state.observe([o._replace(phase=Phase.FAILED, costs=None) for o in made[:300]])
    state.observe(made[300:])
    assert {p.origin for p in state.propose(range(1000, 1020))} >= {"model"}


def test_refits_become_rare() -> None:
    assert len({fitted_at(n) for n in range(1, 1_001)}) < 150


@pytest.mark.parametrize("model", ["auto", "ET"])
@pytest.mark.parametrize("m", [1, 2])
def test_a_proposal_follows_from_the_observations_alone(model: str, m: int) -> None:
    objectives = Objectives.parse({f"loss{i}": "MIN" for i in range(m)})
    quiet, curious = (
        CBO(surrogate_model=model, n_points=100, random_fraction=0.0).bind(space(), objectives, seed=1, max_t=9)
        for _ in range(2)
    )
    for k, observation in enumerate(observations(90, m)):
        quiet.observe([observation])
        curious.observe([observation])
        if k % 7 == 0:
            curious.propose([1000 + k, 2000 + k])
            curious = pickle.loads(pickle.dumps(curious))
    assert quiet.propose([500, 501]) == curious.propose([500, 501])


@pytest.mark.parametrize("model", ["auto", "ET"])
def test_what_came_after_the_fit_counts(model: str) -> None:
    """A far better cost where the fit saw nothing draws the next proposals there, before the next fit."""
    made = [o for o in observations(200, seed=2) if o.resource == 1.0 and o.config["x0"] < 0.5][:97]
    assert fitted_at(97) < 97
    state = CBO(surrogate_model=model, acq_func="UCBd", kappa=0.0, random_fraction=0.0, default_first=False).bind(
        space(), Objectives.parse({"loss": "MIN"}), seed=0, max_t=None
    )
    state.observe([o._replace(phase=Phase.ENDED, resource=None) for o in made[:96]])
    before = state.propose([500])[0].config
    assert before["x0"] < 0.55
    state.observe([Observation(900, {"x0": 0.9, "x1": 0.9}, Phase.ENDED, None, (-3.0,))])
    after = state.propose([500])[0].config
    assert (after["x0"] > 0.7) is (model == "auto")  # trees learn it by the next fit


# To what -------------------------------------------------------------------------------------------------------------


def test_a_short_history_is_taken_whole_and_a_long_one_chosen_from() -> None:
    made = observations(400)
    whole = history(made[:60]).training_set(100, "min", "identity", NO_BOUND)
    assert len(whole.rows) == whole.n_chosen == 60
    record = history(made)
    training = record.training_set(100, "min", "identity", NO_BOUND, len(record) - 20)
    assert training.n_chosen == 100
    assert len(training.rows) == 120
    resources = np.array([o.resource for o in made[-20:]])
    np.testing.assert_allclose(training.resources[-20:], np.log(resources) / np.log(9))  # type: ignore[index]


def test_the_best_trials_are_kept_with_what_they_showed_before() -> None:
    made = observations(400)
    training = history(made).training_set(80, "min", "identity", NO_BOUND)
    lowest = min((o for o in made), key=lambda o: o.costs or ())
    best = np.isclose(training.rows[:, 0], lowest.config["x0"])
    assert best.sum() == 3  # at all of its rungs
    assert training.costs.max() > 1.2  # bad ones are not forgotten
    assert len({(*row, r) for row, r in zip(training.rows.tolist(), training.resources, strict=True)}) == 80  # type: ignore[arg-type]


@given(
    costs=st.lists(st.integers(-1000, 1000), min_size=3, max_size=40),
    scaler=st.sampled_from(["minmax", "log", "quantile-uniform", "half-rank", "auto"]),
)
@settings(deadline=None, max_examples=100)
def test_scaling_keeps_the_order(costs: list[int], scaler: str) -> None:
    values = np.array(costs, dtype=float)[:, None]
    scaled = scale(values, scaler)[:, 0]
    order = np.argsort(values[:, 0], kind="stable")
    assert (np.diff(scaled[order]) >= 0).all()
    ties = np.diff(values[order, 0]) == 0
    np.testing.assert_array_equal(np.diff(scaled[order])[ties], 0)
    assert np.diff(scaled[order])[~ties].min(initial=1.0) > 0
    assert np.abs(scaled).max() <= 1.001


def test_half_ranks_do_not_depend_on_how_bad_the_worse_half_is() -> None:
    good = [1.0, 2.0, 3.0, 4.0]
    mild, awful = (scale(np.array([*good, *(b * np.arange(5, 9))])[:, None], "half-rank") for b in (1.0, 1e6))
    np.testing.assert_allclose(mild[:4], awful[:4])
    np.testing.assert_allclose(mild[4:], awful[4:])
    assert mild[3] > 0.4


# The model -----------------------------------------------------------------------------------------------------------


def data(n: int, seed: int) -> tuple[Any, Any]:
    x = np.random.default_rng(seed).random((n, 2))
    return x, np.sin(5 * x[:, 0]) + x[:, 1] ** 2


def test_observing_later_equals_having_observed_before() -> None:
    x, y = data(40, 0)
    pool = data(50, 1)[0]
    model = GaussianProcess(x[:30], y[:30])
    belief = model.belief(pool)
    belief.observe(x[30:], y)
    joined = model.kernel(x, x) + model.noise * np.eye(40)
    cross = model.kernel(x, pool)
    z = (y - y.mean()) / y.std()
    expected = cross.T @ np.linalg.solve(joined, z) * y.std() + y.mean()
    np.testing.assert_allclose(belief.pool().mean, expected, atol=1e-3)
    np.testing.assert_allclose(belief.at(pool).mean, belief.pool().mean, atol=1e-9)


@pytest.mark.parametrize("model", ["GP", "ET"])
def test_a_copy_of_a_belief_is_its_own(model: str) -> None:
    x, y = data(30, 0)
    belief = fit_surrogate(model, None, x, y, np.random.default_rng(0)).belief(x)
    before = belief.pool().epistemic.copy()
    twin = belief.copy()
    twin.believe(x[:5] + 0.05)
    assert twin.pool().epistemic.sum() < before.sum()
    np.testing.assert_array_equal(belief.pool().epistemic, before)
    belief.believe(x[10:12] + 0.05)
    assert not np.array_equal(belief.pool().epistemic, twin.pool().epistemic)


# Several objectives --------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=20)
def test_the_expected_hypervolume_improvement_is_the_mean_over_draws(seed: int) -> None:
    rng = np.random.default_rng(seed)
    front, reference = rng.random((rng.integers(0, 6), 2)), np.array([1.1, 1.1])
    mean, std = rng.random((1, 2)), 0.05 + 0.3 * rng.random((1, 2))
    exact = expected_hypervolume_improvement(mean, std, front, reference)[0]

    grid = np.linspace(-3.5, 3.5, 60)
    density = np.exp(-0.5 * grid**2)
    density /= density.sum()

    old = hypervolume(front, reference) if len(front) else 0.0
    total = sum(
        p * q * (hypervolume(np.vstack([front, mean + std * [a, b]]), reference) - old)
        for a, p in zip(grid, density, strict=True)
        for b, q in zip(grid, density, strict=True)
    )
    assert exact == pytest.approx(total, rel=0.02, abs=2e-3)


def test_with_three_objectives_the_expected_improvement_is_close_to_the_exact_one() -> None:
    rng = np.random.default_rng(0)
    front, reference = rng.random((5, 3)), np.full(3, 1.1)
    means = rng.random((12, 3))
    gains = [hypervolume(np.vstack([front, mean]), reference) - hypervolume(front, reference) for mean in means]
    estimates = expected_hypervolume_improvement(means, np.full((12, 3), 1e-6), front, reference)
    assert np.corrcoef(gains, estimates)[0, 1] > 0.95
    assert estimates[np.array(gains) > 0.02].min() > 0


@pytest.mark.parametrize("acq_func", ["EHVI", "EHVId", "gp_hedge"])
def test_the_front_is_reached_and_covered(acq_func: str) -> None:
    state = CBO(acq_func=acq_func, default_first=False, n_points=200, random_fraction=0.0).bind(
        space(), Objectives.parse({"a": "MIN", "b": "MIN"}), seed=0, max_t=None
    )
    late = []
    for k in range(25):
        (proposal,) = state.propose([k])
        x, y = proposal.config["x0"], proposal.config["x1"]
        state.observe([Observation(k, proposal.config, Phase.ENDED, None, ((x - 0.2) ** 2 + y, (x - 0.8) ** 2 + y))])
        late.append((x, y))
    rows = np.array(late[12:])
    assert np.median(rows[:, 1]) < 0.1
    assert np.ptp(rows[:, 0]) > 0.3


def test_hedging_goes_where_one_of_its_functions_goes() -> None:
    objectives = Objectives.parse({"loss": "MIN"})
    made = [o._replace(phase=Phase.ENDED, resource=None) for o in observations(30) if o.resource == 1.0]

    def next_row(acq_func: str, number: int) -> tuple[float, ...]:
        state = CBO(acq_func=acq_func, multi_point_strategy="topk", random_fraction=0.0, default_first=False).bind(
            space(), objectives, seed=0, max_t=None
        )
        state.observe(made)
        return tuple(state.propose([number])[0].config.values())

    plain = {next_row(name, 100) for name in HEDGED}
    assert {next_row("gp_hedge", k) for k in range(100, 106)} <= plain


def one_per_trial(n: int) -> list[Observation]:
    return [o._replace(phase=Phase.ENDED, resource=None) for o in observations(n) if o.resource == 1.0]


def test_a_thompson_draw_passes_near_what_was_observed_and_spreads_as_the_posterior_does() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((12, 2))
    y = np.sin(4 * x[:, 0]) + x[:, 1]
    points = rng.random((40, 2))
    belief = GaussianProcess(x, y).belief(points)
    paths = [belief.path(rng) for _ in range(400)]
    at_observed = np.array([path(x) for path in paths])
    assert np.abs(at_observed.mean(axis=0) - y).max() < 0.15
    drawn, predicted = np.array([path(points) for path in paths]), belief.pool()
    np.testing.assert_allclose(drawn.mean(axis=0), predicted.mean, atol=0.2)
    assert np.corrcoef(drawn.std(axis=0), predicted.epistemic)[0, 1] > 0.9


def test_a_thompson_draw_counts_what_is_believed() -> None:
    rng = np.random.default_rng(1)
    x = rng.random((6, 2))
    belief = GaussianProcess(x, np.sin(5 * x[:, 0])).belief(x)
    far = np.array([[0.99, 0.01]])
    before = np.std([belief.path(rng)(far)[0] for _ in range(200)])
    expected = belief.at(far).mean[0]
    belief.believe(far)
    after = [belief.path(rng)(far)[0] for _ in range(200)]
    assert np.std(after) < 0.5 * before
    assert np.mean(after) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("model", ["GP", "ET", "GBRT", "DUMMY"])
def test_thompson_sampling_with_every_kind_of_model(model: str) -> None:
    state = CBO(model, acq_func="TS", n_points=200, default_first=False).bind(
        space(), Objectives.parse({"loss": "MIN"}), seed=0, max_t=None
    )
    state.observe(one_per_trial(30))
    proposals = state.propose(range(100, 110))
    assert len({tuple(p.config.values()) for p in proposals}) == 10
    assert {p.origin for p in proposals} >= {"model"}


def test_thompson_sampling_finds_the_minimum() -> None:
    state = CBO(acq_func="TS", n_points=300, default_first=False, random_fraction=0.0).bind(
        space(), Objectives.parse({"loss": "MIN"}), seed=0, max_t=None
    )
    best = np.inf
    for k in range(30):
        (proposal,) = state.propose([k])
        cost = (proposal.config["x0"] - 0.3) ** 2 + (proposal.config["x1"] - 0.7) ** 2
        state.observe([Observation(k, proposal.config, Phase.ENDED, None, (cost,))])
        best = min(best, cost)
    assert best < 1e-3


def test_an_updated_prior_draws_candidates_near_the_best() -> None:
    def candidates(update_prior: bool) -> np.ndarray:
        settings = CBO(acq_func="PI", multi_point_strategy="boltzmann", update_prior=update_prior, random_fraction=0.0)
        state = settings.bind(space(), Objectives.parse({"loss": "MIN"}), seed=0, max_t=None)
        rows = np.random.default_rng(0).random((200, 2))
        state.observe([
            Observation(k, {"x0": float(a), "x1": float(b)}, Phase.ENDED, None, (abs(a - 0.2) + abs(b - 0.2),))
            for k, (a, b) in enumerate(rows)
        ])  # fmt: skip
        fit = state._fitter.fit()
        return np.asarray(fit.pool.rows[fit.pool.parts["plain"]])

    near = np.abs(candidates(True) - 0.2).sum(axis=1)
    anywhere = np.abs(candidates(False) - 0.2).sum(axis=1)
    assert np.median(near) < 0.5 * np.median(anywhere)


def test_proposals_do_not_depend_on_how_a_batch_is_cut() -> None:
    def rows(cuts: list[int]) -> list[tuple[float, ...]]:
        state = CBO(n_points=300, default_first=False).bind(
            space(), Objectives.parse({"loss": "MIN"}), seed=3, max_t=None
        )
        state.observe(one_per_trial(30))
        made, number = [], 100
        for size in cuts:
            proposals = state.propose(range(number, number + size))
            state.observe([Observation(number + i, p.config, Phase.PENDING) for i, p in enumerate(proposals)])
            made += [tuple(p.config.values()) for p in proposals]
            number += size
        return made

    np.testing.assert_allclose(rows([12]), rows([1] * 12), rtol=1e-6)
    np.testing.assert_allclose(rows([12]), rows([5, 7]), rtol=1e-6)


def test_of_very_many_waiting_trials_the_latest_count_however_the_batch_is_cut() -> None:
    def rows(cuts: list[int]) -> list[tuple[float, ...]]:
        settings = CBO(n_points=100, default_first=False, random_fraction=0.0)
        state = settings.bind(space(), Objectives.parse({"loss": "MIN"}), seed=3, max_t=None)
        state.observe(one_per_trial(30))
        made, number = [], 100
        for size in cuts:
            proposals = state.propose(range(number, number + size))
            state.observe([Observation(number + i, p.config, Phase.PENDING) for i, p in enumerate(proposals)])
            made += [tuple(p.config.values()) for p in proposals]
            number += size
        return made

    np.testing.assert_allclose(rows([330])[-60:], rows([250, 30, 50])[-60:], rtol=1e-6)
    np.testing.assert_allclose(rows([330])[-60:], rows([33] * 10)[-60:], rtol=1e-6)


def test_a_promoted_trial_does_not_become_pending_again() -> None:
    state = CBO(default_first=False).bind(space(), Objectives.parse({"loss": "MIN"}), seed=3, max_t=None)
    made = one_per_trial(8)
    state.observe([o._replace(phase=Phase.PENDING, costs=None) for o in made])
    assert len(state._history.pending()[0]) == 8
    state.observe(made)
    state.observe([o._replace(phase=Phase.PENDING, costs=None) for o in made[:3]])
    assert len(state._history.pending()[0]) == 0
