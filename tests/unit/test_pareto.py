from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from dhpo import pareto
from dhpo.errors import SettingError

quick = settings(deadline=None, max_examples=80)
INF, NAN = np.inf, np.nan


@st.composite
def costs(draw: st.DrawFn, values: st.SearchStrategy[float], max_size: int = 25, min_size: int = 0) -> np.ndarray:
    m = draw(st.integers(1, 4))
    rows = draw(st.lists(st.tuples(*[values] * m), min_size=min_size, max_size=max_size))
    return np.array(rows, dtype=float).reshape(len(rows), m)


small = st.integers(0, 6).map(float)
wild = st.one_of(small, st.sampled_from([INF, -INF, NAN, -0.0, 1e308, -1e308, 5e-324]))


def slow_front(array: np.ndarray, strict: bool) -> list[bool]:
    def beaten(row: np.ndarray) -> bool:
        others = [o for o in array if not np.isnan(o).any()]
        if strict:
            return any((o < row).all() for o in others)
        return any((o <= row).all() and (o < row).any() for o in others)

    return [not np.isnan(row).any() and not beaten(row) for row in array]


class TestDominates:
    @pytest.mark.parametrize(
        ("a", "b", "expected"),
        [
            ([1, 1], [1, 1], False),
            ([1, 1], [1, 2], True),
            ([1, 2], [1, 1], False),
            ([0, 3], [1, 2], False),
            ([-INF, 0], [INF, 0], True),
            ([NAN, 0], [1, 1], False),
            ([0, 0], [NAN, 1], False),
        ],
    )
    def test_cases(self, a: list[float], b: list[float], expected: bool) -> None:
        assert pareto.dominates(a, b) is expected


class TestNonDominated:
    @quick
    @given(costs(wild), st.booleans())
    def test_equals_the_definition(self, array: np.ndarray, strict: bool) -> None:
        assert pareto.non_dominated(array, strict=strict).tolist() == slow_front(array, strict)

    @quick
    @given(costs(small), st.booleans())
    def test_unique_keeps_the_first_of_equal_points(self, array: np.ndarray, strict: bool) -> None:
        mask = pareto.non_dominated(array, strict=strict)
        seen: set[tuple[float, ...]] = set()
        expected = []
        for row, kept in zip(map(tuple, array), mask, strict=True):
            expected.append(bool(kept) and row not in seen)
            seen.add(row)
        assert pareto.non_dominated(array, strict=strict, unique=True).tolist() == expected

    @pytest.mark.parametrize(
        ("rows", "strict", "expected"),
        [
            ([(-1, -1), (-1, -1)], True, [True, True]),  # duplicates are both kept
            ([(-1, 1), (-1, 2), (0, 2)], True, [True, True, False]),  # a tie in one objective is kept, where strict
            ([(-1, 1), (-1, 2), (0, 2)], False, [True, False, False]),
            ([(INF, 0), (INF, 1), (0, INF)], False, [True, False, True]),
            ([(-0.5, NAN), (-1, -1)], True, [False, True]),
            ([(-1, -1), (-2, NAN)], True, [True, False]),  # a NaN does not win
            ([(NAN, NAN), (-1, -1)], True, [False, True]),
            ([(NAN, 1)], False, [False]),
        ],
    )
    def test_known_edge_cases(self, rows: list[tuple[float, float]], strict: bool, expected: list[bool]) -> None:
        assert pareto.non_dominated(rows, strict=strict).tolist() == expected

    @pytest.mark.parametrize("strict", [False, True])
    def test_single_objective_keeps_all_tied_best(self, strict: bool) -> None:
        assert pareto.non_dominated([[2], [1], [3], [1]], strict=strict).tolist() == [False, True, False, True]

    def test_empty(self) -> None:
        assert pareto.non_dominated([]).tolist() == []
        assert pareto.non_dominated(np.empty((0, 3))).shape == (0,)

    def test_many_rows_in_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        array = np.random.default_rng(0).integers(0, 30, (500, 3)).astype(float)
        expected = pareto.non_dominated(array, strict=True)
        monkeypatch.setattr(pareto, "_COMPARISONS", 50)
        assert_array_equal(pareto.non_dominated(array, strict=True), expected)
        assert expected.tolist() == slow_front(array, True)

    @pytest.mark.parametrize("bad", [[1.0, 2.0], np.empty((3, 0)), np.zeros((2, 2, 2))])
    def test_refuses_what_is_no_matrix(self, bad: object) -> None:
        with pytest.raises(SettingError, match="shape"):
            pareto.non_dominated(bad)  # type: ignore[arg-type]


