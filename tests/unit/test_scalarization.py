from __future__ import annotations

from collections.abc import Callable
from math import gamma, pi

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from dhpo import scalarization as sc
from dhpo.errors import SettingError

quick = settings(deadline=None, max_examples=60)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def kraemer(n: int, m: int, generator: np.random.Generator) -> np.ndarray:
    """AutoGluon's own sampling, row by row."""
    rows = []
    for _ in range(n):
        u = np.sort(generator.random(m))
        rows.append(np.diff(np.concatenate([[0.0], u])) / u[-1])
    return np.array(rows)


class TestWeights:
    @pytest.mark.parametrize("m", [1, 2, 3, 5])
    def test_simplex(self, m: int) -> None:
        weights = sc.simplex_weights(50, m, rng())
        assert weights.shape == (50, m)
        assert (weights >= 0).all()
        assert_allclose(weights.sum(axis=1), 1.0)

    @pytest.mark.parametrize("m", [2, 3])
    def test_simplex_has_the_law_of_kraemers_sampling(self, m: int) -> None:
        ours, theirs = sc.simplex_weights(20_000, m, rng(1)), kraemer(20_000, m, rng(2))
        grid = np.linspace(0.05, 0.95, 19)
        for j in range(m):
            uniform = 1 - (1 - grid) ** (m - 1)  # the marginal of the flat Dirichlet distribution
            assert_allclose([(ours[:, j] <= g).mean() for g in grid], uniform, atol=0.015)
            assert_allclose([(theirs[:, j] <= g).mean() for g in grid], uniform, atol=0.015)

    def test_orthant(self) -> None:
        weights = sc.orthant_weights(20_000, 2, rng())
        assert (weights >= 0).all()
        assert_allclose((weights**2).sum(axis=1), 1.0)
        angles = np.arctan2(weights[:, 1], weights[:, 0]) / (pi / 2)
        for g in (0.1, 0.25, 0.5, 0.75, 0.9):
            assert (angles <= g).mean() == pytest.approx(g, abs=0.015)

    def test_seeded(self) -> None:
        assert_array_equal(sc.simplex_weights(5, 3, rng(4)), sc.simplex_weights(5, 3, rng(4)))
        assert (sc.orthant_weights(5, 3, rng(4)) != sc.orthant_weights(5, 3, rng(5))).any()


class TestNormalise:
    def test_minmax(self) -> None:
        z = sc.normalise([[10.0, -1.0], [20.0, 3.0], [12.5, 0.0]])
        assert_array_equal(z, [[0, 0], [1, 1], [0.25, 0.25]])

    def test_given_bounds_do_not_clip(self) -> None:
        assert_array_equal(sc.normalise([[0.0], [2.0], [6.0]], lower=1.0, upper=[3.0]), [[-0.5], [0.5], [2.5]])

    def test_quantile_is_the_share_of_better_ones(self) -> None:
        z = sc.normalise([[1.0, 5.0], [1000.0, 5.0], [2.0, 7.0]], method="quantile")
        assert_array_equal(z, [[0, 0], [1, 0], [0.5, 1]])

    @pytest.mark.parametrize("method", ["minmax", "quantile"])
    def test_what_does_not_vary_is_0(self, method: str) -> None:
        assert_array_equal(sc.normalise([[3.0, 1.0], [3.0, 2.0]], method=method)[:, 0], [0, 0])
        assert_array_equal(sc.normalise([[3.0, 1.0]], method=method), [[0, 0]])
        assert sc.normalise(np.empty((0, 2)), method=method).shape == (0, 2)

    def test_large_numbers_do_not_overflow(self) -> None:
        assert_array_equal(sc.normalise([[-1.7e308], [1.7e308], [0.0]]), [[0], [1], [0.5]])

    def test_refusals(self) -> None:
        with pytest.raises(SettingError, match="method='rank'"):
            sc.normalise([[1.0]], method="rank")
        with pytest.raises(SettingError, match="above upper"):
            sc.normalise([[1.0]], lower=2.0, upper=1.0)
        with pytest.raises(SettingError, match="leave them out"):
            sc.normalise([[1.0]], lower=0.0, method="quantile")
        with pytest.raises(SettingError, match="shape"):
            sc.normalise(np.zeros((2, 2, 2)))

    @quick
    @given(st.lists(st.integers(-50, 50), min_size=1, max_size=20), st.floats(0.01, 1e6), st.floats(-1e6, 1e6))
    def test_scale_does_not_matter(self, costs: list[int], factor: float, shift: float) -> None:
        array = np.array(costs, dtype=float)[:, None]
        moved = array * factor + shift
        assert_allclose(sc.normalise(moved), sc.normalise(array), atol=1e-4)
        assert_array_equal(sc.normalise(moved, method="quantile"), sc.normalise(array, method="quantile"))


