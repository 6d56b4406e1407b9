"""Fronts that are kept up to date are those that are found anew."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo.pareto import non_dominated_rank
from dhpo.stopping._fronts import Fronts

WHOLE = st.integers(0, 9).map(float)  # many are equal, in one cost or in both
ANY = st.floats(-1e300, 1e300)


@given(st.lists(st.tuples(WHOLE, WHOLE) | st.tuples(ANY, ANY), min_size=1, max_size=60))
@settings(deadline=None, max_examples=300)
def test_the_fronts_are_the_same_as_when_all_are_sorted_at_once(points: list[tuple[float, float]]) -> None:
    fronts = Fronts()
    for n, point in enumerate(points, start=1):
        fronts.add(*point)
        assert fronts.ranks.tolist() == non_dominated_rank(points[:n]).tolist()


@given(st.lists(st.tuples(WHOLE, WHOLE), min_size=1, max_size=60), st.integers(0, 59), st.integers(0, 3))
@settings(deadline=None, max_examples=200)
def test_the_fronts_that_hold_some_places(points: list[tuple[float, float]], first: int, more: int) -> None:
    fronts = Fronts()
    levels = [fronts.add(*point) for point in points]
    ranks = non_dominated_rank(points)
    assert levels[-1] == ranks[-1]
    first = min(first, len(points) - 1)
    last = min(first + more, len(points) - 1)
    by_place = np.sort(ranks)
    near, begin = fronts.around(first, last)
    assert (near.start, near.stop) == (by_place[first], by_place[last] + 1)
    assert begin == np.searchsorted(by_place, near.start)
    rows, found = fronts.members(near)
    assert rows.tolist() == np.flatnonzero(np.isin(ranks, list(near))).tolist()
    assert (found + near.start).tolist() == ranks[rows].tolist()


def test_no_points_have_no_fronts() -> None:
    assert len(Fronts().ranks) == 0
