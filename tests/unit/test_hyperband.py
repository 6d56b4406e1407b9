from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from math import floor, inf, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import spearmanr

from dhpo.errors import ReportError, SettingError
from dhpo.stopping import BoundStopper, Hyperband, NeverStop, Stopper
from dhpo.stopping.agreement import Agreement
from dhpo.stopping.hyperband import HyperbandState, RungView
from dhpo.stopping.ranking import RANKINGS, Ranking
from dhpo.trial import Decision

quick = settings(deadline=None, max_examples=40)
CONTINUE, STOP = Decision.CONTINUE, Decision.STOP
OWN = tuple(name for name in RANKINGS if not name.startswith("legacy"))
finite = st.floats(allow_nan=False, allow_infinity=False)
grid = st.integers(0, 9).map(float)


def bind(n_objectives: int = 1, seed: int = 0, **arguments: Any) -> HyperbandState:
    return Hyperband(**{"max_t": 27, **arguments}).bind(n_objectives, max_t=None, seed=seed)


def judge_all(state: HyperbandState, rows: Sequence[Sequence[float]], level: float = 1) -> list[Decision]:
    return [state.judge(trial, 0, level, tuple(row)) for trial, row in enumerate(rows)]


@st.composite
def records(draw: st.DrawFn, max_size: int = 20) -> list[tuple[float, ...]]:
    m = draw(st.integers(2, 3))
    return draw(st.lists(st.tuples(*[grid] * m), min_size=1, max_size=max_size))


