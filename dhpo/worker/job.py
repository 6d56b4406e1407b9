"""What every trial of a search has in common, as its workers need to know it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dhpo.errors import RunFunctionError, SettingError
from dhpo.objectives import Objectives

_ROLES = {"report": "report", "reporter": "report", "data": "data"}
_BY_POSITION = ("config", "report", "data")

#: Where the run function is called: in a thread of the worker, or in a process of its own.
ISOLATIONS = ("thread", "process")


@dataclass(frozen=True, slots=True)
class CallForm:
    """How the run function wants to be called: what goes to each positional and each keyword argument."""

    positional: tuple[str, ...]  # of "config", "report", "data"
    keywords: tuple[tuple[str, str], ...] = ()  # (parameter, role)

    def has(self, role: str) -> bool:
        """Whether the run function takes this."""
        return role in self.positional or any(r == role for _, r in self.keywords)

    def call(self, function: Callable[..., Any], **given: Any) -> Any:
        """Call the run function with ``config``, ``report`` and ``data`` where it wants them."""
        return function(*(given[r] for r in self.positional), **{name: given[r] for name, r in self.keywords})

    @classmethod
    def of(cls, function: Any, *, has_data: bool) -> CallForm:
        """Read a run function's signature: ``f(config)``, ``f(config, report)``, ``f(config, report, data)``, …

        Parameters are recognised by name (``report``, ``reporter``, ``data``), else by position.

        Raises:
            RunFunctionError: it is not callable, or has a parameter that dhpo has nothing to give to.
            SettingError: it takes data and there is none, or the other way round.
        """
        if not callable(function):
            raise RunFunctionError(f"the run function is {function!r}: give a callable such as train(config)")
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (TypeError, ValueError):  # built-ins without a signature
            return cls(("config",))
        form = cls(*_roles(parameters, function))
        if form.has("data") and not has_data:
            raise SettingError(f"{_name(function)} takes data, but Search(..., data=...) was not given")
        if has_data and not form.has("data"):
            raise SettingError(
                f"data= was given, but {_name(function)} has no parameter for it: write train(config, report, data)"
            )
        return form


def _roles(parameters: list[inspect.Parameter], function: Any) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    positional: list[str] = []
    keywords: list[tuple[str, str]] = []
    for p in parameters:
        role = _ROLES.get(p.name)
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            if p.kind is p.VAR_POSITIONAL and not positional:
                positional.append("config")
        elif p.kind is p.KEYWORD_ONLY:
            if role:
                keywords.append((p.name, role))
            elif p.default is p.empty:
                raise RunFunctionError(f"{_name(function)} has the required keyword {p.name!r}: bind it by partial")
        elif not positional:
            positional.append("config")
        elif role and p.default is p.empty and not keywords:
            positional.append(role)
        elif role:
            keywords.append((p.name, role))
        elif p.default is p.empty:
            if len(positional) >= len(_BY_POSITION) or keywords:
                raise RunFunctionError(
                    f"{_name(function)} has the parameter {p.name!r}: dhpo gives config, report, data"
                )
            positional.append(_BY_POSITION[len(positional)])
    if "config" not in positional:
        raise RunFunctionError(f"{_name(function)} takes no configuration: write it as train(config)")
    return tuple(positional), tuple(keywords)


def _name(function: Any) -> str:
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__qualname__", None) or repr(inner))


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker needs to know to run any trial of one search.

    Args:
        search_id: names the search among others on the same cluster.
        objectives: what each report and result must hold.
        form: how the run function is called.
        time_attr: the reported metric that is the resource; None counts the reports.
        checkpoint_root: the folder (shared with later workers) that holds each trial's checkpoint folder; None for a
            temporary one per trial.
        trial_timeout: seconds after which a trial is ended as timed out: at a report, or, in a process of its own, at
            once.
        isolation: where the run function is called: in a "thread" of the worker, or in a "process" of its own.
        num_cpus: processors that one trial keeps busy.
        num_gpus: GPUs that one trial takes.
    """

    search_id: str
    objectives: Objectives
    form: CallForm
    time_attr: str | None = None
    checkpoint_root: str | None = None
    trial_timeout: float | None = None
    isolation: str = "thread"
    num_cpus: float = 1
    num_gpus: float = 0
