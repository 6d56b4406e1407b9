from __future__ import annotations

import math
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ConfigSpace
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo.errors import SettingError, TransferError
from dhpo.objectives import Objectives
from dhpo.search import Search
from dhpo.searchers import CBO, Continued, Prior, RandomSearcher, fit_prior, narrowed
from dhpo.searchers.cbo import CBOState
from dhpo.searchers.continued import observations_of
from dhpo.searchers.gaussian_process import GaussianProcess, usual_lengths
from dhpo.searchers.history import TrainingSet, scale
from dhpo.searchers.source import ROWS, SourceModel
from dhpo.searchers.transfer import FIRST, HOPE, WIDTH, Transfer
from dhpo.space import HpProblem
from dhpo.trial import Observation, Phase

ONE = Objectives.parse()


def sphere(n: int = 2) -> HpProblem:
    return HpProblem({f"x{i}": (-10.0, 10.0) for i in range(n)})


def value(config: Mapping[str, Any], optimum: float) -> float:
    return -sum((x - optimum) ** 2 for x in config.values())


def fitted(problem: HpProblem, optimum: float, n: int = 40, seed: int = 0, dimensions: int = 2, **kwargs: Any) -> Prior:
    """What a random search of a sphere has taught."""
    rows = sphere(dimensions).sample(n, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_prior(problem, rows, [value(row, optimum) for row in rows], **kwargs)


def run(
    searcher: CBO, optimum: float, seed: int, n: int, state: CBOState | None = None
) -> tuple[list[float], CBOState]:
    """A serial search of the sphere; its values."""
    problem = sphere()
    state = state or searcher.bind(problem, ONE, seed=seed, max_t=None)
    values = []
    for number in range(n):
        config = state.propose([number])[0].config
        values.append(value(config, optimum))
        state.observe([Observation(number, config, Phase.PENDING)])
        state.observe([Observation(number, config, Phase.ENDED, None, (-values[-1],))])
    return values, state


def observed(problem: HpProblem, costs: Any, n: int, seed: int = 1) -> tuple[np.ndarray[Any, Any], TrainingSet]:
    """The model inputs and the training set of ``n`` random trials with these costs of a configuration."""
    rows = problem.encoding.sample(n, np.random.default_rng(seed))
    values = np.array([costs(config) for config in problem.encoding.decode(rows)])
    return problem.encoding.features(rows), TrainingSet(rows, None, values.reshape(n, -1), np.zeros(1))


# -- what one source expects -------------------------------------------------------------------------------------------


def test_a_source_predicts_its_costs_in_the_hyperparameters_that_it_knows() -> None:
    problem = sphere(2)
    model = fitted(problem, 4.0, dimensions=1).model
    assert model is not None
    assert not model.complete
    grid = problem.encoding.encode([{"x0": x, "x1": y} for x in (-8.0, 0.0, 4.0) for y in (-9.0, 9.0)])
    predicted = model.predict(problem.encoding.features(grid)).reshape(3, 2)
    np.testing.assert_allclose(predicted[:, 0], predicted[:, 1])
    assert predicted[0, 0] > predicted[1, 0] > predicted[2, 0]


def test_a_large_source_is_thinned_but_keeps_its_best() -> None:
    problem = sphere(1)
    rows = problem.encoding.sample(5 * ROWS, np.random.default_rng(0))
    costs = np.abs(rows - 0.5)
    model = SourceModel.fit(problem.encoding, rows, costs)
    assert model is not None
    assert len(model.x) == ROWS
    assert rows[costs[:, 0].argmin()] in model.x


def test_sources_that_tell_nothing_have_no_model() -> None:
    problem = sphere(1)
    rows = problem.encoding.sample(20, np.random.default_rng(0))
    assert SourceModel.fit(problem.encoding, rows, np.ones((20, 1))) is None
    assert SourceModel.fit(problem.encoding, rows[:1], np.ones((1, 1))) is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prior = fit_prior(problem, problem.sample(20, 0), [1.0] * 20)
    state = CBO(prior=prior).bind(problem, ONE, seed=0, max_t=None)
    assert len(state.propose(range(5))) == 5


def test_several_objectives_are_predicted_by_their_pareto_rank() -> None:
    problem = sphere(1)
    rows = problem.encoding.sample(60, np.random.default_rng(0))
    costs = np.hstack([np.abs(rows - 0.3), np.abs(rows - 0.4)])
    model = SourceModel.fit(problem.encoding, rows, costs)
    assert model is not None
    inside, outside = model.predict(np.array([[0.35], [0.9]]))
    assert inside < outside


# -- which source is believed ------------------------------------------------------------------------------------------


def test_sources_start_equal_and_the_one_that_ranks_rightly_takes_over() -> None:
    problem = sphere()
    transfer = Transfer(problem.encoding, [fitted(problem, 4.0), fitted(problem, -4.0)], 100, seed=0)
    np.testing.assert_allclose(transfer.weights, [0.5, 0.5])
    assert transfer.trust == HOPE
    shares = []
    for n in (3, 24):
        inputs, training = observed(problem, lambda c: -value(c, 4.0), n)
        transfer.learn(inputs, training, n)
        shares.append(transfer.weights[0])
    assert shares[-1] > 0.95
    assert shares[-1] >= shares[0] > 0.5
    assert transfer.trust > 0.9


def test_a_source_that_is_contradicted_is_dropped() -> None:
    problem = sphere()
    transfer = Transfer(problem.encoding, [fitted(problem, 4.0)], 100, seed=0)
    inputs, training = observed(problem, lambda c: value(c, 4.0), 8)
    transfer.learn(inputs, training, 8)
    assert transfer.trust == 0.0
    assert not transfer.weights.any()
    assert not any(transfer.leads(number, 2, lambda: 1.0) for number in range(50))
    assert not any(transfer.leads(number, 8, lambda: 1.0) for number in range(FIRST + 1))
    model = transfer.surrogate(partial(GaussianProcess, inputs), inputs, training.costs[:, 0], None)
    np.testing.assert_array_equal(model.residuals, training.costs[:, 0])  # nothing is left of its mean
    assert all(transfer.leads(number, 8, lambda: 1.0) for number in range(FIRST + 1, 50))
    plain = problem.encoding.sample(4, np.random.default_rng(0))
    np.testing.assert_array_equal(transfer.sample(4, np.random.default_rng(0), plain), plain)


@given(n=st.integers(0, 60), noise=st.floats(0, 100), seed=st.integers(0, 20), weight=st.floats(0, 1))
@settings(deadline=None, max_examples=25)
def test_weights_are_shares_whatever_was_observed(n: int, noise: float, seed: int, weight: float) -> None:
    problem = sphere()
    third = Prior(problem.encoding, *BOX, weight, PRIORS[0].model)
    transfer = Transfer(problem.encoding, [*PRIORS, third], 50, seed)
    if n:
        rng = np.random.default_rng(seed)
        inputs, training = observed(problem, lambda c: -value(c, 4.0) + noise * rng.standard_normal(), n, seed)
        transfer.learn(inputs, training, n)
    total = transfer.weights.sum()
    assert (transfer.weights >= 0).all()
    assert total == pytest.approx(1.0) or total == 0.0
    assert 0.0 <= transfer.trust <= 1.0


PRIORS = (fitted(sphere(), 4.0), fitted(sphere(), -4.0))
BOX = (PRIORS[0].rows, PRIORS[0].bandwidth)


def test_costs_at_several_resources_are_compared_after_the_resource_is_taken_out() -> None:
    problem = sphere()
    transfer = Transfer(problem.encoding, [fitted(problem, 4.0)], 100, seed=0)
    inputs, training = observed(problem, lambda c: -value(c, 4.0), 30)
    resources = np.tile([0.0, 1.0], 15)
    shifted = training._replace(resources=resources, costs=training.costs + 1e4 * resources[:, None])
    transfer.learn(inputs, shifted, 30)
    assert transfer.trust > 0.8


# -- what is learnt of the lengths -------------------------------------------------------------------------------------


def log_lengths(prior: Prior) -> Any:
    assert prior.model is not None
    return np.log(prior.model.process.lengths)


def test_the_lengths_are_the_sources_where_they_know_the_input_and_the_usual_ones_elsewhere() -> None:
    problem = sphere()
    prior = fitted(problem, 4.0, dimensions=1)
    found, usual = Transfer(problem.encoding, [prior], 50, seed=0).lengths(3), usual_lengths(3)
    assert found.centre[0] == pytest.approx(log_lengths(prior)[0])
    assert found.width[0] == pytest.approx(WIDTH)
    np.testing.assert_array_equal(found.centre[1:], usual.centre[1:])  # of the second input and the resource
    np.testing.assert_array_equal(found.width[1:], usual.width[1:])


def test_lengths_are_less_certain_where_the_sources_disagree() -> None:
    problem = sphere()
    rows = sphere().sample(60, 0)
    wave = fit_prior(problem, rows, [math.sin(2.0 * row["x0"]) + row["x1"] for row in rows], q=0.8)
    smooth = PRIORS[0]
    found = Transfer(problem.encoding, [smooth, wave], 50, seed=0).lengths(2)
    np.testing.assert_allclose(found.centre, (log_lengths(smooth) + log_lengths(wave)) / 2)
    assert found.width[0] > 2 * WIDTH
    assert (found.width >= WIDTH).all()


def test_a_source_without_a_model_or_weight_says_nothing_of_the_lengths() -> None:
    problem = sphere()
    for prior in (replace(PRIORS[0], model=None), replace(PRIORS[0], weight=0.0)):
        found, usual = Transfer(problem.encoding, [prior], 50, seed=0).lengths(2), usual_lengths(2)
        np.testing.assert_array_equal(found.centre, usual.centre)
        np.testing.assert_array_equal(found.width, usual.width)


def test_where_only_the_sources_best_was_seen_the_rest_remains_uncertain() -> None:
    problem = sphere()
    transfer = Transfer(problem.encoding, [fitted(problem, 0.0, dimensions=1)], 100, seed=0)
    seen = [(0.1, 7.0), (-0.3, -1.5), (-0.1, 9.9), (0.2, 5.2), (10.0, -10.0), (0.0, 2.7), (0.0, -6.0), (0.0, 3.7)]
    rows = problem.encoding.encode([{"x0": a, "x1": b} for a, b in seen])
    costs = scale(np.array([[(a - 3.0) ** 2 + (b - 3.0) ** 2] for a, b in seen]), "auto")
    inputs = problem.encoding.features(rows)
    transfer.learn(inputs, TrainingSet(rows, None, costs, np.zeros(1)), len(seen))
    beside = problem.encoding.features(problem.encoding.encode([{"x0": 6.0, "x1": 3.0}]))
    fit = partial(GaussianProcess, inputs)
    with_lengths = transfer.surrogate(fit, inputs, costs[:, 0], None).belief(beside).pool()
    without = transfer.surrogate(lambda y, _: fit(y), inputs, costs[:, 0], None).belief(beside).pool()
    assert with_lengths.epistemic[0] > 1.5 * without.epistemic[0]


# -- where to begin ----------------------------------------------------------------------------------------------------


def test_the_first_proposals_are_a_portfolio_of_what_the_sources_recommend() -> None:
    problem = sphere()
    searcher = CBO(default_first=False, prior=[fitted(problem, 4.0), fitted(problem, -4.0, seed=1)])
    state = searcher.bind(problem, ONE, seed=3, max_t=None)
    proposals = state.propose(range(FIRST + 1))
    assert [p.origin for p in proposals] == ["prior"] * FIRST + ["design"]
    places = [np.array([p.config["x0"], p.config["x1"]]) for p in proposals]
    # With two sources that disagree, the portfolio serves both.
    nearest = [min(np.abs(place - optimum).max() for place in places[:FIRST]) for optimum in (4.0, -4.0)]
    assert max(nearest) < 3.0


def test_where_the_source_lacks_a_hyperparameter_that_one_keeps_its_own_distribution() -> None:
    problem = sphere()
    state = CBO(default_first=False, prior=fitted(problem, 4.0, dimensions=1)).bind(problem, ONE, seed=0, max_t=None)
    configs = [p.config for p in state.propose(range(60)) if p.origin == "prior"]
    assert len(configs) > 30
    assert abs(np.mean([c["x0"] for c in configs]) - 4.0) < 1.0
    assert np.std([c["x1"] for c in configs]) > 4.0


def test_plain_trials_are_of_the_design_until_there_are_as_many_as_the_sources_propose() -> None:
    distrusted = CBO(default_first=False, random_fraction=0.0, prior=replace(PRIORS[0], weight=0.0))
    for searcher, n_design in ((distrusted, 2 * FIRST), (replace(distrusted, prior=None), 3)):
        state = searcher.bind(sphere(), ONE, seed=0, max_t=None)
        origins = []
        for number in range(2 * FIRST + 1):
            proposal = state.propose([number])[0]
            origins.append(proposal.origin)
            state.observe([Observation(number, proposal.config, Phase.PENDING)])
            costs = (-value(proposal.config, 4.0),)
            state.observe([Observation(number, proposal.config, Phase.ENDED, None, costs)])
        assert origins == ["design"] * n_design + ["model"] * (len(origins) - n_design)


# -- never worse -------------------------------------------------------------------------------------------------------


def test_transfer_is_ahead_at_first_and_no_worse_at_the_end() -> None:
    prior = fitted(sphere(), 4.0, dimensions=1)
    best: dict[bool, list[Any]] = {True: [], False: []}
    for seed in range(4):
        for used in best:
            values, _ = run(CBO(default_first=False, prior=prior if used else None), 4.0, seed, 14)
            best[used].append(np.maximum.accumulate(values))
    ahead, plain = (np.mean(best[used], axis=0) for used in (True, False))
    assert ahead[4] > plain[4] / 2  # both are negative
    assert ahead[-1] > plain[-1] - 0.1


@pytest.mark.parametrize(("source", "optimum", "dimensions"), [(-7.0, 5.0, 2), (-5.0, 5.0, 1), (0.0, 3.0, 1)])
def test_after_a_misleading_source_the_search_finds_its_own_way(source: float, optimum: float, dimensions: int) -> None:
    prior = fitted(sphere(), source, dimensions=dimensions)
    ends = [max(run(CBO(default_first=False, prior=prior), optimum, seed, 17)[0]) for seed in range(4)]
    assert np.median(ends) > -0.5


# -- determinism -------------------------------------------------------------------------------------------------------


def test_the_same_observations_give_the_same_proposals_also_after_pickling_and_in_another_batch() -> None:
    searcher = CBO(default_first=False, prior=list(PRIORS))
    values, state = run(searcher, 3.0, 5, 9)
    again = searcher.bind(sphere(), ONE, seed=5, max_t=None)
    assert run(searcher, 3.0, 5, 9, again)[0] == values
    assert (
        pickle.loads(pickle.dumps(state)).propose(range(9, 14))
        == again.propose(range(9, 14))
        == state.propose(range(9, 14))
    )
    batched = searcher.bind(sphere(), ONE, seed=5, max_t=None)
    told = []
    for number in range(9):
        config = again._encoding.decode(again._history.rows[number : number + 1])[0]
        told += [Observation(number, config, Phase.PENDING)]
        told += [Observation(number, config, Phase.ENDED, None, (-values[number],))]
    batched.observe(told)
    assert batched.propose([9]) == again.propose([9])


def test_a_batch_has_no_duplicates_and_mixes_led_and_plain_proposals() -> None:
    searcher = CBO(default_first=False, prior=PRIORS[0], random_fraction=0.0)
    _, state = run(searcher, 4.0, 1, 6)
    proposals = state.propose(range(6, 26))
    assert len({tuple(p.config.values()) for p in proposals}) == 20


def test_two_objectives_and_rungs_go_with_a_prior() -> None:
    problem = sphere()
    two = Objectives.parse({"a": "MIN", "b": "MIN"})
    state = CBO(default_first=False, prior=PRIORS[0]).bind(problem, two, seed=0, max_t=9.0)
    for number in range(8):
        config = state.propose([number])[0].config
        costs = (-value(config, 4.0), -value(config, 3.0))
        state.observe([Observation(number, config, Phase.PENDING), Observation(number, config, Phase.RUNG, 1.0, costs)])
        state.observe([Observation(number, config, Phase.ENDED, 9.0, costs)])
    assert len(state.propose([8, 9, 10])) == 3


def test_a_prior_of_another_kind_or_space_is_refused() -> None:
    with pytest.raises(SettingError, match="fit_prior"):
        CBO(prior="runs/earlier")  # type: ignore[arg-type]
    logarithmic = HpProblem({"x0": (0.1, 10.0, "log-uniform"), "x1": (-10.0, 10.0)})
    with pytest.raises(SettingError, match="another space"):
        CBO(prior=[PRIORS[0]]).bind(logarithmic, ONE, seed=0, max_t=None)
    with pytest.raises(SettingError, match="another space"):
        CBO(prior=[PRIORS[0]]).bind(sphere(3), ONE, seed=0, max_t=None)


# -- results of the same task ------------------------------------------------------------------------------------------


def table(n: int = 20, dimensions: int = 2, optimum: float = 4.0) -> pd.DataFrame:
    rows = sphere(dimensions).sample(n, 7)
    frame = pd.DataFrame([{f"p:{k}": v for k, v in row.items()} for row in rows])
    return frame.assign(objective=[value(row, optimum) for row in rows])


def test_told_results_feed_the_model_and_are_not_proposed_again() -> None:
    rows = sphere().sample(20, 7)
    told = observations_of(sphere(), ONE, rows, [value(row, 4.0) for row in rows[:19]] + ["F_oom"])
    assert [o.phase for o in told[-2:]] == [Phase.PENDING, Phase.FAILED]
    assert {o.trial for o in told} == set(range(-20, 0))
    state = Continued(CBO(default_first=False), told).bind(sphere(), ONE, seed=0, max_t=None)
    proposal = state.propose([0])[0]
    assert proposal.origin in ("model", "random")
    assert proposal.n_observed == 20


def test_told_results_must_have_every_hyperparameter() -> None:
    text = "Incompatible dataframe 'df' to fit surrogate model of CBO."
    with pytest.raises(TransferError, match=text):
        Search(sphere(2)).fit_surrogate(table(dimensions=1))


def test_the_settings_tell_what_was_told() -> None:
    rows = sphere().sample(3, 0)
    one, other = (observations_of(sphere(), ONE, rows, values) for values in ([1.0, 2.0, 3.0], [1.0, 2.0, 4.0]))
    first, second = (Continued(RandomSearcher(), told).settings() for told in (one, other))
    assert first["told"]["results"] == 3
    assert first != second
    assert first["searcher"] == "RandomSearcher"


# -- through Search ----------------------------------------------------------------------------------------------------


def train(config: Any) -> float:
    return value(config, 4.0)


def quietly(*args: Any, **kwargs: Any) -> Search:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Search(*args, cluster="serial", random_state=0, **kwargs)


def test_a_search_starts_ahead_of_a_frame_a_file_a_directory_results_and_a_fitted_prior(tmp_path: Path) -> None:
    earlier = quietly(sphere(), train, searcher="random", log_dir=tmp_path / "earlier")
    results = earlier.run(num_trials=12, progress=False)
    sources = [results.to_frame(), tmp_path / "earlier" / "results.csv", str(tmp_path / "earlier"), results, PRIORS[0]]
    search = quietly(sphere(), train, prior=sources)
    assert len(search.searcher.priors) == 5
    assert len({prior.digest for prior in search.searcher.priors[:4]}) == 1
    assert [prior.model is not None for prior in search.searcher.priors] == [True] * 5
    assert quietly(sphere(), train, prior=results).run(num_trials=5, progress=False).best() is not None


def test_the_directions_of_earlier_results_count() -> None:
    earlier = quietly(sphere(), lambda config: -train(config), objectives={"loss": "MIN"}, searcher="random")
    results = earlier.run(num_trials=40, progress=False)
    (prior,) = quietly(sphere(), train, prior=[results]).searcher.priors
    assert prior.model is not None
    expected = prior.model.predict(np.array([[0.7, 0.7], [0.1, 0.1]]))
    assert expected[0] < expected[1]


def test_what_cannot_be_used_shows_when_the_search_is_made(tmp_path: Path) -> None:
    for wrong in (3, "nowhere", tmp_path / "none.csv", [table(), 3]):
        with pytest.raises(TransferError):
            quietly(sphere(), train, prior=wrong)
    with pytest.raises(SettingError, match="CBO"):
        quietly(sphere(), train, searcher="random", prior=table())


def test_what_comes_too_late_is_refused() -> None:
    search = quietly(sphere(), train)
    search.run(num_trials=2, progress=False)
    for method in (search.fit_generative_model, search.fit_surrogate, search.fit_search_space):
        with pytest.raises(SettingError, match="begun"):
            method(table())


def test_told_results_are_no_trials_and_a_resumed_search_may_tell_them_again(tmp_path: Path) -> None:
    for count in (3, 5):
        search = quietly(sphere(), train, log_dir=tmp_path / "run", searcher=CBO(random_fraction=0.0))
        search.fit_surrogate(table())
        results = search.run(num_trials=count, progress=False)
        assert len(results) == count
    assert set(results.to_frame()["job_id"]) == set(range(5))
    best = results.best()
    assert best is not None
    assert best.values["objective"] > table().objective.max()


# -- a narrowed space --------------------------------------------------------------------------------------------------


def mixed() -> HpProblem:
    problem = HpProblem({"lr": (1e-5, 1.0, "log-uniform"), "k": (0, 100), "opt": ["sgd", "adam", "rms"]})
    problem.add_hyperparameter([1, 2, 4, 8], "o")
    problem.add_hyperparameter(3, "c")
    problem.add_hyperparameter((0.0, 1.0), "new")
    problem.add_condition(ConfigSpace.EqualsCondition(problem.space["k"], problem.space["opt"], "adam"))
    problem.add_forbidden_clause(ConfigSpace.ForbiddenEqualsClause(problem.space["o"], 8))
    problem.add_constraint(lambda config: config["lr"] < 0.5)
    return problem


BEST = {"lr": 1e-3, "k": 20, "opt": "adam", "o": 4}


def test_a_space_is_narrowed_around_the_best() -> None:
    problem = narrowed(mixed(), [{**BEST, "lr": 0.1}, BEST, {**BEST, "k": 90}], [0.5, 0.9, "F_x"])
    configs = problem.sample(1500, 0)
    assert problem.default_configuration == {"lr": 1e-3, "k": 20, "opt": "adam", "o": 4, "c": 3, "new": 0.5}
    exponents = np.log10([c["lr"] for c in configs])
    assert exponents.mean() == pytest.approx(-3.0, abs=0.1)
    assert exponents.std() == pytest.approx(5 * 0.125, rel=0.1)
    assert np.std([c["k"] for c in configs if "k" in c]) == pytest.approx(12.0, rel=0.2)
    assert np.mean([c["opt"] == "adam" for c in configs]) == pytest.approx(10 / 12, abs=0.05)
    assert np.mean([c["o"] == 4 for c in configs]) == pytest.approx(10 / 12, abs=0.05)
    assert np.std([c["new"] for c in configs]) == pytest.approx(math.sqrt(1 / 12), rel=0.1)
    assert all(("k" in c) == (c["opt"] == "adam") and c["o"] != 8 and c["lr"] < 0.5 for c in configs)


def test_a_range_of_one_is_narrowed_too() -> None:
    problem = narrowed(HpProblem({"x": (0.0, 1.0)}), [{"x": 0.5}], [1.0])
    assert np.std([c["x"] for c in problem.sample(1000, 0)]) == pytest.approx(0.125, rel=0.1)


def test_an_ordinal_that_is_compared_by_order_stays_one() -> None:
    problem = HpProblem({"o": [1, 2, 4], "x": (0.0, 1.0)})
    problem.add_condition(ConfigSpace.GreaterThanCondition(problem.space["x"], problem.space["o"], 1))
    again = narrowed(problem, [{"o": 2, "x": 0.3}], [1.0])
    assert again.encoding.columns[0].kind == "ordinal"
    assert all(("x" in c) == (c["o"] > 1) for c in again.sample(50, 0))


def test_of_several_objectives_one_of_the_front_is_the_centre() -> None:
    rows = [{"x": x} for x in (0.1, 0.5, 0.9)]
    directions = Objectives.parse({"a": "MAX", "b": "MIN"})
    problem = narrowed(HpProblem({"x": (0.0, 1.0)}), rows, [[1, 9], [2, 1], [1, 2]], directions=directions)
    assert problem.default_configuration == {"x": 0.5}


@pytest.mark.parametrize("factors", [{"fac_numerical": 0}, {"fac_categorical": "ten"}, {"fac_numerical": math.inf}])
def test_wrong_factors_are_refused(factors: dict[str, Any]) -> None:
    with pytest.raises(TransferError, match="positive"):
        narrowed(mixed(), [BEST], [1.0], **factors)
    with pytest.raises(TransferError, match="configurations"):
        narrowed(mixed(), [], [])


def test_a_search_in_a_narrowed_space_begins_at_the_best() -> None:
    search = quietly(sphere(), train)
    assert search.fit_search_space(table()) is search.problem
    best = table().sort_values("objective").iloc[-1]
    config = search.ask(1)[0].config
    assert config["x0"] == pytest.approx(best["p:x0"])
    search.close()
