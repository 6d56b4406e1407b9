"""Searches side by side."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo.compare import Curve, attainment, band, compare, named, trajectory
from dhpo.errors import ObjectiveError, SettingError
from dhpo.events import Event, SessionOpened, TrialCompleted, TrialFailed, TrialProposed
from dhpo.results import Results


def search(values: list[dict[str, float] | None], objectives: dict[str, str], pace: float = 1.0) -> Results:
    """One trial after the other, each taking so many seconds; None fails."""
    events: list[Event] = [SessionOpened(0.0, 0.0, "h", 1, "1")]
    for trial, value in enumerate(values):
        start, end = trial * pace, (trial + 1) * pace
        events.append(TrialProposed(start, trial, {"x": trial}, 0, "random", 0))
        if value is None:
            events.append(TrialFailed(end, trial, 1, "E: no", "", start, end, "w"))
        else:
            events.append(TrialCompleted(end, trial, 1, value, {}, False, start, end, "w"))
    return Results({"objectives": objectives, "problem": {"names": ["x"]}}, lambda: [events])


def single(*values: float | None, pace: float = 1.0) -> Results:
    return search([None if v is None else {"score": v} for v in values], {"score": "MAX"}, pace)


def test_regrets_at_fractions_of_the_common_budget() -> None:
    found = compare({"a": single(1.0, 3.0, 3.0, 7.0), "b": single(2.0, 2.0, None, 5.0, 9.0, 9.0, pace=2.0)},
                    fractions=(0.5, 1.0))  # fmt: skip
    assert (found.measure, found.best, found.reference) == ("score", 9.0, None)
    assert (found.common_trials, found.common_seconds) == (4.0, 4.0)
    a, b = found.rows
    assert (a.label, a.runs, a.trials, a.failed, a.final) == ("a", 1, 4.0, 0.0, 7.0)
    assert (b.failed, b.final, b.front_size) == (1.0, 9.0, None)
    assert (a.regret_by_trials, b.regret_by_trials) == ((6.0, 2.0), (7.0, 0.0))
    assert (a.regret_by_time, b.regret_by_time) == ((6.0, 2.0), (7.0, 7.0))


def test_a_search_without_anything_yet_has_no_regret_to_tell() -> None:
    found = compare({"slow": single(None, None, None, 1.0), "empty": single()}, fractions=(1.0,))
    slow, empty = found.rows
    assert slow.regret_by_time == (None,)
    assert (empty.final, empty.regret_by_trials) == (None, (None,))
    assert found.as_dict()["rows"][0]["label"] == "slow"


def test_several_objectives_go_by_the_hypervolume() -> None:
    goals = {"up": "MAX", "down": "MIN"}
    good = search([{"up": 1.0, "down": 1.0}, {"up": 2.0, "down": 0.5}], goals)
    bad = search([{"up": 0.0, "down": 2.0}, {"up": 0.5, "down": 1.8}], goals)
    found = compare({"good": good, "bad": bad}, fractions=(1.0,))
    assert found.measure == "hypervolume"
    assert found.reference == pytest.approx({"up": -0.2, "down": 2.15})
    first, second = found.rows
    assert first.final == pytest.approx(2.2 * 1.65)
    assert (first.regret_by_trials, first.front_size) == ((0.0,), 1.0)
    assert second.regret_by_trials[0] == pytest.approx(2.2 * 1.65 - (second.final or 0.0))
    assert compare([good, bad], objective="down").best == 0.5
    fixed = compare({"good": good, "bad": bad}, reference={"up": 0.0, "down": 1.0}).rows
    assert [row.final for row in fixed] == [pytest.approx(1.0), 0.0]


def test_repeated_runs_count_by_their_medians() -> None:
    found = compare({"a": [single(1.0), single(5.0), single(2.0)]}, fractions=(1.0,))
    assert (found.rows[0].runs, found.rows[0].final, found.rows[0].regret_by_trials) == (3, 2.0, (3.0,))


def test_labels_and_what_cannot_be_compared() -> None:
    assert list(named([single(1.0), single(2.0)])) == ["search 1", "search 2"]
    with pytest.raises(ObjectiveError, match="only searches with the same"):
        named([single(1.0), search([], {"other": "MIN"})])
    with pytest.raises(SettingError, match="no results"):
        named({})
    with pytest.raises(SettingError, match="fractions"):
        compare(single(1.0), fractions=(0.0,))
    with pytest.raises(SettingError, match="by="):
        trajectory(single(1.0), by="epochs")  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="middle="):
        band([], "mode")  # type: ignore[arg-type]


curves = st.lists(
    st.tuples(st.integers(0, 20), st.floats(-5, 5)), min_size=1, max_size=8, unique_by=lambda p: p[0]
).map(lambda points: Curve(*np.array(sorted(points), dtype=float).T, 20.0))


@given(st.lists(curves, min_size=1, max_size=5))
@settings(deadline=None, max_examples=60)
def test_a_band_is_made_of_the_curves_at_each_place(found: list[Curve]) -> None:
    result = band(found)
    heights = np.stack([curve.at(result.x) for curve in found])
    assert not np.isnan(heights).any()
    np.testing.assert_allclose(result.middle, np.median(heights, axis=0))
    assert (result.low <= result.middle).all()
    assert (result.middle <= result.high).all()
    mean = band(found, "mean")
    np.testing.assert_allclose(mean.middle, heights.mean(axis=0))
    np.testing.assert_allclose(mean.high - mean.middle, mean.middle - mean.low)


def test_the_median_attainment_surface() -> None:
    goals = {"up": "MAX", "down": "MIN"}
    runs = [search([{"up": up, "down": 1.0}], goals) for up in (1.0, 2.0, 3.0)]
    found = attainment(runs, (50,))
    np.testing.assert_allclose(found[50], [[2.0, 1.0]])
    with pytest.raises(ObjectiveError, match="two or three"):
        attainment([single(1.0)])