class TestLevels:
    @pytest.mark.parametrize(
        ("arguments", "levels"),
        [
            ({"max_t": 50}, (1, 3, 9, 27)),
            ({"max_t": 27}, (1, 3, 9)),  # trials are complete at max_t: no decision there
            ({"max_t": 100, "grace_period": 5, "reduction_factor": 4}, (5, 20, 80)),
            ({"max_t": 10, "reduction_factor": 2.5}, (1, 2.5, 6.25)),
            ({"max_t": 0.9, "grace_period": 0.1}, (0.1, 0.3)),
            ({"max_t": 1}, ()),
            ({"max_t": 30, "rung_levels": [2, 5.5, 29]}, (2, 5.5, 29)),
            ({"max_t": 30.0, "rung_levels": (np.int64(4),)}, (4,)),
            ({"max_t": 3**40, "grace_period": 3**38}, (3**38, 3**39)),
        ],
    )
    def test_levels(self, arguments: dict[str, Any], levels: tuple[float, ...]) -> None:
        assert bind(**arguments).milestones(0) == levels

    def test_whole_levels_are_ints(self) -> None:
        levels = bind(max_t=50.0, grace_period=1.0, reduction_factor=3.0).milestones(0)
        assert [type(level) for level in levels] == [int] * 4

    def test_quantiles(self) -> None:
        assert [view.quantile for view in bind(max_t=50).rungs()] == [1 / 3, 1 / 3, 1 / 3, 27 / 50]
        assert [view.quantile for view in bind(max_t=40, rung_levels=[4, 10]).rungs()] == [0.4, 0.25]

    def test_the_settings_own_max_t_goes_first(self) -> None:
        assert bind(max_t=9).milestones(0) == (1, 3)
        assert Hyperband(max_t=9).bind(1, max_t=81, seed=0).max_t == 9
        state = Hyperband().bind(1, max_t=81, seed=0)
        assert state.max_t == 81
        assert state.milestones(0) == (1, 3, 9, 27)


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"time_attr": ""}, "time_attr=''"),
            ({"time_attr": None}, "time_attr=None"),
            ({"type": "promote"}, "'promote' is unknown: write one of 'stopping', 'promotion'"),
            ({"max_t": 0}, "max_t=0"),
            ({"max_t": inf}, "max_t=inf"),
            ({"max_t": "27"}, "max_t='27'"),
            ({"max_t": True}, "max_t=True"),
            ({"max_t": 4, "grace_period": 5}, "max_t=4 is below grace_period=5"),
            ({"grace_period": 0}, "grace_period=0"),
            ({"grace_period": nan}, "grace_period=nan"),
            ({"reduction_factor": 1}, "reduction_factor=1"),
            ({"reduction_factor": -3}, "reduction_factor=-3"),
            ({"max_t": 100, "reduction_factor": 1.001}, "more than 1000 rungs"),
            ({"brackets": 0}, "brackets=0"),
            ({"brackets": 1.5}, "brackets=1.5"),
            ({"rung_levels": []}, r"rung_levels=\[\]"),
            ({"rung_levels": 3}, "rung_levels=3"),
            ({"rung_levels": [1, 1]}, "does not ascend"),
            ({"rung_levels": [3, 1]}, "does not ascend"),
            ({"rung_levels": [0, 1]}, "a level of rung_levels=0"),
            ({"rung_levels": [1, 27], "max_t": 27}, "reaches max_t=27"),
            ({"ranking": "best"}, "ranking='best' is unknown"),
            ({"num_weights": 0}, "num_weights=0"),
            ({"rho": -1}, "rho=-1"),
        ],
    )
    def test_settings(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises(SettingError, match=message):
            Hyperband(**arguments)

    def test_max_t_that_nobody_tells(self) -> None:
        with pytest.raises(SettingError, match=r"give Hyperband\(max_t="):
            Hyperband().bind(1, max_t=None, seed=0)

    def test_max_t_of_the_space_is_checked_too(self) -> None:
        with pytest.raises(SettingError, match="below grace_period=10"):
            Hyperband(grace_period=10).bind(1, max_t=5, seed=0)
        with pytest.raises(SettingError, match="reaches max_t=9"):
            Hyperband(rung_levels=[1, 9]).bind(1, max_t=9, seed=0)

    @pytest.mark.parametrize("costs", [(nan, 1.0), (1.0, inf), (1.0,), (1.0, 2.0, 3.0)])
    def test_costs(self, costs: tuple[float, ...]) -> None:
        state = bind(2)
        with pytest.raises(ReportError, match=r"trial 7 .* at 3: a decision needs 2 finite"):
            state.judge(7, 0, 3, costs)
        assert all(view.entered == 0 for view in state.rungs())

    def test_rungs_that_do_not_exist(self) -> None:
        state = bind(brackets=2)
        with pytest.raises(SettingError, match="no rung at 1 in bracket 1"):
            state.judge(0, 1, 1, (0.0,))
        with pytest.raises(SettingError, match="bracket=2 does not exist"):
            state.judge(0, 2, 9, (0.0,))


class TestSettings:
    def test_json_form(self) -> None:
        settings = Hyperband(max_t=81.0, rung_levels=[1, 9.0], ranking="parego").settings()
        assert json.loads(json.dumps(settings)) == settings
        assert settings["stopper"] == "Hyperband"
        assert settings["rung_levels"] == [1, 9]
        assert settings["max_t"] == 81
        assert Hyperband(**{k: v for k, v in settings.items() if k != "stopper"}).settings() == settings

    def test_frozen_and_comparable(self) -> None:
        assert Hyperband(rung_levels=[1, 3]) == Hyperband(rung_levels=(1, 3))
        assert len({Hyperband(), Hyperband(grace_period=1.0), Hyperband(brackets=2)}) == 2
        with pytest.raises(AttributeError):
            Hyperband().brackets = 3  # type: ignore[misc]

    def test_protocols(self) -> None:
        for stopper in (Hyperband(max_t=9), NeverStop()):
            typed: Stopper = stopper
            state: BoundStopper = typed.bind(2, max_t=None, seed=0)
            assert state.bracket(np.random.default_rng(0)) == 0


class AutoGluonRung:
    """AutoGluon's stopping rule, spelt out, on a value to be maximised."""

    def __init__(self, quantile: float) -> None:
        self.quantile = quantile
        self.recorded: list[float] = []

    def continues(self, value: float) -> bool:
        goes_on = True
        if self.recorded:
            cutoff = np.percentile(self.recorded, (1 - self.quantile) * 100)
            goes_on = not value < cutoff
        self.recorded.append(value)
        return goes_on


class TestOneObjective:
    @quick
    @given(st.lists(st.one_of(grid, st.floats(-1e6, 1e6)), max_size=60), st.sampled_from([2, 3, 4, 1.7]))
    def test_is_autogluons_rule(self, values: list[float], factor: float) -> None:
        state = bind(max_t=50, reduction_factor=factor)
        for view in state.rungs():
            rung = AutoGluonRung(view.quantile)
            for trial, value in enumerate(values):
                decision = state.judge(trial, 0, view.level, (-value,))
                assert (decision is CONTINUE) == rung.continues(value)

    def test_by_hand(self) -> None:
        # A third goes on. Others 1, 2, 3, 4 (values -1 … -4): the quantile is the cost 2.
        state = bind()
        assert judge_all(state, [[4.0], [3.0], [2.0], [1.0]]) == [CONTINUE] * 4
        assert judge_all(state, [[2.0001]]) == [STOP]
        state = bind()
        judge_all(state, [[4.0], [3.0], [2.0], [1.0]])
        assert judge_all(state, [[2.0]]) == [CONTINUE]  # a tie goes on

    def test_the_first_goes_on_and_rungs_are_apart(self) -> None:
        state = bind()
        assert [state.judge(0, 0, level, (9.0,)) for level in (1, 3, 9)] == [CONTINUE] * 3
        assert [state.judge(1, 0, level, (9.5,)) for level in (1, 3, 9)] == [STOP] * 3

    def test_ties_go_on(self) -> None:
        assert judge_all(bind(), [[0.5]] * 20) == [CONTINUE] * 20

    @quick
    @given(st.lists(finite, min_size=1, max_size=30))
    def test_the_best_is_never_stopped(self, values: list[float]) -> None:
        state = bind()
        judge_all(state, [[value] for value in values])
        assert state.judge(99, 0, 1, (min(values),)) is CONTINUE

    @quick
    @given(st.lists(grid, min_size=1, max_size=20), grid, st.randoms(use_true_random=False))
    def test_order_of_the_recorded_does_not_matter(self, values: list[float], value: float, random: Any) -> None:
        first, second = bind(), bind()
        judge_all(first, [[v] for v in values])
        random.shuffle(values)
        judge_all(second, [[v] for v in values])
        assert first.judge(99, 0, 1, (value,)) is second.judge(99, 0, 1, (value,))

    @pytest.mark.parametrize("factor", [1.5, 3])
    def test_costs_too_far_apart_to_subtract(self, factor: float) -> None:
        for cost, decision in ((-1.7e308, CONTINUE), (1.7e308, STOP)):
            state = bind(reduction_factor=factor)
            judge_all(state, [[1.7e308], [-1.7e308]])
            assert state.judge(2, 0, 1, (cost,)) is decision

    def test_about_a_third_of_random_costs_goes_on(self) -> None:
        costs = np.random.default_rng(0).random((2000, 1))
        state = bind()
        assert judge_all(state, costs.tolist()).count(CONTINUE) == pytest.approx(667, abs=90)


@pytest.mark.parametrize("ranking", RANKINGS)
class TestSeveralObjectives:
    @quick
    @given(rows=records())
    def test_what_dominates_all_others_is_never_stopped(self, ranking: str, rows: list[tuple[float, ...]]) -> None:
        state = bind(len(rows[0]), ranking=ranking)
        judge_all(state, rows)
        best = tuple(np.min(rows, axis=0).tolist())
        assert state.judge(98, 0, 1, best) is CONTINUE  # at least as good as all
        assert state.judge(99, 0, 1, tuple(c - 1 for c in best)) is CONTINUE  # and better

    @quick
    @given(rows=records(), data=st.data())
    def test_order_of_the_recorded_does_not_matter(
        self, ranking: str, rows: list[tuple[float, ...]], data: st.DataObject
    ) -> None:
        newcomer = data.draw(st.tuples(*[grid] * len(rows[0])))
        decisions = []
        for order in (rows, data.draw(st.permutations(rows))):
            state = bind(len(newcomer), ranking=ranking)
            judge_all(state, order)
            decisions.append(state.judge(99, 0, 1, newcomer))
        assert decisions[0] is decisions[1]

    @quick
    @given(rows=records(), quantile=st.sampled_from([1.5, 2, 3, 8]))
    def test_is_the_rule_on_the_scores(self, ranking: str, rows: list[tuple[float, ...]], quantile: float) -> None:
        """Every decision equals the percentile rule on the complete scores of all that came so far."""
        state = bind(len(rows[0]), ranking=ranking, reduction_factor=quantile, seed=3)
        q = state.rungs()[0].quantile
        bound = Ranking(ranking).bind(len(rows[0]), seed=3)
        for n, row in enumerate(rows):
            merits = -bound.scores(np.array(rows[: n + 1]))
            stops = n > 0 and merits[-1] < np.percentile(merits[:-1], (1 - q) * 100)
            assert state.judge(n, 0, 1, row) is (STOP if stops else CONTINUE)

    @pytest.mark.parametrize("factor", [1.3, 2.2, 3])
    def test_is_the_rule_on_the_scores_in_a_larger_rung(self, ranking: str, factor: float) -> None:
        """With fronts of many points, all of which the rung need not order to decide."""
        rows = np.random.default_rng(0).random((90, 2))
        state = bind(2, ranking=ranking, reduction_factor=factor)
        q = state.rungs()[0].quantile
        bound = Ranking(ranking).bind(2, seed=0)
        expected = [CONTINUE]
        for n in range(1, len(rows)):
            merits = -bound.scores(rows[: n + 1])
            expected.append(STOP if merits[-1] < np.percentile(merits[:-1], (1 - q) * 100) else CONTINUE)
        assert judge_all(state, rows.tolist()) == expected

    def test_deterministic(self, ranking: str) -> None:
        rows = np.random.default_rng(0).random((60, 2)).tolist()
        decisions = [judge_all(bind(2, ranking=ranking, seed=5), rows) for _ in range(2)]
        assert decisions[0] == decisions[1]

    def test_goes_on_from_a_pickle(self, ranking: str) -> None:
        rows = np.random.default_rng(0).random((60, 2)).tolist()
        state = bind(2, ranking=ranking)
        judge_all(state, rows[:30])
        copy = pickle.loads(pickle.dumps(state))
        assert judge_all(copy, rows[30:]) == judge_all(state, rows[30:])


@pytest.mark.parametrize("ranking", OWN)
class TestOwnRankings:
    @quick
    @given(rows=records(), factors=st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3), shift=st.floats(-1e3, 1e3))
    def test_scale_does_not_matter(
        self, ranking: str, rows: list[tuple[float, ...]], factors: list[float], shift: float
    ) -> None:
        m = len(rows[0])
        moved = (np.array(rows) * factors[:m] + shift).tolist()
        assert judge_all(bind(m, ranking=ranking), rows) == judge_all(bind(m, ranking=ranking), moved)

    def test_about_a_third_goes_on_also_where_all_are_on_one_front(self, ranking: str) -> None:
        x = np.random.default_rng(0).random(300)
        state = bind(2, ranking=ranking)
        decisions = judge_all(state, np.column_stack([x, 1 - x]).tolist())
        assert 60 <= decisions.count(CONTINUE) <= 160
        cloud = np.random.default_rng(1).random((300, 2)).tolist()
        assert 60 <= judge_all(state, cloud, level=3).count(CONTINUE) <= 140