Z = np.array([[0.2, 0.6], [0.5, 0.1], [0.0, 0.0], [1.0, 1.0]])
W = np.array([[0.5, 0.5], [0.9, 0.1], [0.0, 1.0]])


class TestTextbookForms:
    """Every form against its formula, spelt out for one pair at a time."""

    @pytest.mark.parametrize(
        ("form", "formula"),
        [
            (sc.linear, lambda z, w: sum(w * z)),
            (sc.chebyshev, lambda z, w: max(w * z)),
            (lambda z, w: sc.chebyshev(z, w, utopia=[-0.1, -0.2]), lambda z, w: max(w * (z - np.array([-0.1, -0.2])))),
            (sc.augmented_chebyshev, lambda z, w: max(w * z) + 0.05 * sum(w * z)),
            (lambda z, w: sc.augmented_chebyshev(z, w, rho=0.3), lambda z, w: max(w * z) + 0.3 * sum(w * z)),
            (
                sc.hypervolume_scalarization,
                lambda z, w: -(min(max(0, 1 - z[j]) / w[j] if w[j] else np.inf * (z[j] < 1) for j in (0, 1)) ** 2),
            ),
        ],
    )
    def test_formula(self, form: Callable[..., np.ndarray], formula: Callable[..., float]) -> None:
        points = Z[:3]  # (1, 1) with a weight of 0 is below
        expected = [[formula(z, w) for w in W] for z in points]
        assert_allclose(form(points, W), expected, rtol=1e-13, atol=1e-15)

    def test_pbi(self) -> None:
        values = sc.pbi(Z, W, theta=3.0)
        for i, z in enumerate(Z):
            for k, w in enumerate(W):
                unit = w / np.linalg.norm(w)
                d1 = abs(z @ w) / np.linalg.norm(w)
                assert values[i, k] == pytest.approx(d1 + 3.0 * np.linalg.norm(z - d1 * unit), abs=1e-14)

    def test_quadratic_is_the_form_with_the_weight_as_first_eigenvector(self) -> None:
        values = sc.quadratic(Z, W)
        for k, w in enumerate(W):
            basis = np.linalg.svd(w[:, None])[0]
            form = basis @ np.diag([1.0, 10.0]) @ basis.T
            for i, z in enumerate(Z):
                assert values[i, k] == pytest.approx(z @ form @ z, abs=1e-14)

    def test_hypervolume_at_the_reference_point_is_0_for_every_weight(self) -> None:
        assert_array_equal(sc.hypervolume_scalarization([[1.0, 0.2], [2.0, 0.0]], W), np.zeros((2, 3)))

    @pytest.mark.parametrize("m", [2, 3])
    def test_hypervolume_scalarisation_averages_to_the_hypervolume(self, m: int) -> None:
        points = rng(3).random((6, m))
        values = -sc.hypervolume_scalarization(points, sc.orthant_weights(200_000, m, rng(4)), reference=1.1)
        constant = pi ** (m / 2) / (2**m * gamma(m / 2 + 1))
        expected = moocore.hypervolume(points, ref=np.full(m, 1.1))
        assert constant * values.max(axis=0).mean() == pytest.approx(expected, rel=0.01)

    @pytest.mark.parametrize(
        "form",
        [sc.linear, sc.chebyshev, sc.augmented_chebyshev, sc.hypervolume_scalarization],
        ids=lambda f: f.__name__,
    )
    @quick
    @given(
        st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=2),
        st.integers(0, 10_000),
    )
    def test_never_more_for_what_dominates(
        self, form: Callable[..., np.ndarray], pair: list[tuple[float, ...]], seed: int
    ) -> None:
        better, worse = np.min(pair, axis=0), np.max(pair, axis=0)
        values = form([better, worse], sc.simplex_weights(20, 3, rng(seed)))
        assert (values[0] <= values[1]).all()

    def test_equal_points_get_equal_bits(self) -> None:
        points = np.repeat(rng(1).random((1, 4)), 37, axis=0)
        weights = sc.simplex_weights(11, 4, rng(2))
        for form in (sc.linear, sc.augmented_chebyshev, sc.pbi, sc.quadratic, sc.hypervolume_scalarization):
            values = form(points, weights)
            assert (values == values[0]).all()

    @pytest.mark.parametrize("weights", [[[-0.1, 1.1]], [[0.0, 0.0]], [[np.nan, 1.0]], [[np.inf, 1.0]]])
    def test_refuses_weights(self, weights: list[list[float]]) -> None:
        with pytest.raises(SettingError, match="not usable"):
            sc.linear(Z, weights)

    def test_refuses_shapes_that_do_not_fit(self) -> None:
        with pytest.raises(SettingError, match="2 objectives meet weights of 3"):
            sc.chebyshev(Z, np.ones((1, 3)))
        with pytest.raises(SettingError, match="2 objectives meet weights of 3"):
            sc.legacy_golovin(Z, np.ones((1, 3)))


