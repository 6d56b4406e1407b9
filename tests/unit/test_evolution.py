"""Regularised evolution, and optimisers that are asked and told."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo import AskTell, HpProblem, RegularizedEvolution, Search
from dhpo.errors import SettingError, SpaceError
from dhpo.executors.simulated import Simulated
from dhpo.objectives import Objectives
from dhpo.searchers import RandomSearcher, Searcher, resolve
from dhpo.searchers.base import BoundSearcher
from dhpo.trial import Observation, Phase, Proposal

SPACE = {"x": (0.0, 1.0), "n": (1, 100), "c": ["a", "b", "d"]}
TWO = Objectives.parse({"a": "MIN", "b": "MIN"})


def bind(searcher: Searcher, space: Any = None, *, objectives: Any = None, max_t: float | None = None) -> Any:
    return searcher.bind(HpProblem(space or SPACE), Objectives.parse(objectives), seed=1, max_t=max_t)


def tell(state: BoundSearcher, batch: Sequence[Proposal], first: int, costs: Sequence[tuple[float, ...]]) -> None:
    state.observe([Observation(first + i, p.config, Phase.PENDING) for i, p in enumerate(batch)])
    state.observe(
        [
            Observation(first + i, p.config, Phase.ENDED, 1.0, c)
            for i, (p, c) in enumerate(zip(batch, costs, strict=True))
        ]
    )


def grown(searcher: RegularizedEvolution, costs: Sequence[tuple[float, ...]], **kwargs: Any) -> tuple[Any, list[Any]]:
    state = bind(searcher, **kwargs)
    batch = state.propose(range(len(costs)))
    tell(state, batch, 0, costs)
    return state, [p.config for p in batch]


def changes(child: Any, parent: Any) -> list[str]:
    return [name for name in parent if child[name] != parent[name]]


def test_it_begins_at_random_and_then_changes_one_thing_at_a_time() -> None:
    state, configs = grown(RegularizedEvolution(8, 4), [(float(i),) for i in range(8)])
    children = state.propose(range(8, 48))
    assert {p.origin for p in children} == {"model"}
    assert {p.n_observed for p in children} == {8}
    parents = [[i for i, c in enumerate(configs) if len(changes(p.config, c)) == 1] for p in children]
    assert all(parents)
    assert {tuple(changes(p.config, configs[found[0]])) for p, found in zip(children, parents, strict=True)} == {
        ("x",), ("n",), ("c",),
    }  # fmt: skip
    # The best of four drawn from eight: never one of the worst three, and most often the best.
    first = [found[0] for found in parents]
    assert max(first) <= 4
    assert first.count(0) > len(first) / 3


def test_the_oldest_die_however_good_they_are() -> None:
    state, configs = grown(RegularizedEvolution(4, 4), [(0.0,), (1.0,), (2.0,), (3.0,), (4.0,)])
    assert len(state._members) == 4
    assert all(len(changes(p.config, configs[1])) == 1 for p in state.propose(range(5, 15)))


def test_no_parent_until_there_is_a_population_and_none_that_failed() -> None:
    state, configs = grown(RegularizedEvolution(4, 2), [(0.0,), (1.0,), (2.0,)])
    state.observe([Observation(9, {**configs[0], "x": 0.123}, Phase.FAILED)])
    assert {p.origin for p in state.propose(range(10, 20))} == {"random"}
    state.observe([Observation(10, configs[0] | {"n": 7}, Phase.RUNG, 1.0, (0.0,))])
    assert {p.origin for p in state.propose(range(11, 20))} == {"model"}
    state.observe([Observation(10, configs[0] | {"n": 7}, Phase.FAILED)])
    assert {p.origin for p in state.propose(range(11, 20))} == {"random"}


def test_with_rungs_those_that_came_furthest_are_the_parents() -> None:
    for max_t, best in ((None, 0), (9.0, 2)):
        state = bind(RegularizedEvolution(3, 3), max_t=max_t)
        batch = state.propose(range(3))
        told = [(1.0, 0.0), (3.0, 5.0), (3.0, 4.0)]
        for i, (resource, cost) in enumerate(told):
            state.observe([Observation(i, batch[i].config, Phase.RUNG, 0.5, (9.0,))])
            state.observe([Observation(i, batch[i].config, Phase.ENDED, resource, (cost,))])
        assert all(len(changes(p.config, batch[best].config)) == 1 for p in state.propose(range(3, 10)))


def test_several_objectives_go_by_the_front_of_the_sample() -> None:
    costs = [(0.0, 9.0), (9.0, 0.0), (5.0, 5.0), (9.0, 9.0), (6.0, 6.0)]
    state, configs = grown(RegularizedEvolution(5, 5), costs, objectives=TWO)
    parents = {
        next(i for i, c in enumerate(configs) if len(changes(p.config, c)) == 1) for p in state.propose(range(5, 45))
    }
    assert parents == {0, 1, 2}


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.integers(0, 50))
def test_nothing_twice_the_same_when_asked_again_and_when_pickled(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    state: Any = bind(RegularizedEvolution(4, 2), {"n": (1, 9), "c": ["a", "b", "d"]})
    done: list[Any] = []
    for size in sizes:
        numbers = range(len(done), len(done) + size)
        batch = state.propose(numbers)
        assert batch == state.propose(numbers) == pickle.loads(pickle.dumps(state)).propose(numbers)
        tell(state, batch, len(done), [(float(c),) for c in rng.random(len(batch))])
        done += [tuple(p.config.items()) for p in batch]
    assert len(done) == len(set(done)) == min(sum(sizes), 27)


def test_a_finite_space_is_exhausted() -> None:
    state, _ = grown(RegularizedEvolution(3, 3), [(float(i),) for i in range(4)], space={"n": (1, 6)})
    assert len(state.propose(range(4, 20))) == 2


def test_it_finds_what_random_search_does_not() -> None:
    def train(config: Any) -> dict[str, float]:
        return {"objective": -sum((config[f"x{i}"] - 0.3) ** 2 for i in range(5)), "seconds": 1.0}

    space = {f"x{i}": (0.0, 1.0) for i in range(5)}
    found = []
    for seed in range(5):
        best = [
            Search(space, train, cluster=Simulated(workers=8), searcher=name, random_state=seed)
            .run(num_trials=300, progress=False)
            .best()
            .values["objective"]
            for name in ("evolution", "random")
        ]
        found.append(best[0] > best[1])
    assert sum(found) >= 4


def test_names_and_settings() -> None:
    assert resolve("evolution") == RegularizedEvolution()
    assert RegularizedEvolution(initial_points=[{"x": 0.5}]).settings() == {
        "searcher": "RegularizedEvolution", "population_size": 50, "sample_size": 10,
        "initial_points": [{"x": 0.5}], "default_first": True,
    }  # fmt: skip
    for arguments, match in (
        ({"population_size": 0}, "population_size"),
        ({"sample_size": 2.0}, "sample_size"),
        ({"population_size": 5, "sample_size": 6}, "above population_size=5"),
    ):
        with pytest.raises(SettingError, match=match):
            RegularizedEvolution(**arguments)


class Optimiser:
    """Counts upwards, and takes down what it is told; ``script`` are the configurations, or pairs, that it proposes."""

    def __init__(self, script: Sequence[Any], log: list[Any] | None = None) -> None:
        self.script = list(script)
        self.log = [] if log is None else log

    def ask(self) -> Any:
        answer = self.script.pop(0) if self.script else None
        self.log.append(("ask", answer))
        return answer

    def tell(self, what: Any, costs: Any) -> None:
        self.log.append(("tell", what, costs))


def wrapped(script: Sequence[Any], **kwargs: Any) -> tuple[Any, list[Any]]:
    log: list[Any] = []
    return bind(AskTell(lambda problem, seed: Optimiser(script, log)), {"n": (1, 9)}, **kwargs), log


def n(*values: int) -> list[dict[str, int]]:
    return [{"n": value} for value in values]


def test_what_is_asked_is_proposed_and_its_end_is_told() -> None:
    state, log = wrapped(n(3, 1, 2))
    batch = state.propose(range(2))
    assert [(p.config["n"], p.origin) for p in batch] == [(3, "model"), (1, "model")]
    assert state.propose(range(2)) == batch  # nothing has changed
    state.observe([Observation(0, {"n": 3}, Phase.PENDING), Observation(1, {"n": 1}, Phase.PENDING)])
    state.observe(
        [Observation(1, {"n": 1}, Phase.RUNG, 1.0, (9.0,)), Observation(1, {"n": 1}, Phase.ENDED, 3.0, (5.0,))]
    )
    assert [entry for entry in log if entry[0] == "tell"] == [("tell", {"n": 1}, 5.0)]
    assert [p.config["n"] for p in state.propose(range(2, 5))] == [2]  # it has no more


def test_ids_and_several_objectives() -> None:
    state, log = wrapped([("first", {"n": 3})], objectives=TWO)
    tell(state, state.propose(range(1)), 0, [(1.0, 2.0)])
    tell(state, [Proposal({"n": 8}, "user")], 1, [(0.0, 0.0)])  # not the optimiser's own
    assert [entry for entry in log if entry[0] == "tell"] == [("tell", "first", (1.0, 2.0))]


def test_foreign_configurations_are_told_by_themselves() -> None:
    state, log = wrapped(n(3, 4))
    tell(state, [Proposal({"n": 8}, "user")], 0, [(0.5,)])
    assert log[-1] == ("tell", {"n": 8}, 0.5)
    assert [p.config["n"] for p in state.propose(range(1, 3))] == [3, 4]


def test_failures_are_told_the_worst_that_was_seen() -> None:
    state, log = wrapped(n(1, 2, 3, 4))
    batch = state.propose(range(4))
    state.observe([Observation(i, p.config, Phase.PENDING) for i, p in enumerate(batch)])
    state.observe([Observation(0, {"n": 1}, Phase.FAILED)])
    assert log[-1][0] == "ask"
    state.observe([Observation(1, {"n": 2}, Phase.ENDED, None, (7.0,))])
    state.observe([Observation(2, {"n": 3}, Phase.ENDED, None, (1.0,)), Observation(3, {"n": 4}, Phase.FAILED)])
    assert [entry[1:] for entry in log[4:]] == [({"n": 2}, 7.0), ({"n": 1}, 7.0), ({"n": 3}, 1.0), ({"n": 4}, 7.0)]


def test_a_paused_trial_is_told_again_when_it_has_gone_on() -> None:
    state, log = wrapped(n(1))
    tell(state, state.propose(range(1)), 0, [(3.0,)])
    tell(state, [Proposal({"n": 1}, "model")], 0, [(2.0,)])
    assert [entry[1:] for entry in log if entry[0] == "tell"] == [({"n": 1}, 3.0), ({"n": 1}, 2.0)]


def test_what_is_known_is_told_at_once_and_not_run_again() -> None:
    state, log = wrapped(n(1, 1, 2, 2, *[1] * 300))
    tell(state, state.propose(range(1)), 0, [(3.0,)])
    assert [p.config["n"] for p in state.propose(range(1, 2))] == [2]
    assert log[-2:] == [("tell", {"n": 1}, 3.0), ("ask", {"n": 2})]
    got = state.propose(range(1, 10))  # it repeats itself: random ones, until the space is exhausted
    assert [p.origin for p in got] == ["model"] + ["random"] * 7
    assert {p.config["n"] for p in got} == set(range(2, 10))


def test_a_resumed_search_asks_and_tells_as_before(tmp_path: Path) -> None:
    class Climber:
        """Near the best so far, by its own random numbers."""

        def __init__(self, seed: int) -> None:
            self.rng = np.random.default_rng(seed)
            self.best = (float("inf"), 0.5)

        def ask(self) -> dict[str, float]:
            return {"x": float(np.clip(self.best[1] + self.rng.normal(0, 0.1), 0, 1))}

        def tell(self, config: Any, cost: float) -> None:
            self.best = min(self.best, (cost, config["x"]))

    def search(directory: Path) -> Search:
        return Search(
            {"x": (0.0, 1.0)}, lambda config: -abs(config.x - 0.9), cluster="serial", log_dir=directory,
            searcher=AskTell(lambda problem, seed: Climber(seed)), random_state=4,
        )  # fmt: skip

    whole = search(tmp_path / "a").run(num_trials=20, progress=False)
    search(tmp_path / "b").run(num_trials=9, progress=False)
    parts = search(tmp_path / "b").run(num_trials=20, progress=False)
    assert parts.to_frame()["p:x"].tolist() == whole.to_frame()["p:x"].tolist()
    assert whole.best().values["objective"] > -0.05


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(SettingError, match="factory=3"):
        AskTell(3)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"no method ask\(\)"):
        Search(SPACE, searcher=AskTell(lambda problem, seed: object()))
    state, _ = wrapped([{"n": 99}])
    with pytest.raises(SpaceError, match="n"):
        state.propose(range(1))
    assert AskTell(Optimiser).settings() == {"searcher": "AskTell", "factory": "Optimiser", "cheap": True}
    assert isinstance(resolve(AskTell(Optimiser)), AskTell)
    assert RandomSearcher() == resolve("random")
