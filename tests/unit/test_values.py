"""What may be reported and returned."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo.errors import ReportError
from dhpo.objectives import Objectives
from dhpo.worker.values import check_objectives, plain, read_returned

ONE = Objectives.parse()
TWO = Objectives.parse({"acc": "MAX", "time": "MIN"})

any_text = st.text(st.characters(exclude_categories=[]))  # halves of surrogate pairs, too
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats()
    | any_text
    | st.builds(np.float32, st.floats(width=32)) | st.builds(np.int64, st.integers(-9, 9)) | st.just(np.arange(3)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(anything)
def test_what_is_plain_travels_and_is_plain_again(value: Any) -> None:
    try:
        made = plain(value, "v")
    except ReportError:
        return  # nested too deeply
    travelled = msgpack.unpackb(msgpack.packb(made), strict_map_key=False)
    assert repr(travelled) == repr(made)
    assert repr(plain(made, "v")) == repr(made)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.array(3), 3),
        (np.array([[2.5]]), 2.5),
        (np.bool_(True), True),
        (np.array([1, 2]), [1, 2]),
        ((1, (2, 3)), [1, [2, 3]]),
        (10**30, 1e30),
        ("caf\udce9", "caf?"),
    ],
)
def test_common_values(value: Any, expected: Any) -> None:
    made = plain(value, "v")
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize(
    "value", [object(), Decimal(1), 1j, np.complex64(1), "x" * 200_000, np.zeros(20_000), [0] * 20_000, np.float64]
)
def test_what_does_not_travel_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ReportError, match="'speed'"):
        plain(value, "speed")


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ReportError, match="nested"):
        plain(loop, "v")


@pytest.mark.parametrize(
    ("value", "objectives", "values", "metadata"),
    [
        (0.5, ONE, {"objective": 0.5}, {}),
        (np.float32(0.5), ONE, {"objective": 0.5}, {}),
        (np.array([0.5]), ONE, {"objective": 0.5}, {}),
        ((0.5,), ONE, {"objective": 0.5}, {}),
        ((0.9, 3), TWO, {"acc": 0.9, "time": 3}, {}),
        (np.array([0.5, 2.0]), TWO, {"acc": 0.5, "time": 2.0}, {}),
        ({"objective": 1}, ONE, {"objective": 1}, {}),
        ({"objective": 1, "metadata": {"m": np.int64(3)}, "extra": "e"}, ONE, {"objective": 1}, {"m": 3, "extra": "e"}),
        ({"objective": (0.9, 3), "metadata": {"m": 1}}, TWO, {"acc": 0.9, "time": 3}, {"m": 1}),
        ({"time": 3, "acc": 0.9, "loss": 2}, TWO, {"time": 3, "acc": 0.9}, {"loss": 2}),
        (None, ONE, None, {}),
    ],
)
def test_return_forms(value: Any, objectives: Objectives, values: Any, metadata: Any) -> None:
    returned = read_returned(value, objectives)
    assert (returned.values, returned.metadata, returned.failure) == (values, metadata, None)


@pytest.mark.parametrize("value", ["F", "F_oom", {"objective": "F_oom", "metadata": {"m": 1}}])
def test_failures_are_texts_that_begin_with_f(value: Any) -> None:
    returned = read_returned(value, ONE)
    assert (returned.failure or "").startswith("F")
    assert returned.values is None
    assert read_returned({"acc": "F_nan", "time": 1.0}, TWO).failure == "F_nan"


@pytest.mark.parametrize(
    ("value", "objectives", "names"),
    [
        ("bad", ONE, "'bad'"),
        (math.nan, ONE, "not finite"),
        (math.inf, ONE, "not finite"),
        ((1.0, math.nan), TWO, "time=nan"),
        (1.0, TWO, "1 values for the 2 objectives"),
        ((1.0, 2.0), ONE, "2 values"),
        ({}, ONE, "lacks"),
        ({"acc": 1.0}, TWO, "lacks"),
        ({"objective": None}, ONE, "no number"),
        ({"objective": object()}, ONE, "object"),
        ({"objective": [[1.0], [2.0]]}, TWO, "no number"),
        (object(), ONE, "object"),
    ],
)
def test_unusable_returns(value: Any, objectives: Objectives, names: str) -> None:
    with pytest.raises(ReportError, match=names):
        read_returned(value, objectives)


def test_objectives_are_checked_by_name() -> None:
    check_objectives({"acc": 1, "time": 2.0, "more": "x"}, TWO, "report()")
    for values, names in (
        ({"acc": 1}, "'time'"),
        ({"acc": "1", "time": 1}, "acc='1'"),
        ({"acc": math.nan, "time": 1}, "nan"),
    ):
        with pytest.raises(ReportError, match=names):
            check_objectives(values, TWO, "report()")
