"""Objectives, configurations and the events' table of contents."""

from __future__ import annotations

import pickle
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo import events
from dhpo.errors import ObjectiveError
from dhpo.objectives import DEFAULT_OBJECTIVE, Direction, Objectives
from dhpo.trial import Configuration


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, {DEFAULT_OBJECTIVE: "MAX"}),
        ("acc", {"acc": "MAX"}),
        (["a", "b"], {"a": "MAX", "b": "MAX"}),
        ({"acc": "MAX", "time": "MIN"}, {"acc": "MAX", "time": "MIN"}),
        ({"acc": "maximize", "time": "Minimise"}, {"acc": "MAX", "time": "MIN"}),
        ({"acc": Direction.MIN}, {"acc": "MIN"}),
    ],
)
def test_every_way_to_name_objectives(given: object, expected: dict[str, str]) -> None:
    parsed = Objectives.parse(given)
    assert parsed.as_dict() == expected
    assert Objectives.parse(parsed) is parsed
    assert Objectives.parse(parsed.as_dict()) == parsed
    assert parsed.single == (len(expected) == 1)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"acc": "up"}, "'up'"),
        ({"acc": None}, "None"),
        ({"acc": 1}, "1"),
        ({}, "empty"),
        ([], "empty"),
        (["a", "a"], "twice"),
        ([""], "non-empty"),
        ([3], "3"),
        (7, "7"),
    ],
)
def test_unusable_objectives_are_refused_by_name(given: object, names: str) -> None:
    with pytest.raises(ObjectiveError, match=names):
        Objectives.parse(given)


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=2))
def test_costs_and_values_are_inverse(pair: list[float]) -> None:
    objectives = Objectives.parse({"a": "MAX", "b": "MIN"})
    costs = objectives.costs({"a": pair[0], "b": pair[1], "more": "text"})
    assert costs == (-pair[0], pair[1])
    assert objectives.values(costs) == {"a": pair[0], "b": pair[1]}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), "1", None, [1.0]])
def test_what_is_no_finite_number_has_no_costs(bad: object) -> None:
    objectives = Objectives.parse({"a": "MAX", "b": "MIN"})
    assert objectives.costs({"a": 1.0, "b": bad}) is None
    assert objectives.costs({"a": 1.0}) is None


def test_a_configuration_is_a_mapping_with_attributes() -> None:
    config = Configuration(x=1, layers=(3, 4))
    assert config.x == config["x"] == 1
    assert {**config} == {"x": 1, "layers": (3, 4)}
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert type(again) is Configuration
    with pytest.raises(AttributeError, match=r"'y'.*\['x', 'layers'\]"):
        _ = config.y
    assert not hasattr(config, "__deepcopy__")


def test_every_event_has_a_tag_of_its_own() -> None:
    assert set(events.TAGS) == set(get_args(events.Event))
    assert len(events.KINDS) == len(events.TAGS)