class TestFrontRankings:
    @pytest.mark.parametrize("ranking", ["eps_net", "nsga_ii"])
    @quick
    @given(rows=records())
    def test_what_dominates_the_worse_share_is_never_stopped(self, ranking: str, rows: list[tuple[float, ...]]) -> None:
        state = bind(len(rows[0]), ranking=ranking)
        quantile = state.rungs()[0].quantile
        for n, row in enumerate(rows):
            others = np.array(rows)[:n]
            dominated = ((np.array(row) <= others).all(axis=1) & (np.array(row) < others).any(axis=1)).sum()
            decision = state.judge(n, 0, 1, row)
            if n and dominated >= n - floor(quantile * (n - 1)):
                assert decision is CONTINUE

    def test_dominated_ones_stop_before_the_front_does(self) -> None:
        state = bind(2)
        judge_all(state, [[0, 2], [1, 1], [2, 0], [5, 5], [6, 6], [7, 7], [8, 8]])
        assert state.judge(90, 0, 1, (1.5, 1.5)) is STOP
        assert state.judge(91, 0, 1, (0.5, 0.5)) is CONTINUE

    def test_on_a_large_front_those_go_on_that_cover_it(self) -> None:
        """A newcomer next to the compromise adds nothing to the front; one at its end does."""
        front = [[float(x), float(20 - x)] for x in range(21)]
        crowded, end = bind(2), bind(2)
        judge_all(crowded, front)
        judge_all(end, front)
        assert crowded.judge(90, 0, 1, (10.01, 9.99)) is STOP
        assert end.judge(90, 0, 1, (-3.0, 23.0)) is CONTINUE


