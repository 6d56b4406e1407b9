from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from dhpo.errors import SettingError
from dhpo.pareto import crowding_distance, eps_net_order, non_dominated_rank
from dhpo.scalarization import legacy_golovin, legacy_parego, legacy_random_weights, simplex_weights
from dhpo.stopping.ranking import RANKINGS, Ranking, rank_in_rung

quick = settings(deadline=None, max_examples=40)
LEGACY = tuple(name for name in RANKINGS if name.startswith("legacy"))
OWN = tuple(name for name in RANKINGS if name not in LEGACY)


@st.composite
def rungs(draw: st.DrawFn, max_size: int = 20) -> np.ndarray:
    m = draw(st.integers(2, 4))
    rows = draw(st.lists(st.tuples(*[st.integers(0, 9)] * m), min_size=1, max_size=max_size))
    return np.array(rows, dtype=float)


every_ranking = pytest.mark.parametrize("how", RANKINGS)
every_own_ranking = pytest.mark.parametrize("how", OWN)


@every_ranking
class TestEveryRanking:
    @quick
    @given(rungs())
    def test_what_dominates_never_has_the_larger_score(self, how: str, costs: np.ndarray) -> None:
        scores = rank_in_rung(costs, how)
        for row, score in zip(costs, scores, strict=True):
            assert (score <= scores[(row <= costs).all(axis=1)]).all()

    @quick
    @given(rungs(), st.randoms(use_true_random=False))
    def test_depends_on_no_order(self, how: str, costs: np.ndarray, random: object) -> None:
        order = list(range(len(costs)))
        random.shuffle(order)  # type: ignore[attr-defined]
        assert_array_equal(rank_in_rung(costs[order], how), rank_in_rung(costs, how)[order])

    @quick
    @given(rungs())
    def test_equal_points_are_equal(self, how: str, costs: np.ndarray) -> None:
        scores = rank_in_rung(np.vstack([costs, costs[::-1]]), how)
        assert_array_equal(scores[: len(costs)], scores[len(costs) :][::-1])

    def test_one_objective_is_its_own_score(self, how: str) -> None:
        assert_array_equal(rank_in_rung([[3.0], [-1.0], [2.5]], how), [3.0, -1.0, 2.5])

    def test_nothing_to_rank(self, how: str) -> None:
        assert rank_in_rung(np.empty((0, 2)), how).shape == (0,)

    def test_deterministic_and_picklable(self, how: str) -> None:
        costs = np.random.default_rng(0).random((30, 3))
        bound = Ranking(how).bind(3, seed=7)
        assert_array_equal(bound.scores(costs), Ranking(how).bind(3, seed=7).scores(costs))
        assert_array_equal(bound.scores(costs), pickle.loads(pickle.dumps(bound)).scores(costs))


