from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo.errors import SettingError, SpaceError
from dhpo.objectives import Objectives
from dhpo.searchers import CBO, DesignSearcher, RandomSearcher, Searcher, resolve
from dhpo.searchers.base import BoundSearcher
from dhpo.searchers.design import kronecker
from dhpo.space import HpProblem
from dhpo.trial import Observation, Phase, Proposal

DESIGNS = ("sobol", "halton", "lhs", "grid", "kronecker", "random")


def space(**values: Any) -> HpProblem:
    problem = HpProblem()
    for name, value in values.items():
        problem.add_hyperparameter(value, name)
    return problem


def finite() -> HpProblem:
    return space(a=(1, 3), b=["x", "y"], c=[10, 20])  # 12 configurations


def bind(searcher: Searcher, problem: HpProblem, seed: int = 1) -> BoundSearcher:
    return searcher.bind(problem, Objectives.parse(), seed=seed, max_t=None)


def pending(proposals: Sequence[Proposal], first: int = 0) -> list[Observation]:
    return [Observation(first + i, p.config, Phase.PENDING) for i, p in enumerate(proposals)]


def drive(state: BoundSearcher, sizes: Sequence[int]) -> list[Proposal]:
    """Ask for batches of these sizes; all proposals come back as pending."""
    done: list[Proposal] = []
    for size in sizes:
        batch = state.propose(range(len(done), len(done) + size))
        state.observe(pending(batch, len(done)))
        done += batch
    return done


def distinct(configs: Sequence[Mapping[str, Any]]) -> int:
    return len({tuple(sorted(config.items())) for config in configs})


def test_the_default_comes_first_then_the_users_points_then_random_ones() -> None:
    problem = space(x=(-1.0, 1.0), n=(1, 9))
    state = bind(RandomSearcher(initial_points=[{"x": 0.25, "n": 2}]), problem)
    got = drive(state, [1, 3])
    assert [p.origin for p in got] == ["default", "initial", "random", "random"]
    assert got[0].config == problem.default_configuration
    assert got[1].config == {"x": 0.25, "n": 2}


def test_an_initial_point_that_equals_the_default_is_not_repeated() -> None:
    problem = space(x=(-1.0, 1.0))
    got = drive(bind(RandomSearcher(initial_points=[{"x": 0.0}]), problem), [2])
    assert [p.origin for p in got] == ["default", "random"]


def test_an_unusable_initial_point_is_refused_at_once() -> None:
    with pytest.raises(SpaceError, match="x"):
        bind(RandomSearcher(initial_points=[{"x": 5.0}]), space(x=(-1.0, 1.0)))
    with pytest.raises(SettingError, match="initial_points"):
        RandomSearcher(initial_points=3)  # type: ignore[arg-type]


@pytest.mark.parametrize("searcher", [RandomSearcher(), DesignSearcher("grid"), DesignSearcher("sobol"), CBO()])
def test_a_finite_space_is_exhausted_exactly(searcher: Searcher) -> None:
    state = bind(searcher, finite())
    got = drive(state, [5, 5, 5, 5])
    assert len(got) == 12
    assert distinct([p.config for p in got]) == 12


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_nothing_is_proposed_twice(sizes: list[int], seed: int) -> None:
    problem = space(a=(1, 40), b=["x", "y", "z"])
    got = drive(bind(RandomSearcher(), problem, seed), sizes)
    assert distinct([p.config for p in got]) == len(got) == sum(sizes)
    for p in got:
        problem.check_configuration(p.config)


def test_what_came_from_elsewhere_is_not_proposed_either() -> None:
    problem = space(a=(1, 3))
    state = bind(RandomSearcher(default_first=False), problem)
    state.observe([Observation(0, {"a": 2}, Phase.PENDING), Observation(1, {"a": 3}, Phase.ENDED, None, (1.0,))])
    assert [p.config for p in state.propose([2, 3])] == [{"a": 1}]


@pytest.mark.parametrize("searcher", [RandomSearcher(), DesignSearcher("lhs"), DesignSearcher("kronecker")])
def test_a_proposal_depends_on_its_number_not_on_the_batch(searcher: Searcher) -> None:
    problem = space(x=(-1.0, 1.0), y=(1e-6, 1.0, "log-uniform"))
    one_by_one = drive(bind(searcher, problem), [1] * 6)
    together = drive(bind(searcher, problem), [6])
    assert [p.config for p in one_by_one] == [p.config for p in together]
    other_seed = drive(bind(searcher, problem, seed=2), [6])
    assert [p.config for p in other_seed] != [p.config for p in together]


