"""How much of what waits for its results a proposal of CBO counts in, and that it does not depend on when that came."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo import CBO, HpProblem
from dhpo.objectives import Objectives
from dhpo.searchers._cbo_waiting import PENDING, Waiting, counted_together, first_counted
from dhpo.searchers.cbo import CBOState
from dhpo.trial import Observation, Phase

OBJECTIVES = {1: {"y": "MIN"}, 2: {"y": "MIN", "z": "MIN"}}


def state(n: int, m: int = 1, **kwargs: object) -> CBOState:
    """A searcher that has seen so many trials of a space without repetitions."""
    problem = HpProblem({"x": (-5.0, 5.0), "rate": (1e-5, 1.0, "log-uniform"), "kind": ["a", "b", "c"]})
    bound = CBO(n_points=100, **kwargs).bind(problem, Objectives.parse(OBJECTIVES[m]), seed=2, max_t=None)  # type: ignore[arg-type]
    configs = problem.encoding.decode(problem.encoding.sample(n, np.random.default_rng(1)))
    costs = [(float(c["x"] ** 2 - np.log(c["rate"])), float(abs(c["x"] - 2.0)))[:m] for c in configs]
    bound.observe(
        [Observation(k, c, Phase.ENDED, None, y) for k, (c, y) in enumerate(zip(configs, costs, strict=True))]
    )
    return bound


def made(bound: CBOState, first: int, cuts: Sequence[int]) -> list[tuple[float, ...]]:
    """Proposals from number ``first`` on, in batches of these sizes, none of which ends."""
    rows: list[tuple[float, ...]] = []
    for size in cuts:
        numbers = range(first + len(rows), first + len(rows) + size)
        proposals = bound.propose(numbers)
        bound.observe([Observation(k, p.config, Phase.PENDING) for k, p in zip(numbers, proposals, strict=True)])
        rows += [(p.config["x"], p.config["rate"], float("abc".index(p.config["kind"]))) for p in proposals]
    return rows


@given(st.integers(0, 3_000), st.integers(0, 50))
@settings(deadline=None, max_examples=200)
def test_all_of_a_few_count_and_of_many_the_latest_but_the_neighbours(n: int, ahead: int) -> None:
    rows = np.arange(n + ahead, dtype=float)[:, None]
    waiting = Waiting(range(n), rows[:n])
    for k in range(ahead):
        waiting.add(n + k, rows[n + k])
    n += ahead
    counted = waiting.counted(n)[:, 0]
    assert list(counted) == list(range(int(counted[0]), int(counted[0]) + len(counted))) if len(counted) else n == 0
    assert len(counted) <= PENDING
    assert n < 32 or n - 1 - counted[-1] <= n / 16
    assert n >= 32 or len(counted) == n
    assert len(counted) >= min(n, PENDING - 64) - 8


@given(st.integers(0, 5_000))
@settings(deadline=None, max_examples=100)
def test_what_counts_moves_by_steps(n: int) -> None:
    assert first_counted(n) in range(max(0, n - PENDING), max(1, n - PENDING + 64))
    assert counted_together(n) in (1, 2, 4, 8)
    assert counted_together(n) <= max(1, n / 16)


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("cuts", [[1] * 90, [7] * 12 + [6], [50, 3, 37]])
def test_a_batch_in_which_several_are_counted_in_at_once_may_be_cut_anywhere(m: int, cuts: list[int]) -> None:
    whole = made(state(40, m), 101, [90])
    np.testing.assert_allclose(made(state(40, m), 101, cuts), whole, rtol=1e-6)
    assert len(set(whole)) == 90


def test_what_is_kept_of_the_model_changes_nothing() -> None:
    kept, forgetful = state(40), state(40)
    for first in range(100, 200, 25):
        forgetful = pickle.loads(pickle.dumps(forgetful))
        np.testing.assert_allclose(made(kept, first, [25]), made(forgetful, first, [25]), rtol=1e-6)
        kept.propose([500, 501])  # asked for, and never used
        news = [Observation(first, {"x": 0.1, "rate": 0.5, "kind": "a"}, Phase.ENDED, None, (0.7,))]
        kept.observe(news)
        forgetful.observe(news)


@pytest.mark.parametrize("strategy", ["topk", "cl_min"])
def test_other_strategies_go_on_as_they_were_asked(strategy: str) -> None:
    whole = made(state(40, multi_point_strategy=strategy), 100, [6])
    assert made(state(40, multi_point_strategy=strategy), 100, [6]) == whole
    assert len(set(whole)) == 6
