"""The importance of hyperparameters is the one that the objective was made with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ConfigSpace import EqualsCondition

from dhpo import HpProblem
from dhpo.importance import LEAST, effects, encoded, importance
from dhpo.trial import Configuration


def problem() -> HpProblem:
    found = HpProblem({"x": (0.0, 1.0), "rate": (1e-5, 1e-1, "log-uniform"), "idle": (1, 9), "fixed": 3})
    kind = found.add(["a", "b", "c"], "kind")
    depth = found.add((0.0, 1.0), "depth")  # counts where the kind is "a"
    found.add_condition(EqualsCondition(depth, kind, "a"))
    return found


def objective(config: Configuration) -> float:
    return 4.0 * config.x + 1.0 * np.log10(config.rate) / 4 + (0.8 * config.depth if config.kind == "a" else 0.4)


PROBLEM = problem()
CONFIGS = PROBLEM.sample(300, 1)
VALUES = [objective(config) for config in CONFIGS]


def test_shares_follow_the_objective() -> None:
    shares = importance(PROBLEM, CONFIGS, VALUES)
    assert list(shares)[:2] == ["x", "rate"]
    assert set(shares) == {"x", "rate", "idle", "kind", "depth"}  # what cannot vary is left out
    assert sum(shares.values()) == pytest.approx(1.0)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    assert shares["x"] > 0.7
    assert shares["idle"] < 0.02
    assert shares["depth"] > shares["idle"]


def test_an_interaction_is_no_effect_of_one_alone() -> None:
    space = HpProblem({"x": (0.0, 1.0), "y": (0.0, 1.0)})
    configs = space.sample(600, 2)
    found = effects(space, configs, [(c.x - 0.5) * (c.y - 0.5) for c in configs])
    for effect in found.values():
        assert 0.0 <= effect.alone < 0.25
        assert effect.total > 0.6


def test_it_is_repeatable_and_units_make_no_difference() -> None:
    assert importance(PROBLEM, CONFIGS, VALUES, seed=4) == importance(PROBLEM, CONFIGS, VALUES, seed=4)
    assert importance(PROBLEM, CONFIGS, np.exp(VALUES)) == importance(PROBLEM, CONFIGS, VALUES)


@pytest.mark.parametrize(
    ("configs", "values"),
    [([], []), (CONFIGS[: LEAST - 1], VALUES[: LEAST - 1]), (CONFIGS, [1.0] * 300), (CONFIGS, [np.nan] * 300)],
)
def test_nothing_is_said_of_too_little(configs: list[Any], values: list[float]) -> None:
    assert importance(PROBLEM, configs, values) == {}


def test_foreign_configurations_do_not_count() -> None:
    foreign = [{"x": 0.5, "rate": 1e-3, "idle": 2, "kind": "z", "fixed": 3}, {"x": "text"}]
    assert np.isnan(encoded(PROBLEM.encoding, foreign)).all()
    mixed = importance(PROBLEM, [*foreign, *CONFIGS], [1e9, -1e9, *VALUES])
    assert mixed == importance(PROBLEM, CONFIGS, VALUES)