@pytest.mark.parametrize("searcher", [RandomSearcher(), DesignSearcher("sobol"), DesignSearcher("grid")])
def test_asking_twice_gives_the_same_and_a_pickled_state_goes_on_alike(searcher: Searcher) -> None:
    state = bind(searcher, finite())
    drive(state, [3])
    first = state.propose([3, 4])
    assert state.propose([3, 4]) == first
    assert pickle.loads(pickle.dumps(state)).propose([3, 4]) == first


def test_random_search_follows_the_spaces_distributions() -> None:
    problem = space(x=(1e-4, 1.0, "log-uniform"))
    got = drive(bind(RandomSearcher(default_first=False), problem), [400])
    logs = np.log10([p.config["x"] for p in got])
    assert abs(logs.mean() + 2.0) < 0.2


def test_observations_are_counted_but_pending_ones_are_not() -> None:
    state = bind(RandomSearcher(), space(x=(0.0, 1.0)))
    state.observe(
        [
            Observation(0, {"x": 0.5}, Phase.PENDING),
            Observation(0, {"x": 0.5}, Phase.RUNG, 1.0, (0.3,)),
            Observation(0, {"x": 0.5}, Phase.FAILED),
        ]
    )
    assert state.propose([1])[0].n_observed == 2


@pytest.mark.parametrize("design", [d for d in DESIGNS if d != "grid"])
def test_a_design_covers_the_space(design: str) -> None:
    problem = space(x=(-3.0, 5.0), y=(1e-4, 1e4, "log-uniform"), c=["a", "b"])
    got = drive(bind(DesignSearcher(design), problem), [64])
    rows = problem.encoding.encode([p.config for p in got])
    for column in rows[:, :2].T:
        assert np.histogram(column, bins=4, range=(0, 1))[0].min() >= 8
    assert 20 <= rows[:, 2].sum() <= 44
    assert {p.origin for p in got} == {"design"}


def test_a_low_discrepancy_design_is_more_even_than_random() -> None:
    def unevenness(points: np.ndarray[Any, Any]) -> float:
        return float(np.abs(np.histogramdd(points, bins=4, range=[(0, 1)] * 2)[0] - 4).max())

    even = [unevenness(np.array([kronecker(i, 2, seed) for i in range(64)])) for seed in range(20)]
    random = [unevenness(np.random.default_rng(seed).random((64, 2))) for seed in range(20)]
    assert max(even) <= 3 < np.mean(random)


def test_a_latin_hypercube_has_one_point_in_each_slice() -> None:
    got = drive(bind(DesignSearcher("lhs", n_points=10), space(x=(0.0, 1.0))), [10])
    assert sorted(int(p.config["x"] * 10) for p in got) == list(range(10))


def test_a_grid_takes_its_levels_and_ends() -> None:
    got = drive(bind(DesignSearcher("grid", levels=3), space(x=(0.0, 1.0), c=["a", "b"])), [4, 10])
    assert len(got) == 6
    assert {p.config["x"] for p in got} == {0.0, 0.5, 1.0}


def test_forbidden_points_of_a_grid_are_left_out() -> None:
    problem = space(x=(0.0, 1.0), c=["a", "b"])
    problem.add_constraint(lambda config: config["c"] == "a" or config["x"] < 0.9)
    got = drive(bind(DesignSearcher("grid", levels=3), problem), [10])
    assert len(got) == 5


@pytest.mark.parametrize("arguments", [{"design": "cubic"}, {"n_points": 0}, {"levels": 1.5}])
def test_wrong_settings_of_a_design_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(arguments))):
        DesignSearcher(**arguments)


def test_searchers_are_found_by_name() -> None:
    assert resolve("random") == RandomSearcher()
    assert resolve("CBO") == resolve(None) == CBO()
    assert resolve("sobol") == DesignSearcher("sobol")
    own = RandomSearcher(default_first=False)
    assert resolve(own) is own


@pytest.mark.parametrize("value", ["bayes", 3, RandomSearcher])
def test_an_unknown_searcher_is_refused_with_the_names(value: Any) -> None:
    with pytest.raises(SettingError, match="'random'"):
        resolve(value)


def test_importing_the_searchers_loads_nothing_heavy() -> None:
    heavy = ["sklearn", "pandas", "distributed", "scipy.optimize", "scipy.stats"]
    code = f"import sys, dhpo.searchers; print([m for m in {heavy} if m in sys.modules])"
    before = f"import sys, dhpo.space; print([m for m in {heavy} if m in sys.modules])"
    loaded = [subprocess.run([sys.executable, "-c", c], capture_output=True, text=True).stdout for c in (code, before)]
    assert loaded[0] == loaded[1] != ""
    assert "sklearn" not in loaded[0]
