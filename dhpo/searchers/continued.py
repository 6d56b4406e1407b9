"""Going on from results of the same task: a searcher that was told them before it proposes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from dhpo.errors import TransferError
from dhpo.objectives import Objectives
from dhpo.searchers.base import BoundSearcher, Searcher
from dhpo.searchers.prior import costs_of, encode_source
from dhpo.space import HpProblem
from dhpo.trial import Observation, Phase


def observations_of(
    problem: HpProblem,
    objectives: Objectives,
    rows: Sequence[Mapping[str, Any]],
    values: Sequence[Any],
    *,
    resources: Sequence[float | None] | None = None,
    first: int = 1,
) -> tuple[Observation, ...]:
    """The results of an earlier search of the same task as a searcher's own observations.

    Args:
        problem: the space, whose hyperparameters must all be there (inactive ones need not have values).
        objectives: the objectives, in the order of the results.
        rows: the configurations.
        values: their results, as :func:`~dhpo.searchers.prior.fit_prior` takes them; failures are told as failures.
        resources: at which the results stand; None where trials were complete.
        first: they are numbered ``-first``, ``-first - 1``, …, apart from the trials of the search.

    Raises:
        TransferError: a hyperparameter is missing, or the results do not go with the objectives.
    """
    known = {name for row in rows for name in row}
    missing = [name for name in problem.hyperparameter_names if name not in known]
    if missing:
        raise TransferError(
            "Incompatible dataframe 'df' to fit surrogate model of CBO. "
            f"It lacks {missing}: only results of the same task can be told; for others use fit_generative_model"
        )
    costs = costs_of(values, objectives)
    encoding = problem.encoding
    configs = encoding.decode(encode_source(problem, rows, {}))
    observations = []
    for place, (config, cost) in enumerate(zip(configs, costs.tolist(), strict=True)):
        number, failed = -first - place, any(c != c for c in cost)
        resource = None if resources is None or failed else resources[place]
        phase = Phase.FAILED if failed else Phase.ENDED
        observations += [
            Observation(number, config, Phase.PENDING),
            Observation(number, config, phase, resource, None if failed else tuple(cost)),
        ]
    return tuple(observations)


@dataclass(frozen=True)
class Continued:
    """A searcher that has been told results of the same task. It does not propose their configurations again.

    Args:
        searcher: the searcher.
        observations: what it is told, as :func:`observations_of` makes it.
    """

    searcher: Searcher
    observations: tuple[Observation, ...]

    def bind(self, problem: HpProblem, objectives: Objectives, *, seed: int, max_t: float | None) -> BoundSearcher:
        """Make the state for one search, and tell it."""
        state = self.searcher.bind(problem, objectives, seed=seed, max_t=max_t)
        state.observe(self.observations)
        return state

    def settings(self) -> dict[str, Any]:
        """The JSON form: the searcher's, and how many results it was told, with their digest."""
        told = [(o.trial, dict(o.config), o.phase.value, o.resource, o.costs) for o in self.observations]
        digest = sha256(repr(told).encode()).hexdigest()
        return {**self.searcher.settings(), "told": {"results": len(self.observations) // 2, "digest": digest}}


def told_otherwise(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """How what a searcher was told before its search began differs from what it is told when the search is resumed.

    Args:
        then: the searcher's settings, as the journal keeps them.
        now: those of the searcher that goes on.

    Returns:
        The difference in words, None where there is none.
    """
    before, after = then.get("told"), now.get("told")
    if before == after:
        return None
    first, second = (0 if told is None else told["results"] for told in (before, after))
    return f"{first} earlier results when it began, {f'{second} others' if first == second else second} now"