class TestBrackets:
    def test_milestones(self) -> None:
        state = bind(max_t=50, brackets=3)
        assert [state.milestones(b) for b in range(state.n_brackets)] == [(1, 3, 9, 27), (3, 9, 27), (9, 27)]

    @pytest.mark.parametrize(
        ("max_t", "brackets", "last"),
        [(50, 4, (27,)), (27, 4, ()), (1, 1, ())],  # a level at max_t makes a bracket without a decision
    )
    def test_no_more_than_levels(self, max_t: float, brackets: int, last: tuple[float, ...]) -> None:
        state = bind(max_t=max_t, brackets=9)
        assert state.n_brackets == brackets
        assert state.milestones(brackets - 1) == last

    def test_probabilities(self) -> None:
        state = bind(max_t=50, brackets=3)
        shares = np.array([4 / (4 * 1), 4 / (3 * 3), 4 / (2 * 9)])
        assert_allclose(state.probabilities, shares / shares.sum())
        assert sum(bind(max_t=27, brackets=4).probabilities) == pytest.approx(1)
        rng = np.random.default_rng(0)
        drawn = np.bincount([state.bracket(rng) for _ in range(5000)], minlength=3) / 5000
        assert_allclose(drawn, state.probabilities, atol=0.02)

    def test_one_bracket_draws_nothing(self) -> None:
        rng = np.random.default_rng(0)
        assert bind().bracket(rng) == 0
        assert rng.random() == np.random.default_rng(0).random()

    def test_brackets_compare_their_own_trials(self) -> None:
        state = bind(brackets=2)
        assert state.judge(0, 0, 3, (1.0,)) is CONTINUE
        assert state.judge(1, 1, 3, (2.0,)) is CONTINUE
        assert [(v.bracket, v.level, v.entered) for v in state.rungs()] == [
            (0, 1, 0), (0, 3, 1), (0, 9, 0), (1, 3, 1), (1, 9, 0),
        ]  # fmt: skip

    def test_or_share_the_rungs(self) -> None:
        state = bind(brackets=2, rung_system_per_bracket=False)
        assert state.judge(0, 0, 3, (1.0,)) is CONTINUE
        assert state.judge(1, 1, 3, (2.0,)) is STOP
        assert [(v.bracket, v.level, v.entered) for v in state.rungs()] == [(0, 1, 0), (0, 3, 2), (0, 9, 0)]
        assert_array_equal(state.costs_at(1, 3), [[1.0], [2.0]])


