"""dhpo in the virtual-time harness ``hpoq``: the same study, stopper and searcher that ``Search`` runs."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

from ConfigSpace import InCondition
from hpoq.optimizers.base import Optimizer

from dhpo import CBO, HpProblem, Hyperband, NeverStop, RandomSearcher
from dhpo.events import Decide, Observe, TrialCompleted, TrialReported
from dhpo.objectives import Objectives
from dhpo.searchers import fit_prior
from dhpo.searchers.base import Foresees
from dhpo.stopping.base import FirstJudged
from dhpo.study import Study
from dhpo.trial import Decision, Observation, Phase

#: The harness's spaces have no default configuration, and the middle of the sphere's ranges is its optimum.
_SETTINGS: dict[str, Any] = {"default_first": False}

_SOURCE = 10_000_000  # numbers of observations that are no trials of the search


def _setting(variable: str) -> dict[str, Any]:
    """Settings that differ from the defaults, as JSON in an environment variable."""
    return dict(json.loads(os.environ.get(variable, "{}")))


def problem_of(space: Any) -> HpProblem:
    """The harness's neutral space as an HpProblem."""
    problem = HpProblem()
    for p in space:
        if p.kind == "cat":
            problem.add_hyperparameter([str(c) for c in p.choices], p.name)
        else:
            problem.add_hyperparameter((p.lo, p.hi, "log-uniform" if p.log else "uniform"), p.name)
    for p in space:
        if p.parent:
            problem.add_condition(InCondition(problem.space[p.name], problem.space[p.parent], list(p.parent_values)))
    return problem


class Dhpo(Optimizer):
    """The default: CBO with Hyperband where there is more than one epoch."""

    name, multi_fidelity, multi_objective = "dhpo", True, True
    stopping = True

    def searcher(self) -> Any:
        return CBO(**{**_SETTINGS, **_setting("DHPO_CBO")})

    def __init__(self, problem: Any, seed: int) -> None:
        super().__init__(problem, seed)
        directions = {o: "MAX" if m else "MIN" for o, m in zip(problem.objectives, problem.maximize, strict=True)}
        self.objectives = Objectives.parse(directions)
        self.space = problem_of(problem.space)
        stopper: Any = NeverStop()
        if problem.max_epoch > 1 and self.stopping:
            stopper = Hyperband("epoch", problem.max_epoch, **{"adaptive": True, **_setting("DHPO_HYPERBAND")})
        bound = stopper.bind(len(self.objectives), max_t=problem.max_epoch, seed=seed)
        self.study = Study(self.objectives, bound, seed)
        max_t = problem.max_epoch if problem.max_epoch > 1 and self.stopping else None
        self.state = self.searcher().bind(self.space, self.objectives, seed=seed, max_t=max_t)
        if isinstance(self.state, Foresees):
            self.state.foresee(FirstJudged(bound, seed))
        self.index: dict[int, int] = {}

    def _apply(self, *events: Any) -> list[Any]:
        commands = [c for e in events for c in self.study.apply(e)]
        self.state.observe([c.observation for c in commands if isinstance(c, Observe)])
        return commands

    def suggest(self) -> dict[str, Any]:
        number = len(self.study.trials)
        event = self.study.admit(self.state.propose([number]), 0.0)[0]
        self._apply(event)
        defaults = dict(self.space.space.get_default_configuration()) if self.problem.space.conditional else {}
        full = {p.name: p.choices[0] if p.kind == "cat" else p.lo for p in self.problem.space}
        return {**full, **defaults, **event.config}

    def report(self, trial_id: int, config: Any, epoch: int, metrics: dict[str, float]) -> bool:
        index = self.index[trial_id] = self.index.get(trial_id, 0) + 1
        event = TrialReported(0.0, trial_id, 1, index, epoch, metrics)
        return any(isinstance(c, Decide) and c.decision is Decision.STOP for c in self._apply(event))

    def complete(self, trial_id: int, config: Any, epoch: int, metrics: Any, stopped: bool) -> None:
        self._apply(TrialCompleted(0.0, trial_id, 1, None, {}, stopped, 0.0, 0.0, ""))

    def observe_batch(self, rows: list[Any]) -> None:
        for number, (config, metrics) in enumerate(rows, start=_SOURCE):
            costs = self.objectives.costs(metrics)
            self.state.observe([Observation(number, config, Phase.ENDED, float(self.problem.max_epoch), costs)])


class DhpoFull(Dhpo):
    """CBO alone: every trial runs to its end."""

    name, stopping = "dhpo-full", False


class DhpoRandom(Dhpo):
    """Hyperband over random search."""

    name = "dhpo-random"

    def searcher(self) -> Any:
        return RandomSearcher(**_SETTINGS)


class DhpoTransfer(DhpoFull):
    """CBO with the earlier tasks' results as a prior."""

    name, transfer = "dhpo-transfer", True

    def searcher(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            priors = [
                fit_prior(self.space, source["configs"], [m["val_accuracy"] for m in source["metrics"]])
                for source in self.problem.sources
            ]
        return CBO(prior=priors, **{**_SETTINGS, **_setting("DHPO_CBO")})


ADAPTERS = {cls.name: cls for cls in (Dhpo, DhpoFull, DhpoRandom, DhpoTransfer)}
