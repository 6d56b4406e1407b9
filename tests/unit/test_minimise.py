"""The minimum of a smooth function within bounds, beside SciPy's L-BFGS-B."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from dhpo.searchers._minimise import minimise

Array = Any


def rosenbrock(x: Array) -> tuple[float, Array]:
    inner = x[1:] - x[:-1] ** 2
    gradient = np.zeros(len(x))
    gradient[:-1] = -400.0 * x[:-1] * inner - 2.0 * (1.0 - x[:-1])
    gradient[1:] += 200.0 * inner
    return float((100.0 * inner**2 + (1.0 - x[:-1]) ** 2).sum()), gradient


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, 8))
def test_convex_functions_have_the_minimum_that_scipy_finds(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(d, d))
    hessian, centre = factor @ factor.T + 0.1 * np.eye(d), rng.normal(0.0, 2.0, d)
    low, high = -rng.random(d), rng.random(d)

    def convex(x: Array) -> tuple[float, Array]:
        away = x - centre
        return float(0.5 * away @ hessian @ away + 0.1 * (away**4).sum()), hessian @ away + 0.4 * away**3

    found = minimise(convex, np.zeros(d), low, high, iterations=500)
    bounds = list(zip(low, high, strict=True))
    theirs = minimize(convex, np.zeros(d), jac=True, method="L-BFGS-B", bounds=bounds).fun
    assert ((low <= found) & (found <= high)).all()
    assert convex(found)[0] <= theirs + 1e-6 * max(1.0, abs(theirs))


@pytest.mark.parametrize("d", [2, 5])
def test_a_curved_valley_is_followed_to_its_end(d: int) -> None:
    start = np.full(d, -0.5)
    found = minimise(rosenbrock, start, np.full(d, -2.0), np.full(d, 2.0), iterations=500, tolerance=1e-14)
    assert found == pytest.approx(np.ones(d), abs=1e-3)


def test_a_bound_in_the_way_holds_what_is_beyond_it() -> None:
    found = minimise(rosenbrock, np.array([-0.5, 0.2]), np.array([-2.0, -2.0]), np.array([0.5, 2.0]), iterations=500)
    assert found == pytest.approx([0.5, 0.25], abs=1e-4)


def test_places_without_a_value_are_stepped_back_from() -> None:
    def walled(x: Array) -> tuple[float, Array]:
        """-log has none below zero, and the first step would go there."""
        return (float(x[0] - math.log(x[0])), 1.0 - 1.0 / x) if x[0] > 0.0 else (math.inf, np.zeros(1))

    found = minimise(walled, np.array([3.0]), np.array([-100.0]), np.array([100.0]), iterations=100)
    assert found == pytest.approx([1.0], abs=1e-4)


def test_it_stays_where_there_is_no_way_down() -> None:
    low, high = np.zeros(2), np.ones(2)
    flat = minimise(lambda x: (1.0, np.zeros(2)), np.array([0.3, 0.7]), low, high, iterations=10)
    assert flat.tolist() == [0.3, 0.7]
    corner = minimise(lambda x: (float(x.sum()), np.ones(2)), low, low, high, iterations=10)
    assert corner.tolist() == [0.0, 0.0]
    lies = minimise(lambda x: (float(-x.sum()), np.ones(2)), np.full(2, 0.5), low, high, iterations=10)
    assert lies.tolist() == [0.5, 0.5]


def test_it_makes_no_more_steps_than_it_may() -> None:
    asked: list[Array] = []

    def noted(x: Array) -> tuple[float, Array]:
        asked.append(x)
        return rosenbrock(x)

    minimise(noted, np.array([-0.5, 0.2]), np.full(2, -2.0), np.full(2, 2.0), iterations=3)
    few = len(asked)
    minimise(noted, np.array([-0.5, 0.2]), np.full(2, -2.0), np.full(2, 2.0), iterations=30)
    assert few < len(asked) - few