def run_all(state: HyperbandState, curves: dict[int, dict[float, tuple[float, ...]]]) -> dict[int, float]:
    """Each trial through its rungs, one after the other; where it was stopped (27: never)."""
    ends = {}
    for trial, curve in curves.items():
        ends[trial] = next((r for r, costs in curve.items() if state.judge(trial, 0, r, costs) is STOP), 27)
    return ends


class TestAdaptive:
    def test_a_rung_without_relation_to_the_next_lets_all_pass(self) -> None:
        rng = np.random.default_rng(0)
        quality = rng.random(300)
        curves = {k: {1: (rng.random(),), 3: (q,), 9: (q + 0.01 * rng.random(),)} for k, q in enumerate(quality)}
        state = bind(adaptive=True)
        ends = run_all(state, curves)
        first, second, last = state.rungs()
        assert first.correlation == pytest.approx(0.0, abs=0.25)
        assert first.quantile > 0.7
        assert sum(ends[k] == 1 for k in range(100, 300)) < 50  # two thirds by the textbook
        assert second.quantile < 0.5
        assert last.correlation is None
        assert ends[int(quality.argmin())] == 27

    def test_rungs_that_agree_are_the_textbooks(self) -> None:
        quality = np.random.default_rng(0).permutation(100)
        curves = {k: {r: (float(q) - r,) for r in (1, 3, 9)} for k, q in enumerate(quality)}
        assert run_all(bind(adaptive=True), curves) == run_all(bind(), curves)

    @pytest.mark.parametrize("m", [1, 2])
    def test_evidence_comes_back_though_a_rung_was_distrusted(self, m: int) -> None:
        rng = np.random.default_rng(1)
        state = bind(m, adaptive=True)
        run_all(state, {k: {1: tuple(rng.random(m)), 3: tuple(rng.random(m))} for k in range(60)})
        assert state.rungs()[0].quantile > 0.6
        costs = {k: tuple(rng.random(m)) for k in range(60, 900)}
        run_all(state, {k: {1: c, 3: c} for k, c in costs.items()})
        assert state.rungs()[0].quantile == pytest.approx(1 / 3, abs=0.03)

    def test_orders_turned_around_stop_nobody(self) -> None:
        state = bind(adaptive=True)
        run_all(state, {k: {1: (float(k % 40),), 3: (-float(k % 40),)} for k in range(200)})
        assert state.rungs()[0].quantile == 1.0

    def test_brackets_that_share_their_rungs(self) -> None:
        state = bind(adaptive=True, brackets=2, rung_system_per_bracket=False)
        rng = np.random.default_rng(0)
        for trial in range(60):
            bracket = trial % 2
            for level in state.milestones(bracket):
                if state.judge(trial, bracket, level, (rng.random(),)) is STOP:
                    break
        assert [view.correlation is None for view in state.rungs()] == [False, False, True]

    def test_one_rung_alone_is_the_textbooks(self) -> None:
        costs = np.random.default_rng(0).random((40, 1)).tolist()
        assert judge_all(bind(max_t=2, adaptive=True), costs) == judge_all(bind(max_t=2), costs)

    @quick
    @given(st.lists(st.tuples(grid, grid, grid), max_size=40))
    def test_goes_on_from_a_pickle(self, rows: list[tuple[float, float, float]]) -> None:
        state = bind(adaptive=True)
        curves = {k: dict(zip((1, 3, 9), [(c,) for c in row], strict=True)) for k, row in enumerate(rows)}
        run_all(state, dict(list(curves.items())[:20]))
        twin = pickle.loads(pickle.dumps(state))
        rest = dict(list(curves.items())[20:])
        assert run_all(twin, rest) == run_all(state, rest)

    def test_settings(self) -> None:
        assert Hyperband(max_t=9, adaptive=True).settings()["adaptive"] is True
        assert "adaptive" not in Hyperband(max_t=9).settings()  # as in journals from before it existed
        with pytest.raises(SettingError, match="adaptive=True goes with type='stopping'"):
            Hyperband(max_t=9, type="promotion", adaptive=True)