LEGACY: list[tuple[Callable[..., np.ndarray], Callable[..., float]]] = [
    (sc.legacy_random_weights, lambda v, ws: max(sum(w * v) for w in ws)),
    (sc.legacy_parego, lambda v, ws: max(max(w * v) + 0.05 * sum(w * v) for w in ws)),
    (sc.legacy_golovin, lambda v, ws: max(min(np.clip(v / w, 0, np.inf)) ** len(v) for w in ws)),
]
FAST, SLOW = [0.96, 0.09], [0.96, 0.29]  # accuracy to be maximised, seconds to be minimised


class TestLegacyForms:
    @pytest.mark.parametrize(("form", "formula"), LEGACY)
    @pytest.mark.parametrize("signs", [[1, 1, 1], [1, -1, 1], [-1, -1, -1]])
    def test_autogluons_formula_in_both_spellings(
        self, form: Callable[..., np.ndarray], formula: Callable[..., float], signs: list[int]
    ) -> None:
        raw = rng(1).normal(size=(20, 3))
        weights = sc.simplex_weights(30, 3, rng(2))
        signed = np.array(signs)
        expected = [formula(v, weights * signed) for v in raw]
        assert_allclose(form(raw * signed, weights), expected, rtol=1e-13)
        assert_allclose(form(raw, weights * signed), expected, rtol=1e-13)

    def test_golovin_is_0_for_all_with_an_objective_to_be_minimised(self) -> None:
        values = rng(1).random((50, 2)) * [1.0, -1.0] - [0.0, 0.01]
        assert_array_equal(sc.legacy_golovin(values, sc.simplex_weights(100, 2, rng())), np.zeros(50))

    @pytest.mark.parametrize("form", [sc.legacy_random_weights, sc.legacy_parego])
    def test_blind_to_the_objective_to_be_minimised(self, form: Callable[..., np.ndarray]) -> None:
        points = [[FAST[0], -FAST[1]], [SLOW[0], -SLOW[1]], [SLOW[0] + 0.01, -SLOW[1]]]
        fast, slow, more_accurate = form(points, sc.simplex_weights(100, 2, rng()))
        assert 0 <= fast - slow < 0.005  # three times as slow hardly counts
        assert more_accurate > fast  # one per cent more accurate outweighs it

    @pytest.mark.parametrize("form", [sc.linear, sc.augmented_chebyshev, sc.hypervolume_scalarization])
    def test_textbook_forms_see_it(self, form: Callable[..., np.ndarray]) -> None:
        z = sc.normalise([[-FAST[0], FAST[1]], [-SLOW[0], SLOW[1]], [-0.5, 0.05]])
        values = form(z, sc.simplex_weights(100, 2, rng()))
        assert (values[0] <= values[1]).all()
        assert (values[0] < values[1]).any()
