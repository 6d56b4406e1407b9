"""The records of a worker's trials that wait, and those that are under way."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo.worker._outgoing import Items, Outgoing

KEYS = ("a", "b", "c")


def filled(*items: list[Any]) -> Outgoing:
    made = Outgoing()
    for item in items:
        made.put(item, urgent=False)
    return made


def test_the_first_record_calls_for_somebody_and_the_others_wait_for_him() -> None:
    outgoing = Outgoing()
    assert outgoing.put(["report", "a", 1], urgent=False)
    assert not outgoing.put(["report", "b", 1], urgent=False)
    assert outgoing.put(["end", "a", 1], urgent=True)
    assert len(outgoing) == 3
    assert outgoing.take() == [["report", "a", 1], ["report", "b", 1], ["end", "a", 1]]
    assert outgoing.put(["report", "b", 2], urgent=False)


def test_what_is_put_back_waits_before_all_else() -> None:
    outgoing = filled(["report", "a", 1])
    taken = outgoing.take()
    outgoing.put(["report", "a", 2], urgent=False)
    outgoing.put_back(taken, due=True)
    assert not outgoing.put(["report", "a", 3], urgent=False)  # somebody comes already
    assert outgoing.take() == [["report", "a", i] for i in (1, 2, 3)]


def test_a_trial_goes_another_way_only_when_nothing_of_it_is_under_way() -> None:
    outgoing = filled(["report", "a", 1], ["report", "b", 1])
    taken = outgoing.take()
    outgoing.put(["report", "a", 2], urgent=False)
    outgoing.put(["report", "c", 1], urgent=False)
    assert outgoing.take_away({"a"}, ["end", "a", 3]) is None
    assert outgoing.take_away({"c"}, ["end", "c", 2]) == [["report", "c", 1], ["end", "c", 2]]
    outgoing.arrived(taken)
    asked = outgoing.take_of("b", ["report", "b", 2])
    assert outgoing.take_away({"b"}, ["end", "b", 3]) is None
    outgoing.put_back(asked, due=False)
    assert outgoing.take_away({"a", "b"}, ["end", "b", 3]) == [["report", "b", 2], ["report", "a", 2], ["end", "b", 3]]
    assert len(outgoing) == 0


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["put", "take", "of", "away", "arrived", "back"]), st.sampled_from(KEYS))))
def test_each_record_of_a_trial_arrives_in_its_order(steps: list[tuple[str, str]]) -> None:
    """Messages arrive whole, one after the other; after a broken one comes nothing until its records are back."""
    outgoing, arrived, put = Outgoing(), defaultdict[str, list[int]](list), dict.fromkeys(KEYS, 0)
    under_way: Items = []

    def number(key: str) -> list[Any]:
        put[key] += 1
        return ["report", key, put[key]]

    def deliver(items: Items) -> None:
        for _, key, n in items:
            arrived[key].append(n)

    for step, key in steps:
        if step == "put":
            outgoing.put(number(key), urgent=False)
        elif step == "take" and not under_way:
            under_way = outgoing.take()
        elif step == "of" and not under_way:
            under_way = outgoing.take_of(key, number(key))
        elif step == "away":
            item = number(key)
            if (items := outgoing.take_away({key}, item)) is not None:
                deliver(items)
            else:
                outgoing.put(item, urgent=True)
        elif step == "arrived":
            deliver(under_way)
            outgoing.arrived(under_way)
            under_way = []
        elif step == "back":
            outgoing.put_back(under_way, due=True)
            under_way = []
    deliver(under_way)
    deliver(outgoing.take())
    assert {key: arrived[key] for key in KEYS} == {key: list(range(1, n + 1)) for key, n in put.items()}