class TestAgreement:
    @quick
    @given(st.lists(st.tuples(grid, grid), min_size=3, max_size=60))
    def test_is_spearmans_correlation(self, pairs: list[tuple[float, float]]) -> None:
        agreement = Agreement(1)
        for trial, (a, b) in enumerate(pairs):
            agreement.went_on(trial, (a,))
            agreement.arrived(trial, (b,))
        x, y = np.array(pairs).T
        constant = np.ptp(x) == 0 or np.ptp(y) == 0
        measured_at = agreement._pairs[: len(pairs)]
        assert len(measured_at) == len(pairs)
        if len(pairs) < 32:  # measured at every arrival
            assert agreement.correlation == pytest.approx(0.0 if constant else spearmanr(x, y).statistic, abs=1e-9)

    def test_only_the_latest_count(self) -> None:
        agreement = Agreement(1)
        for trial in range(2000):
            agreement.went_on(trial, (float(trial),))
            agreement.arrived(trial, (float(trial if trial < 1000 else -trial),))
        assert agreement.correlation == pytest.approx(-1.0)
        assert agreement.trust == 0.0

    def test_whoever_did_not_go_on_from_here_is_passed_over(self) -> None:
        agreement = Agreement(1)
        agreement.arrived(3, (1.0,))
        assert agreement.n_pairs == 0
        assert agreement.trust == 1.0


class TestViews:
    def test_rungs(self) -> None:
        state = bind(max_t=9)
        judge_all(state, [[1.0], [2.0], [0.5]])
        assert state.rungs() == [RungView(0, 1, 1 / 3, 3, 1), RungView(0, 3, 1 / 3, 0, 0)]

    def test_costs_are_copies_in_order_of_arrival(self) -> None:
        state = bind(2)
        rows = np.random.default_rng(0).random((50, 2))  # more than the first buffer holds
        judge_all(state, rows.tolist())
        seen = state.costs_at(0, 1)
        assert_array_equal(seen, rows)
        seen[:] = 0.0
        assert_array_equal(state.costs_at(0, 1), rows)
        assert state.costs_at(0, 9).shape == (0, 2)
