"""The minimum of a smooth function of a few variables within bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dhpo.searchers.acquisition import Array

_ENOUGH = 1e-4  # of the decrease that the gradient promises a step has to bring (Armijo)
_SHORTER = (0.1, 0.5)  # a step that brings less is made shorter, within these limits …
_TRIED = 20  # … so many times
_FLAT = 1e-5  # no entry of the gradient is larger at a minimum
_CURVED = 1e-10  # a step on which the gradient turns less says nothing of the curvature
_MEMORY = 10  # steps


class Point(NamedTuple):
    """A place (d,), the function's value there (infinite where it has none), and its gradient (d,)."""

    place: Array
    value: float
    gradient: Array


class Step(NamedTuple):
    """How far a step went (d,), and by how much the gradient has turned on it (d,)."""

    moved: Array
    turned: Array


def minimise(
    function: Callable[[Array], tuple[float, Array]],
    start: Array,
    low: Array,
    high: Array,
    *,
    iterations: int,
    tolerance: float = 2e-9,
) -> Array:
    """Go down by L-BFGS steps (Nocedal & Wright 2006, section 7.2), within bounds by projection (Bertsekas 1982).

    Written out here because importing ``scipy.optimize`` takes longer than all fits of a short search together, in
    each process. It finds what SciPy's L-BFGS-B finds, with no more evaluations.

    Args:
        function: gives the value and the gradient (d,) at a place (d,).
        start: (d,) within the bounds; the function has a value there.
        low: (d,) the lower bounds.
        high: (d,) the upper bounds.
        iterations: how many steps at most.
        tolerance: it ends where a step brings less than this, in units of the value, or of 1 if that is larger.

    Returns:
        The best place (d,).
    """
    here, steps = Point(start, *function(start)), list[Step]()
    for _ in range(iterations):
        place, value, gradient = here
        free = ~(((place <= low) & (gradient > 0.0)) | ((place >= high) & (gradient < 0.0)))
        slope = np.where(free, gradient, 0.0)
        if np.abs(slope).max(initial=0.0) <= _FLAT:
            break
        direction = np.where(free, -_turned_back(slope, steps), 0.0)
        if not steps:
            direction *= min(1.0, 1.0 / float(np.abs(slope).sum()))
        there = _lower(function, here, slope, direction, low, high)
        if there is None and steps:  # the curvature misleads: straight down
            steps = []
            continue
        if there is None:
            break
        here = there
        if value - there.value <= tolerance * max(abs(value), abs(there.value), 1.0):
            break
        step = Step(there.place - place, there.gradient - gradient)
        if step.moved @ step.turned > _CURVED * (step.turned @ step.turned):
            steps = [*steps, step][-_MEMORY:]
    return here.place


def _turned_back(slope: Array, steps: Sequence[Step]) -> Array:
    """The inverse Hessian that the last steps tell of, times a slope (d,) (algorithm 7.4)."""
    result, shares = slope.copy(), list[float]()
    for moved, turned in reversed(steps):
        shares.append(float(moved @ result) / float(moved @ turned))
        result -= shares[-1] * turned
    if steps:
        moved, turned = steps[-1]
        result *= float(moved @ turned) / float(turned @ turned)
    for (moved, turned), share in zip(steps, reversed(shares), strict=True):
        result += (share - float(turned @ result) / float(moved @ turned)) * moved
    return result


def _lower(
    function: Callable[[Array], tuple[float, Array]],
    here: Point,
    slope: Array,
    direction: Array,
    low: Array,
    high: Array,
) -> Point | None:
    """The first point of enough decrease on the way, tried from far to near; None where there is none."""
    length = 1.0
    for _ in range(_TRIED):
        place = np.clip(here.place + length * direction, low, high)
        promised = float(slope @ (place - here.place))
        if promised >= 0.0:
            return None
        there = Point(place, *function(place))
        if there.value <= here.value + _ENOUGH * promised:
            return there
        rise = there.value - here.value
        lowest = -0.5 * promised / (rise - promised) if np.isfinite(rise) else 0.0  # of the parabola through both
        length *= min(max(lowest, _SHORTER[0]), _SHORTER[1])
    return None