@every_own_ranking
class TestOwnRankings:
    @quick
    @given(rungs(), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
    def test_scale_does_not_matter(self, how: str, costs: np.ndarray, factor: float, shift: float) -> None:
        moved = costs.copy()
        moved[:, 0] = moved[:, 0] * factor + shift
        assert_array_equal(rank_in_rung(moved, how), rank_in_rung(costs, how))

    @quick
    @given(rungs(), st.data())
    def test_window_is_exact(self, how: str, costs: np.ndarray, data: st.DataObject) -> None:
        first = data.draw(st.integers(0, len(costs) - 1))
        last = data.draw(st.integers(first, len(costs) - 1))
        bound = Ranking(how).bind(costs.shape[1], seed=0)
        whole, part = bound.scores(costs), bound.scores(costs, (first, last))
        assert_array_equal(np.sort(part)[first : last + 1], np.sort(whole)[first : last + 1])
        low, high = np.sort(whole)[[first, last]]
        inside = (whole >= low) & (whole <= high)
        assert_array_equal(part[inside], whole[inside])
        assert (part[whole < low] < low).all()
        assert (part[whole > high] > high).all()

    def test_scores_are_places(self, how: str) -> None:
        scores = rank_in_rung(np.random.default_rng(3).random((40, 2)), how)
        assert_array_equal(scores, [(scores < score).sum() for score in scores])
        assert len(set(scores)) > 25

    def test_sees_both_objectives(self, how: str) -> None:
        """Of equal accuracy, the faster one is better, which AutoGluon's scalars hardly see."""
        fast, slow = rank_in_rung([[-0.96, 0.09], [-0.96, 0.29], [-0.5, 0.05]], how)[:2]
        assert fast < slow

    def test_not_constant_with_an_objective_to_be_minimised(self, how: str) -> None:
        generator = np.random.default_rng(1)
        costs = np.column_stack([-generator.random(20), generator.random(20)])
        assert len(set(rank_in_rung(costs, how))) > 10


class TestFrontRankings:
    @quick
    @given(rungs())
    def test_fronts_come_first(self, costs: np.ndarray) -> None:
        fronts = non_dominated_rank(costs)
        for how in ("eps_net", "nsga_ii"):
            scores = rank_in_rung(costs, how)
            for front in range(fronts.max()):
                assert scores[fronts == front].max() < scores[fronts == front + 1].min()

    def test_eps_net_inside_a_front(self) -> None:
        x = np.random.default_rng(0).random(25)
        front = np.column_stack([x, -x])
        assert_array_equal(np.argsort(rank_in_rung(front, "eps_net")), eps_net_order(front))

    def test_crowding_inside_a_front(self) -> None:
        x = np.random.default_rng(0).random(25)
        front = np.column_stack([x, -x])
        lonely = crowding_distance(front)
        expected = [(lonely > d).sum() for d in lonely]
        assert_array_equal(rank_in_rung(front, "nsga_ii"), expected)
        assert (np.sort(rank_in_rung(front, "nsga_ii"))[:2] == 0).all()  # both ends

    def test_equal_points_share_a_place_and_take_as_many(self) -> None:
        costs = [[0, 1], [1, 0], [1, 0], [1, 0], [2, 2]]
        assert rank_in_rung(costs, "eps_net").tolist() == [0, 1, 1, 1, 4]
        assert rank_in_rung(costs, "nsga_ii").tolist() == [0, 0, 0, 0, 4]


class TestScalarisedRankings:
    @pytest.mark.parametrize("how", ["random_weights", "parego", "golovin"])
    def test_the_best_of_some_trade_off_come_before_all_others(self, how: str) -> None:
        corner, middle, other_corner = [0.0, 10.0], [3.0, 3.0], [10.0, 0.0]
        inferior = [[4.0, 9.0], [9.0, 4.0], [5.0, 5.0], [9.0, 9.0]]
        scores = rank_in_rung([*inferior, corner, middle, other_corner], how)
        assert set(scores[4:]) <= {0.0, 1.0, 2.0}
        assert scores[:4].min() == 3.0

    def test_the_seed_draws_the_weights(self) -> None:
        costs = np.random.default_rng(0).random((60, 3))
        scores = [rank_in_rung(costs, Ranking("random_weights", num_weights=2), seed=s) for s in (0, 1)]
        assert (scores[0] != scores[1]).any()

    def test_rho_counts_in_parego(self) -> None:
        costs = np.random.default_rng(0).random((60, 3))
        plain, summed = (rank_in_rung(costs, Ranking("parego", rho=rho)) for rho in (0.0, 50.0))
        assert (plain != summed).any()

    def test_legacy_scores_are_autogluons_scalars_negated(self) -> None:
        costs = np.random.default_rng(0).normal(size=(20, 2))
        weights = simplex_weights(100, 2, np.random.default_rng(np.random.SeedSequence(5)))
        expected = {
            "legacy_random_weights": legacy_random_weights(-costs, weights),
            "legacy_parego": legacy_parego(-costs, weights, 0.2),
            "legacy_golovin": legacy_golovin(-costs, weights),
        }
        for how in LEGACY:
            assert_array_equal(rank_in_rung(costs, Ranking(how, rho=0.2), seed=5), -expected[how])

    def test_legacy_golovin_ties_all_with_an_objective_to_be_minimised(self) -> None:
        generator = np.random.default_rng(1)
        costs = np.column_stack([-generator.random(20), generator.random(20)])
        assert set(rank_in_rung(costs, "legacy_golovin")) == {0.0}


class TestSettings:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"name": "pareto"}, "'pareto' is unknown: use one of eps_net"),
            ({"num_weights": 0}, "num_weights=0"),
            ({"num_weights": 2.5}, "num_weights=2.5"),
            ({"num_weights": True}, "num_weights=True"),
            ({"rho": -0.1}, "rho=-0.1"),
            ({"rho": float("nan")}, "rho=nan"),
        ],
    )
    def test_refusals(self, arguments: dict[str, object], message: str) -> None:
        with pytest.raises(SettingError, match=message):
            Ranking(**arguments)  # type: ignore[arg-type]

    @pytest.mark.parametrize("costs", [[[1.0, np.nan]], [[np.inf, 1.0]], [1.0, 2.0]])
    def test_refuses_costs(self, costs: list[object]) -> None:
        with pytest.raises(SettingError, match="cannot be ranked"):
            rank_in_rung(costs)  # type: ignore[arg-type]

    def test_pointwise(self) -> None:
        assert {how for how in RANKINGS if Ranking(how).bind(2, 0).pointwise} == set(LEGACY)
        assert all(Ranking(how).bind(1, 0).pointwise for how in RANKINGS)