class TestRank:
    @quick
    @given(costs(wild))
    def test_peels_fronts(self, array: np.ndarray) -> None:
        ranks = pareto.non_dominated_rank(array)
        left = ~np.isnan(array).any(axis=1)
        expected = np.full(len(array), -1)
        level = 0
        while left.any():
            rows = np.flatnonzero(left)
            front = rows[slow_front(array[rows], False)]
            expected[front] = level
            left[front] = False
            level += 1
        expected[expected == -1] = max(level, 1)
        assert_array_equal(ranks, expected)

    def test_nan_is_never_first(self) -> None:
        assert pareto.non_dominated_rank([[NAN, 1]]).tolist() == [1]
        assert pareto.non_dominated_rank([[1, 1], [NAN, 0], [2, 2]]).tolist() == [0, 2, 1]


class TestCrowding:
    def test_by_hand(self) -> None:
        front = [[0, 10], [1, 6], [4, 5], [10, 0]]
        assert_allclose(pareto.crowding_distance(front), [INF, 0.4 + 0.5, 0.9 + 0.6, INF], rtol=1e-6)

    def test_equal_points_share(self) -> None:
        front = [[0, 4], [1, 1], [1, 1], [4, 0]]
        assert_allclose(pareto.crowding_distance(front), [INF, 2, 2, INF])

    def test_without_variation_all_are_alone(self) -> None:
        assert pareto.crowding_distance([[1, 1], [1, 1]]).tolist() == [INF, INF]
        assert pareto.crowding_distance(np.empty((0, 2))).shape == (0,)
        assert pareto.crowding_distance([[1, 0], [1, 5], [1, 10]]).tolist() == [INF, 1, INF]

    @quick
    @given(costs(small, min_size=1), st.randoms(use_true_random=False))
    def test_order_of_rows_does_not_matter(self, array: np.ndarray, random: object) -> None:
        order = list(range(len(array)))
        random.shuffle(order)  # type: ignore[attr-defined]
        assert_array_equal(pareto.crowding_distance(array[order]), pareto.crowding_distance(array)[order])

    def test_refuses_infinities(self) -> None:
        with pytest.raises(SettingError, match="finite"):
            pareto.crowding_distance([[INF, 1]])


def slow_eps_net(array: np.ndarray) -> list[tuple[float, ...]]:
    """The greedy order, with fractions in place of floating-point numbers."""
    rows = sorted(tuple(map(int, row)) for row in array)
    low, high = np.min(rows, axis=0), np.max(rows, axis=0)
    unit = [
        tuple(Fraction(int(c - lo), int(hi - lo) or 1) for c, lo, hi in zip(r, low, high, strict=True)) for r in rows
    ]
    left = list(range(len(rows)))
    chosen = [min(left, key=lambda i: sum(u * u for u in unit[i]))]
    while len(chosen) < len(rows):
        left.remove(chosen[-1])
        gaps = [min(sum((a - b) ** 2 for a, b in zip(unit[i], unit[c], strict=True)) for c in chosen) for i in left]
        chosen.append(left[gaps.index(max(gaps))])
    return [rows[i] for i in chosen]


