"""How much each hyperparameter matters: a decomposition of the variance that a random forest predicts over the space.

As in functional ANOVA (Hutter et al. 2014, *An efficient approach for assessing hyperparameter importance*, ICML), a
random forest is fitted to the results, and its variance over the whole space is split among the hyperparameters. Here
the shares are estimated by sampling (Saltelli et al. 2010, *Variance based sensitivity analysis of model output*,
table 2, with Jansen's estimators), which holds for conditional hyperparameters as well: every hyperparameter is drawn
on its own, and what a draw makes inactive has no effect in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dhpo._space_json import tuples
from dhpo.encoding import Encoding
from dhpo.errors import SpaceError
from dhpo.ranks import mean_ranks
from dhpo.space import HpProblem

Array: TypeAlias = NDArray[np.float64]

#: With fewer results there is nothing to say.
LEAST = 8
_MOST = 2_000  # of so many results, evenly chosen, the forest learns
_TREES = 64
_DRAWS = 2_048


class Effect(NamedTuple):
    """The shares, from 0 to 1, of an objective's variance over the space."""

    alone: float  # what is explained by this hyperparameter by itself
    total: float  # what depends on it in any way: with its interactions, so that the sum may exceed 1


def importance(
    problem: HpProblem, configs: Sequence[Mapping[str, Any]], values: Sequence[float] | Array, *, seed: int = 0
) -> dict[str, float]:
    """How much each hyperparameter matters for one objective, as shares of 1.

    They are the total effects of :func:`effects`, divided by their sum.

    Args:
        problem: the search space.
        configs: the configurations of n trials.
        values: the objective of each, (n,). Its ranks count, so that outliers and units make no difference.
        seed: of the forest and of the draws.

    Returns:
        A share for each hyperparameter that varies, the largest first; empty where there is nothing to say (see
        :func:`effects`).
    """
    return shares(effects(problem, configs, values, seed=seed))


def shares(found: Mapping[str, Effect]) -> dict[str, float]:
    """The total effects, divided by their sum."""
    total = sum(effect.total for effect in found.values())
    return {name: effect.total / total if total else 0.0 for name, effect in found.items()}


def effects(
    problem: HpProblem, configs: Sequence[Mapping[str, Any]], values: Sequence[float] | Array, *, seed: int = 0
) -> dict[str, Effect]:
    """The effect of each hyperparameter on one objective; the arguments are those of :func:`importance`.

    Returns:
        An effect for each hyperparameter that varies, the largest total first. Empty where there are fewer than
        ``LEAST`` finite values of configurations of this space, or all of them are equal.
    """
    encoding = problem.encoding
    rows, ranks = _training(encoding, configs, np.asarray(values, dtype=float))
    varying = [j for j, column in enumerate(encoding.columns) if column.n_choices != 1]
    if len(rows) < LEAST or np.ptp(ranks) == 0 or not varying:
        return {}
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x696D70]))
    forest = RandomForestRegressor(
        _TREES, min_samples_leaf=2, max_features=0.7, random_state=int(rng.integers(2**31)), n_jobs=1
    )
    forest.fit(encoding.features(rows), ranks)
    a, b = _draws(encoding, rng), _draws(encoding, rng)
    at_a, at_b = (forest.predict(encoding.features(encoding.snap(draws))) for draws in (a, b))
    variance = float(np.var(np.concatenate([at_a, at_b])))
    found = {}
    for j in varying:
        exchanged = a.copy()
        exchanged[:, j] = b[:, j]
        at_both = forest.predict(encoding.features(encoding.snap(exchanged)))
        alone, total = (
            0.5 * float(np.mean((at - at_both) ** 2)) / variance if variance else default
            for at, default in ((at_b, 1.0), (at_a, 0.0))
        )
        total = min(max(total, 0.0), 1.0)
        found[encoding.columns[j].name] = Effect(min(max(1.0 - alone, 0.0), total), total)
    return dict(sorted(found.items(), key=lambda item: -item[1].total))


def _draws(encoding: Encoding, rng: np.random.Generator) -> Array:
    """Rows whose hyperparameters are drawn independently, as if all were active; snapping shows which are."""
    return np.column_stack([column.draw(_DRAWS, rng) for column in encoding.columns])


def _training(encoding: Encoding, configs: Sequence[Mapping[str, Any]], values: Array) -> tuple[Array, Array]:
    """Rows, and the ranks of their values on [0, 1], ties sharing their mean."""
    if not len(values):
        return np.empty((0, len(encoding.columns))), values
    rows = encoded(encoding, configs)
    usable = np.flatnonzero(np.isfinite(values) & ~np.isnan(rows).all(axis=1))
    if len(usable) > _MOST:
        usable = usable[np.linspace(0, len(usable) - 1, _MOST).astype(int)]
    rows, values = rows[usable], values[usable]
    return rows, mean_ranks(values) / max(len(values) - 1, 1)


def encoded(encoding: Encoding, configs: Sequence[Mapping[str, Any]]) -> Array:
    """Configurations as rows (n, d) of a space; those that do not belong to it, as of a wider one, are all NaN."""
    plain = [{name: tuples(value) for name, value in config.items()} for config in configs]
    try:
        return encoding.encode(plain, clip=True)
    except SpaceError:
        rows = np.full((len(plain), len(encoding.columns)), np.nan)
        for place, config in enumerate(plain):
            try:
                rows[place] = encoding.encode([config], clip=True)[0]
            except SpaceError:
                continue
        return rows
