"""Scalarisations: several objectives as one number, for every pair of a point and a weight vector.

The textbook forms take costs that are normalised, so that 0 is best and 1 is worst in every objective, and return
costs: less is better, whatever sign the form has in its paper. The ``legacy_*`` forms are AutoGluon's: they take raw
values of which more is better and return a value of which more is better.

Everything is summed objective by objective, never by a matrix product: equal points get equal numbers to the last
bit, and a point that dominates another never gets the larger cost through rounding.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dhpo.errors import SettingError

Array: TypeAlias = NDArray[np.float64]


def simplex_weights(n: int, m: int, rng: np.random.Generator) -> Array:
    """Draw ``n`` weight vectors for ``m`` objectives, uniformly on the simplex.

    The flat Dirichlet distribution is the law of Kraemer's sampling by sorted uniforms (Smith and Tromble 2004,
    *Sampling uniformly from the unit simplex*).

    Returns:
        An (n, m) array of numbers of at least 0; every row sums to 1.
    """
    return rng.dirichlet(np.ones(m), size=n)


def orthant_weights(n: int, m: int, rng: np.random.Generator) -> Array:
    """Draw ``n`` directions for ``m`` objectives, uniformly on the part of the unit sphere where none is negative.

    The distribution for which the hypervolume scalarisation averages to the hypervolume (Golovin and Zhang 2020,
    arXiv 2006.04655, lemma 5).

    Returns:
        An (n, m) array of numbers of at least 0; every row has the Euclidean length 1.
    """
    directions = np.abs(rng.standard_normal((n, m)))
    return np.asarray(directions / np.linalg.norm(directions, axis=1, keepdims=True))


def normalise(
    costs: ArrayLike, lower: ArrayLike | None = None, upper: ArrayLike | None = None, method: str = "minmax"
) -> Array:
    """Put every objective on the scale on which 0 is best and 1 is worst.

    Args:
        costs: finite costs, (n, m), all to be minimised.
        lower: what becomes 0, one number or one per objective; the least cost of each objective unless given.
        upper: what becomes 1, likewise; costs outside ``lower`` and ``upper`` are not clipped.
        method: "minmax", or "quantile": the share of the other points that are strictly better, which depends on
            the order of the costs alone (it takes no ``lower`` or ``upper``).

    Returns:
        An (n, m) array. An objective that does not vary is 0 everywhere.

    Raises:
        SettingError: the method is unknown, or the bounds are crossed or given for "quantile".
    """
    array = _matrix(costs, "costs")
    if method == "quantile":
        if lower is not None or upper is not None:
            raise SettingError("normalise takes no lower or upper with method='quantile': leave them out")
        below = [np.searchsorted(np.sort(column), column, side="left") for column in array.T]
        return np.column_stack(below) / max(len(array) - 1, 1)
    if method != "minmax":
        raise SettingError(f"normalise has method={method!r}: use 'minmax' or 'quantile'")
    if not len(array):
        return array.copy()
    low = array.min(axis=0) if lower is None else np.broadcast_to(np.asarray(lower, dtype=float), array.shape[1])
    high = array.max(axis=0) if upper is None else np.broadcast_to(np.asarray(upper, dtype=float), array.shape[1])
    if (low > high).any():
        raise SettingError(f"normalise has lower={low.tolist()} above upper={high.tolist()}: swap them")
    # Halves, because the difference of two large numbers of opposite sign may overflow.
    span = high / 2 - low / 2
    return np.divide(array / 2 - low / 2, span, out=np.zeros_like(array), where=span > 0)


def linear(z: ArrayLike, weights: ArrayLike) -> Array:
    """The weighted sum, ``w . z``: finds convex parts of a front only.

    Args:
        z: normalised costs, (n, m).
        weights: (w, m), none negative, none all zero.

    Returns:
        An (n, w) array of costs.

    Raises:
        SettingError: the shapes do not fit, or the weights are not usable. (This holds for all textbook forms.)
    """
    return _dot(*_checked(z, weights))


def chebyshev(z: ArrayLike, weights: ArrayLike, utopia: ArrayLike = 0.0) -> Array:
    """The weighted Chebyshev distance to the utopia point, ``max_j w_j (z_j - u_j)`` (Miettinen 1999, section 3.4).

    Args:
        z: normalised costs, (n, m).
        weights: (w, m), none negative, none all zero.
        utopia: at least as good as every point in every objective: one number or one per objective.

    Returns:
        An (n, w) array of costs.
    """
    points, directions = _checked(z, weights)
    return _largest(points - np.asarray(utopia, dtype=float), directions)


def augmented_chebyshev(z: ArrayLike, weights: ArrayLike, rho: float = 0.05) -> Array:
    """ParEGO's ``max_j w_j z_j + rho (w . z)`` (Knowles 2006, section III.A).

    Args:
        z: normalised costs, (n, m).
        weights: (w, m), none negative, none all zero.
        rho: the share of the weighted sum, which tells weakly dominated points from non-dominated ones.

    Returns:
        An (n, w) array of costs.
    """
    points, directions = _checked(z, weights)
    return _largest(points, directions) + rho * _dot(points, directions)


def pbi(z: ArrayLike, weights: ArrayLike, theta: float = 5.0) -> Array:
    """Penalty-based boundary intersection, ``d1 + theta d2`` (Zhang and Li 2007, section II.C).

    ``d1`` is the distance from the ideal point along the weight vector, ``d2`` the Euclidean distance from it. A
    dominated point may get the lower cost.

    Args:
        z: normalised costs, (n, m).
        weights: (w, m), none negative, none all zero.
        theta: the penalty for lying off the weight vector.

    Returns:
        An (n, w) array of costs.
    """
    along, across_squared = _decompose(z, weights)
    return along + theta * np.sqrt(across_squared)


def quadratic(z: ArrayLike, weights: ArrayLike, alpha: float = 10.0) -> Array:
    """The quadratic form ``d1^2 + alpha d2^2`` with the distances of :func:`pbi` (Egele et al. 2023, arXiv 2309.14936).

    It equals ``z' Q z`` where Q has the eigenvalue 1 along the weight vector and ``alpha`` across it. A dominated
    point may get the lower cost.

    Args:
        z: normalised costs, (n, m).
        weights: (w, m), none negative, none all zero.
        alpha: the eigenvalue across the weight vector.

    Returns:
        An (n, w) array of costs.
    """
    along, across_squared = _decompose(z, weights)
    return along**2 + alpha * across_squared


def hypervolume_scalarization(z: ArrayLike, weights: ArrayLike, reference: ArrayLike = 1.0) -> Array:
    """The hypervolume scalarisation, negated: ``-min_j max(0, (r_j - z_j) / w_j)^m``.

    Averaged over :func:`orthant_weights`, the best value of a set of points, times
    ``pi^(m/2) / (2^m Gamma(m/2 + 1))``, is the hypervolume of the set (Golovin and Zhang 2020, arXiv 2006.04655,
    lemma 5).

    Args:
        z: normalised costs, (n, m).
        weights: (w, m) directions, none negative, none all zero.
        reference: the reference point, one number or one per objective. Points that are not better than it in
            every objective all get 0.

    Returns:
        An (n, w) array of costs of at most 0.
    """
    points, directions = _checked(z, weights)
    gains = np.maximum(np.asarray(reference, dtype=float) - points, 0.0)
    smallest = np.full((len(points), len(directions)), np.inf)
    with np.errstate(over="ignore"):
        for gain, weight in zip(gains.T, np.maximum(directions, np.finfo(float).tiny).T, strict=True):
            np.minimum(smallest, gain[:, None] / weight, out=smallest)
        return np.asarray(-(smallest ** points.shape[1]))


def legacy_random_weights(values: ArrayLike, weights: ArrayLike) -> Array:
    """AutoGluon's ``random_weights``: ``max_w w . v``, to be maximised.

    The largest weight wins, so that this is nearly the largest single value: with an accuracy in [0, 1] to be
    maximised and a time in seconds to be minimised, the time hardly counts.

    Args:
        values: raw values, (n, m), more is better (negated for an objective to be minimised).
        weights: (w, m) on the simplex. AutoGluon's own spelling, values as reported and the weights of the objectives
            to be minimised negated, gives the same. (This holds for all ``legacy_*`` forms.)

    Returns:
        An (n,) array of values to be maximised.

    Raises:
        SettingError: the shapes do not fit.
    """
    return np.asarray(_dot(*_fitting(values, weights)).max(axis=1))


def legacy_parego(values: ArrayLike, weights: ArrayLike, rho: float = 0.05) -> Array:
    """AutoGluon's ``parego``: ``max_w [max_j w_j v_j + rho (w . v)]``, to be maximised.

    The published form has a minimum over the objectives here; this one is as blind as :func:`legacy_random_weights`.

    Args:
        values: raw values, (n, m), more is better.
        weights: (w, m) on the simplex.
        rho: the share of the weighted sum.

    Returns:
        An (n,) array of values to be maximised.
    """
    points, directions = _fitting(values, weights)
    return np.asarray((_largest(points, directions) + rho * _dot(points, directions)).max(axis=1))


def legacy_golovin(values: ArrayLike, weights: ArrayLike) -> Array:
    """AutoGluon's ``golovin``: ``max_w (min_j clip(v_j / w_j, 0, inf))^m``, to be maximised.

    Without a reference point, any negative value (an objective to be minimised that is positive) makes it 0: such
    points all tie.

    Args:
        values: raw values, (n, m), more is better.
        weights: (w, m) on the simplex.

    Returns:
        An (n,) array of values to be maximised.
    """
    points, directions = _fitting(values, weights)
    smallest = np.full((len(points), len(directions)), np.inf)
    with np.errstate(divide="ignore", over="ignore"):
        for value, weight in zip(points.T, directions.T, strict=True):
            np.minimum(smallest, np.clip(value[:, None] / weight, 0.0, np.inf), out=smallest)
        return np.asarray((smallest ** points.shape[1]).max(axis=1))


def _matrix(array: ArrayLike, name: str) -> Array:
    matrix = np.atleast_2d(np.asarray(array, dtype=float))
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise SettingError(f"{name} has the shape {matrix.shape}: give one row for each point, one column an objective")
    return matrix


def _fitting(points: ArrayLike, weights: ArrayLike) -> tuple[Array, Array]:
    """Both as matrices with the same number of columns."""
    left, right = _matrix(points, "points"), _matrix(weights, "weights")
    if left.shape[1] != right.shape[1]:
        raise SettingError(f"points of {left.shape[1]} objectives meet weights of {right.shape[1]}: give as many")
    return left, right


def _checked(z: ArrayLike, weights: ArrayLike) -> tuple[Array, Array]:
    """As :func:`_fitting`; the weights are a direction each."""
    points, directions = _fitting(z, weights)
    usable = (directions >= 0).all(axis=1) & np.isfinite(directions).all(axis=1) & (directions > 0).any(axis=1)
    if not usable.all():
        bad = directions[~usable][0].tolist()
        raise SettingError(f"the weights {bad} are not usable: give finite numbers of at least 0, one of them above 0")
    return points, directions


def _dot(points: Array, weights: Array) -> Array:
    """All inner products, (n, w), accumulated in one fixed order."""
    total = np.zeros((len(points), len(weights)))
    for value, weight in zip(points.T, weights.T, strict=True):
        total += value[:, None] * weight
    return total


def _largest(points: Array, weights: Array) -> Array:
    """The largest weighted objective, (n, w)."""
    largest = np.full((len(points), len(weights)), -np.inf)
    for value, weight in zip(points.T, weights.T, strict=True):
        np.maximum(largest, value[:, None] * weight, out=largest)
    return largest


def _decompose(z: ArrayLike, weights: ArrayLike) -> tuple[Array, Array]:
    """Distance from the ideal point along every weight vector, and squared distance across it, both (n, w)."""
    points, directions = _checked(z, weights)
    units = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    along = _dot(points, units)
    across_squared = np.zeros_like(along)
    for value, unit in zip(points.T, units.T, strict=True):
        across_squared += (value[:, None] - along * unit) ** 2
    return along, across_squared
