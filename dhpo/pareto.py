"""Pareto dominance: fronts, ranks, spread within a front, and hypervolume.

Everything is in costs, all to be minimised, as (n, m) arrays: one row for each point, one column for each objective.
Infinite costs are ordinary numbers to dominance. A row with a NaN is never in a front and dominates nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dhpo.errors import SettingError
from dhpo.scalarization import normalise

Array: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.intp]
Mask: TypeAlias = NDArray[np.bool_]

#: Normalised costs are rounded to whole steps of this grid where distances are compared. Sums of their squares are
#: exact for up to 32 objectives, so that equal distances stay equal whatever the scale of an objective is.
_GRID = 2.0**24

#: How many comparisons are made at once, and how many rows of a trace are looked at together.
_COMPARISONS = 4_000_000
_TRACE_BLOCK = 1024


def dominates(a: ArrayLike, b: ArrayLike) -> bool:
    """Whether ``a`` is at least as good as ``b`` in every objective and better in one. False where there is a NaN.

    Args:
        a: the costs of one point, (m,).
        b: the costs of another, (m,).
    """
    left, right = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return bool((left <= right).all() and (left < right).any())


def non_dominated(costs: ArrayLike, strict: bool = False, unique: bool = False) -> Mask:
    """Find the Pareto front.

    Args:
        costs: (n, m), to be minimised.
        strict: drop a point only if another is better in *all* objectives (AutoGluon's form); otherwise it is enough
            that another is at least as good in all of them and better in one.
        unique: of equal points, keep the first only.

    Returns:
        A mask of the rows that are in the front. Rows with a NaN never are.

    Raises:
        SettingError: the costs are no such array. (This holds for all functions here.)
    """
    import moocore

    array = _matrix(costs)
    mask = np.zeros(len(array), dtype=bool)
    valid = ~np.isnan(array).any(axis=1)
    if not valid.any():
        return mask
    dense = _dense_ranks(array[valid])
    front = np.asarray(moocore.is_nondominated(dense, keep_weakly=True), dtype=bool)
    if strict:
        front[~front] = ~_beaten_everywhere(dense[~front], dense[front])
    if unique:
        rows = np.flatnonzero(front)
        front[:] = False
        front[rows[np.unique(dense[rows], axis=0, return_index=True)[1]]] = True
    mask[valid] = front
    return mask


def non_dominated_rank(costs: ArrayLike) -> IntArray:
    """Sort points into fronts (Deb et al. 2002, *A fast and elitist multiobjective genetic algorithm*, section III.A).

    Args:
        costs: (n, m), to be minimised.

    Returns:
        For every row 0 if it is in the front, 1 if it is in the front of what remains without that, and so on. Rows
        with a NaN come after all others, never at 0.
    """
    import moocore

    array = _matrix(costs)
    ranks = np.ones(len(array), dtype=np.intp)
    valid = ~np.isnan(array).any(axis=1)
    if valid.any():
        ranks[valid] = moocore.pareto_rank(_dense_ranks(array[valid]))
        ranks[~valid] = ranks[valid].max() + 1
    return ranks


def crowding_distance(costs: ArrayLike) -> Array:
    """How lonely each point of a front is (Deb et al. 2002, section III.B).

    In each objective, the gap between the next smaller and the next larger value, as a share of the range; summed
    over the objectives. Values are counted once, so that equal points share their distance and the order of the rows
    does not matter; an objective that does not vary is left out.

    Args:
        costs: finite costs of the points of one front, (n, m).

    Returns:
        An (n,) array; infinite at the ends of every objective.
    """
    grid = _on_grid(_finite(costs))
    total = np.zeros(len(grid))
    varied = False
    for column in grid.T:
        values, inverse = np.unique(column, return_inverse=True)
        if len(values) > 1:
            gaps = np.full(len(values), np.inf)
            gaps[1:-1] = (values[2:] - values[:-2]) / _GRID
            total += gaps[inverse]
            varied = True
    return total if varied else np.full(len(grid), np.inf)


def eps_net_order(costs: ArrayLike, limit: int | None = None) -> IntArray:
    """Order the points of a front so that every beginning of the order is spread over the whole front.

    The greedy farthest-point order, whose beginnings are epsilon-nets of the front (Schmucker et al. 2021, MO-ASHA,
    arXiv 2106.12639), on costs that are min-max normalised within the front. It starts with the best compromise, the
    point nearest to the ideal point. Ties go to the lexicographically smaller costs, so that the order of the rows does
    not matter.

    Args:
        costs: finite costs of the points of one front, (n, m).
        limit: how many points to order; all unless given.

    Returns:
        The indices of the first ``limit`` rows in that order. Equal points come last, in the order of the rows.
    """
    array = _finite(costs)
    lexicographic = np.lexsort(array.T[::-1])
    count = len(array) if limit is None else min(limit, len(array))
    chosen: IntArray = lexicographic[_farthest_first(_on_grid(array[lexicographic]), count)]
    return chosen


def hypervolume(costs: ArrayLike, reference: ArrayLike) -> float:
    """The volume that is dominated by the points and dominates the reference point.

    Args:
        costs: (n, m), to be minimised. Rows that are not finite, or not better than the reference point in every
            objective, count for nothing.
        reference: the reference point, (m,).

    Returns:
        The hypervolume; 0 when no row counts.
    """
    array = _matrix(costs)
    bound = _reference(reference, array.shape[1])
    return _volume(array[_counting(array, bound)], bound)


def hypervolume_trace(costs: ArrayLike, reference: ArrayLike) -> Array:
    """The hypervolume after each row: its value is computed anew only at rows that nothing before them dominates.

    Args:
        costs: (n, m) in order of time, to be minimised; rows as in :func:`hypervolume`.
        reference: the reference point, (m,).

    Returns:
        An (n,) array that never decreases.
    """
    array = _matrix(costs)
    bound = _reference(reference, array.shape[1])
    trace = np.zeros(len(array))
    front = np.empty((0, array.shape[1]))
    rows = np.flatnonzero(_counting(array, bound))
    for start in range(0, len(rows), _TRACE_BLOCK):
        block = rows[start : start + _TRACE_BLOCK]
        for row in block[~_covered(array[block], front)]:
            point = array[row]
            if not (front <= point).all(axis=1).any():
                front = np.vstack([front[~(point <= front).all(axis=1)], point])
                trace[row] = _volume(front, bound)
    return np.maximum.accumulate(trace) if len(trace) else trace


def reference_point(costs: ArrayLike, margin: float = 0.1) -> Array:
    """A reference point for the hypervolume: a little worse than the worst of every objective.

    Args:
        costs: (n, m), to be minimised; rows that are not finite are left out.
        margin: how much worse, as a share of the objective's range (of the worst cost's size, or of 1, where the
            objective does not vary).

    Returns:
        An (m,) array.

    Raises:
        SettingError: no row is finite.
    """
    array = _matrix(costs)
    array = array[np.isfinite(array).all(axis=1)]
    if not len(array):
        raise SettingError("costs has no finite row to take a reference point from: give the reference point yourself")
    worst = array.max(axis=0)
    span = worst - array.min(axis=0)
    size = np.where(worst != 0, np.abs(worst), 1.0)
    return np.asarray(worst + margin * np.where(span > 0, span, size))


def _matrix(costs: ArrayLike) -> Array:
    array = np.asarray(costs, dtype=float)
    if array.shape == (0,):
        array = array.reshape(0, 1)
    if array.ndim != 2 or array.shape[1] == 0:
        raise SettingError(f"costs has the shape {array.shape}: give one row for each point, one column an objective")
    return array


def _finite(costs: ArrayLike) -> Array:
    array = _matrix(costs)
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise SettingError(f"costs has the row {array[bad][0].tolist()}: distances need finite costs, leave it out")
    return array


def _dense_ranks(array: Array) -> Array:
    """Every cost replaced by its place in its column: dominance is the same, and infinities are gone."""
    return np.column_stack([np.unique(column, return_inverse=True)[1] for column in array.T]).astype(float)


def _on_grid(array: Array) -> Array:
    return np.rint(normalise(array) * _GRID)


def _beaten_everywhere(points: Array, front: Array) -> Mask:
    """Which points some member of the front beats in all objectives.

    It is enough to ask the front: whatever beats a point everywhere is in it, or dominated by a member that does too.
    """
    return _any_of_front(points, front, strictly=True)


def _covered(points: Array, front: Array) -> Mask:
    """Which points some member of the front equals or dominates."""
    return _any_of_front(points, front, strictly=False)


def _any_of_front(points: Array, front: Array, *, strictly: bool) -> Mask:
    found = np.zeros(len(points), dtype=bool)
    step = max(1, _COMPARISONS // max(front.size, 1))
    for start in range(0, len(points), step):
        block = points[start : start + step, None, :]
        better: Mask = front < block if strictly else front <= block
        found[start : start + step] = np.any(better.all(axis=2), axis=1)
    return found


def _farthest_first(points: Array, count: int) -> IntArray:
    """Indices of ``count`` rows: the nearest to the origin, then always the farthest from all chosen so far.

    The rows are in lexicographic order. A front of two objectives is then a chain along which distances grow, so that
    a point is nearer than all chosen before only to the rows between its two chosen neighbours.
    """
    order = np.empty(count, dtype=np.intp)
    if not count:
        return order
    columns = np.ascontiguousarray(points.T)
    chain = len(columns) == 2 and bool((np.diff(columns[1]) <= 0).all())
    neighbours = [0, len(points)]
    distance = np.full(len(points), np.inf)
    chosen = int((columns * columns).sum(axis=0).argmin())
    for place in range(count):
        order[place] = chosen
        reach = slice(None)
        if chain:
            at = bisect_right(neighbours, chosen)
            reach = slice(neighbours[at - 1], neighbours[at])
            neighbours.insert(at, chosen)
        gaps = columns[:, reach] - columns[:, chosen, None]
        gaps *= gaps
        np.minimum(distance[reach], gaps.sum(axis=0), out=distance[reach])
        distance[chosen] = -1.0  # below every distance: never chosen again
        chosen = int(distance.argmax())
    return order


def _reference(reference: ArrayLike, m: int) -> Array:
    bound = np.asarray(reference, dtype=float)
    if bound.shape != (m,) or not np.isfinite(bound).all():
        raise SettingError(f"the reference point is {bound.tolist()}: give {m} finite numbers, one for each objective")
    return bound


def _counting(array: Array, bound: Array) -> Mask:
    return np.asarray((np.isfinite(array) & (array < bound)).all(axis=1))


def _volume(points: Array, bound: Array) -> float:
    import moocore

    if not len(points):
        return 0.0
    if len(bound) == 1:
        return float(bound[0] - points.min())
    return float(moocore.hypervolume(points, ref=bound))