class TestEpsNet:
    def test_starts_with_the_compromise_then_goes_to_the_ends(self) -> None:
        front = np.array([[0, 100], [1, 50], [2, 20], [5, 10], [10, 0]])
        assert pareto.eps_net_order(front)[0] == 2
        assert set(pareto.eps_net_order(front)[1:3]) == {0, 4}

    @quick
    @given(costs(st.integers(0, 8).map(float), max_size=9, min_size=1))
    def test_is_the_greedy_order(self, array: np.ndarray) -> None:
        m = array.shape[1]
        array = np.vstack([array, np.zeros(m), np.full(m, 8.0)])  # in eighths, so that what ties does so exactly
        assert [tuple(map(int, row)) for row in array[pareto.eps_net_order(array)]] == slow_eps_net(array)

    @quick
    @given(costs(small, min_size=1), st.randoms(use_true_random=False))
    def test_order_of_rows_does_not_matter(self, array: np.ndarray, random: object) -> None:
        order = list(range(len(array)))
        random.shuffle(order)  # type: ignore[attr-defined]
        shuffled = array[order]
        assert_array_equal(shuffled[pareto.eps_net_order(shuffled)], array[pareto.eps_net_order(array)])

    @quick
    @given(costs(small, min_size=1), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
    def test_scale_does_not_matter(self, array: np.ndarray, factor: float, shift: float) -> None:
        moved = array.copy()
        moved[:, 0] = moved[:, 0] * factor + shift
        assert_array_equal(pareto.eps_net_order(moved), pareto.eps_net_order(array))

    @quick
    @given(st.lists(st.tuples(small, small), min_size=1, max_size=25))
    def test_two_objectives_are_ordered_as_three_of_which_one_is_constant(
        self, rows: list[tuple[float, float]]
    ) -> None:
        """A front of two objectives takes a shorter way."""
        array = np.array(rows)
        steps = np.sort(np.cumsum(array, axis=0), axis=0)
        for chain in (np.column_stack([steps[:, 0], -steps[:, 1]]), array):
            constant = np.column_stack([chain, np.ones(len(chain))])
            assert_array_equal(pareto.eps_net_order(chain), pareto.eps_net_order(constant))

    def test_limit(self) -> None:
        front = np.random.default_rng(0).random((30, 2))
        whole = pareto.eps_net_order(front)
        assert_array_equal(pareto.eps_net_order(front, 7), whole[:7])
        assert_array_equal(pareto.eps_net_order(front, 99), whole)
        assert sorted(whole) == list(range(30))
        assert pareto.eps_net_order(np.empty((0, 2))).tolist() == []

    def test_every_beginning_covers_the_front(self) -> None:
        """The covering radius of k greedy points is at most twice the best possible (Gonzalez 1985)."""
        x = np.linspace(0, 1, 9)
        front = np.column_stack([x, 1 - x])
        for k in range(1, 9):
            chosen = pareto.eps_net_order(front, k)

            def radius(centres: np.ndarray) -> float:
                gaps = np.linalg.norm(front[:, None] - front[centres], axis=2)
                return float(gaps.min(axis=1).max())

            best = min(radius(np.array(c)) for c in combinations(range(9), k))
            assert radius(chosen) <= 2 * best + 1e-12

    def test_refuses_nan(self) -> None:
        with pytest.raises(SettingError, match="finite"):
            pareto.eps_net_order([[NAN, 1]])


def slow_hypervolume(array: np.ndarray, reference: np.ndarray) -> float:
    """Count unit cells: for whole numbers."""
    cells = np.stack(np.meshgrid(*[np.arange(r) for r in reference], indexing="ij"), axis=-1).reshape(
        -1, len(reference)
    )
    return float((array[:, None] <= cells).all(axis=2).any(axis=0).sum()) if len(array) else 0.0


class TestHypervolume:
    @quick
    @given(costs(small))
    def test_counts_cells(self, array: np.ndarray) -> None:
        reference = np.array([5, 4, 6, 3][: array.shape[1]])
        assert pareto.hypervolume(array, reference) == pytest.approx(slow_hypervolume(array, reference))

    def test_rows_that_are_not_finite_count_for_nothing(self) -> None:
        assert pareto.hypervolume([[NAN, 0], [-INF, 0], [1, 1], [0, 9]], [2, 2]) == 1.0
        assert pareto.hypervolume(np.empty((0, 2)), [2, 2]) == 0.0

    @quick
    @given(costs(wild), st.integers(1, 9))
    def test_trace_is_the_hypervolume_of_every_beginning(self, array: np.ndarray, block: int) -> None:
        reference = np.array([5.0, 4.0, 6.0, 3.0][: array.shape[1]])
        array = np.where(np.abs(array) == 1e308, NAN, array)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pareto, "_TRACE_BLOCK", block)
            trace = pareto.hypervolume_trace(array, reference)
        expected = [pareto.hypervolume(array[: i + 1], reference) for i in range(len(array))]
        assert_allclose(trace, expected, rtol=1e-12)
        assert (np.diff(trace) >= 0).all()

    def test_trace_of_thousands_of_rows(self) -> None:
        array = np.random.default_rng(0).random((5000, 3))
        trace = pareto.hypervolume_trace(array, [1.0, 1.0, 1.0])
        assert trace[-1] == pytest.approx(pareto.hypervolume(array, [1.0, 1.0, 1.0]))

    @pytest.mark.parametrize("reference", [[1.0], [1.0, 2.0, 3.0], [1.0, NAN], 1.0])
    def test_refuses_a_reference_point_that_does_not_fit(self, reference: object) -> None:
        for function in (pareto.hypervolume, pareto.hypervolume_trace):
            with pytest.raises(SettingError, match="reference point"):
                function([[0.0, 0.0]], reference)  # type: ignore[arg-type]


class TestReferencePoint:
    def test_is_a_tenth_of_the_range_worse_than_the_worst(self) -> None:
        assert_allclose(pareto.reference_point([[0, -4], [10, -2], [NAN, 50]]), [11, -1.8])

    def test_without_a_range(self) -> None:
        assert_allclose(pareto.reference_point([[-5.0, 0.0]], margin=0.2), [-4.0, 0.2])

    @quick
    @given(costs(small, min_size=1))
    def test_every_point_counts(self, array: np.ndarray) -> None:
        assert (array < pareto.reference_point(array)).all()

    def test_refuses_what_has_no_finite_row(self) -> None:
        with pytest.raises(SettingError, match="no finite row"):
            pareto.reference_point([[NAN, 1.0]])
