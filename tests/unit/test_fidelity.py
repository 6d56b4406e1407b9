"""Where the model sees resources, and at which of them proposals are judged."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from dhpo import Search
from dhpo.errors import SettingError
from dhpo.objectives import Objectives
from dhpo.ranks import rank_correlation
from dhpo.searchers import CBO
from dhpo.searchers.base import Foresees
from dhpo.searchers.fidelity import resource_axis
from dhpo.space import HpProblem
from dhpo.stopping import Hyperband
from dhpo.stopping.base import FirstJudged, NeverStop, bracket_of
from dhpo.trial import Observation, Phase

LEVELS = (1.0, 3.0, 9.0, 27.0)
quick = settings(deadline=None, max_examples=40)


def log_of(*columns: np.ndarray) -> np.ndarray:
    """Every trial at every level, one column of costs for each."""
    n = len(columns[0])
    return np.vstack([np.column_stack([np.arange(n), np.full(n, r), c]) for r, c in zip(LEVELS, columns, strict=False)])


class TestRankCorrelation:
    @quick
    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
    def test_is_spearmans(self, pairs: list[tuple[int, int]]) -> None:
        a, b = np.array(pairs, dtype=float).T
        expected = 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else spearmanr(a, b).statistic
        assert rank_correlation(a, b) == pytest.approx(expected, abs=1e-9)

    def test_of_nothing(self) -> None:
        assert rank_correlation(np.empty(0), np.empty(0)) == 0.0


class TestAxis:
    def test_is_the_log_scale_where_rungs_agree(self) -> None:
        quality = np.random.default_rng(0).random(40)
        axis = resource_axis(log_of(quality, quality, quality, quality), 1.0, 27.0)
        np.testing.assert_allclose(axis.at(np.array(LEVELS)), [0, 1 / 3, 2 / 3, 1], atol=1e-9)
        assert axis.at(np.array([np.sqrt(27.0)]))[0] == pytest.approx(0.5)

    def test_a_rung_that_says_nothing_lies_far_away(self) -> None:
        rng = np.random.default_rng(0)
        quality = rng.random(60)
        axis = resource_axis(log_of(rng.random(60), quality, quality, quality), 1.0, 27.0)
        places = axis.at(np.array(LEVELS))
        np.testing.assert_allclose(places[1:], [1 / 3, 2 / 3, 1], atol=1e-9)
        assert places[0] < -0.5

    def test_the_plain_scale_may_be_asked_for(self) -> None:
        rng = np.random.default_rng(0)
        axis = resource_axis(log_of(rng.random(60), rng.random(60)), 1.0, 27.0, measured=False)
        np.testing.assert_allclose(axis.at(np.array(LEVELS)), [0, 1 / 3, 2 / 3, 1], atol=1e-9)

    def test_objectives_share_in_the_agreement(self) -> None:
        rng = np.random.default_rng(0)
        first, second = rng.random((2, 80))
        rows = [np.column_stack([np.arange(80), np.full(80, r), a, b])
                for r, a, b in ((1.0, first, second), (27.0, first, rng.random(80)))]  # fmt: skip
        assert -2.0 < resource_axis(np.vstack(rows), 1.0, 27.0).at(np.array([1.0]))[0] < -0.4

    @quick
    @given(
        st.lists(st.tuples(st.integers(0, 9), st.sampled_from([*LEVELS, 2.5, np.nan]), st.floats(-5, 5)), max_size=80)
    )
    def test_grows_with_the_resource_and_ends_at_one(self, entries: list[tuple[int, float, float]]) -> None:
        log = np.array(entries, dtype=float).reshape(-1, 3)
        axis = resource_axis(log, 1.0, 27.0)
        resources = np.linspace(1.0, 27.0, 50)
        assert (np.diff(axis.at(resources)) > 0).all()
        assert axis.at(np.array([27.0]))[0] == 1.0
        assert axis.at(np.array([1e-12]))[0] == axis.at(np.array([1.0]))[0]


def curves(problem: HpProblem, n: int) -> list[Observation]:
    """A first rung that misleads: the best at 1 are the worst at 9."""
    rows = np.random.default_rng(0).random(n)
    made = []
    for k, x in enumerate(rows.tolist()):
        made += [Observation(k, {"x": x}, Phase.PENDING), Observation(k, {"x": x}, Phase.RUNG, 1, ((x - 0.9) ** 2,))]
        made.append(Observation(k, {"x": x}, Phase.ENDED, 9, ((x - 0.1) ** 2,)))
    return made


def proposed(n: int = 12, **arguments: Any) -> np.ndarray:
    problem = HpProblem()
    problem.add_hyperparameter((0.0, 1.0), "x")
    state = CBO(default_first=False, random_fraction=0.0, acq_func="UCB", kappa=0.1, **arguments).bind(
        problem, Objectives.parse({"loss": "MIN"}), seed=0, max_t=9
    )
    assert isinstance(state, Foresees)
    state.foresee(FirstJudged(Hyperband(max_t=9).bind(1, max_t=9, seed=0), 0))
    state.observe(curves(problem, 30))
    state = pickle.loads(pickle.dumps(state))
    return np.array([p.config["x"] for p in state.propose(range(100, 100 + n))])


class TestWherePredictionsCount:
    def test_at_the_end_by_default(self) -> None:
        assert np.abs(proposed() - 0.1).min() < 0.05
        assert np.abs(proposed() - 0.9).min() > 0.2

    def test_or_where_the_trial_is_judged_first(self) -> None:
        assert np.abs(proposed(acq_resource="first") - 0.9).min() < 0.05

    def test_or_where_enough_trials_were_seen(self) -> None:
        assert np.abs(proposed(acq_resource="observed") - 0.1).min() < 0.05

    def test_observed_falls_back_to_lower_resources(self) -> None:
        problem = HpProblem()
        problem.add_hyperparameter((0.0, 1.0), "x")
        state = CBO(default_first=False, acq_resource="observed").bind(
            problem, Objectives.parse({"loss": "MIN"}), seed=0, max_t=9
        )
        seen = [o for o in curves(problem, 20) if o.phase is not Phase.ENDED or o.trial < 2]
        state.observe(seen)
        assert state._history.largest_seen(3) == 1.0
        assert state._history.largest_seen(2) is None  # two have come to the end
        assert state._history.largest_seen(21) is None

    def test_wrong_choices_are_refused(self) -> None:
        with pytest.raises(SettingError, match="acq_resource='last'"):
            CBO(acq_resource="last")
        with pytest.raises(SettingError, match="rung_trust=1"):
            CBO(rung_trust=1)


class TestFirstJudged:
    def test_is_what_the_study_draws(self) -> None:
        search = Search({"x": (0.0, 1.0)}, _steps, objectives={"loss": "MIN"}, cluster="serial", random_state=5,
                        searcher=CBO(acq_resource="first"), stopper=Hyperband("step", 9, brackets=3))  # fmt: skip
        results = search.run(num_trials=30, progress=False)
        first = FirstJudged(Hyperband("step", 9, brackets=3).bind(1, max_t=9, seed=5), 5)
        levels = {0: 1, 1: 3, 2: None}
        drawn = [first.at(number) for number in range(30)]
        assert drawn == [levels[history[0]["bracket"]] for history in results.training_history.values()]
        assert set(drawn) == {1, 3, None}

    def test_nobody_is_judged(self) -> None:
        assert FirstJudged(NeverStop(), 0).at(3) is None
        assert bracket_of(NeverStop(), 0, 3) == 0


def _steps(config: Any, report: Any) -> None:
    for step in range(1, 10):
        report(step=step, loss=(config.x - 0.5) ** 2 + 1 / step)
