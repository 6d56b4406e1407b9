"""AutoGluon's search spaces, and what turns configurations into the ``args`` of its training functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dhpo._configspace import CategoricalHyperparameter
from dhpo.errors import SpaceError
from dhpo.space import HpProblem
from dhpo.trial import Configuration
from dhpo.worker.reporter import Reporter

__all__ = ["Bool", "Categorical", "Dict", "Int", "List", "Real"]

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Real:
    """A number from ``lower`` to ``upper``; ``log`` for a logarithmic scale."""

    lower: float
    upper: float
    default: float | None = None
    log: bool = False

    def add(self, problem: HpProblem, name: str) -> None:
        """Add it to a problem."""
        scale = "log-uniform" if self.log else "uniform"
        problem.add_hyperparameter((float(self.lower), float(self.upper), scale), name, self.default)


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number from ``lower`` to ``upper``, both included."""

    lower: int
    upper: int
    default: int | None = None

    def add(self, problem: HpProblem, name: str) -> None:
        """Add it to a problem."""
        problem.add_hyperparameter((int(self.lower), int(self.upper)), name, self.default)


@dataclass(frozen=True, slots=True)
class Bool:
    """True or False."""

    def add(self, problem: HpProblem, name: str) -> None:
        """Add it to a problem."""
        problem.add_hyperparameter([False, True], name)


class Categorical:
    """One of several values without an order: numbers, strings, booleans, None, or tuples of these."""

    def __init__(self, *data: Any) -> None:
        self.data = data

    def add(self, problem: HpProblem, name: str) -> None:
        """Add it to a problem.

        Raises:
            SpaceError: it is empty, or a value is of another kind, such as a search space of its own.
        """
        choices = [tuple(value) if isinstance(value, list) else value for value in self.data]
        nested = [value for value in choices if isinstance(value, (*_LEAVES, List, Dict))]
        if not choices or nested:
            raise SpaceError(f"Categorical {name!r} has {nested or 'no values'}: give plain values")
        problem.add_hyperparameter(CategoricalHyperparameter(name, choices))


class List:
    """A list of values and search spaces."""

    def __init__(self, *data: Any) -> None:
        self.data = data


class Dict:
    """A mapping of names to values and search spaces; ``args`` has it as a mapping with attribute access."""

    def __init__(self, **data: Any) -> None:
        self.data = data


_LEAVES = (Real, Int, Bool, Categorical)


def args(**space: Any) -> Callable[[Function], Function]:
    """Decorate a training function ``train_fn(args, reporter)`` with its search space.

    Args:
        **space: what ``args`` has as attributes: search spaces, and constants of any kind.
    """

    def decorate(function: Function) -> Function:
        function.args = Configuration(space)  # type: ignore[attr-defined]
        return function

    return decorate


def problem_of(space: Mapping[str, Any]) -> HpProblem:
    """The search spaces of a decorator's arguments as a problem; those within another one as ``outer.inner``."""
    problem = HpProblem()
    for name, leaf in _leaves(space):
        leaf.add(problem, name)
    return problem


def _leaves(space: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in space.items():
        if isinstance(value, _LEAVES):
            yield name, value
        elif isinstance(value, List | Dict):
            yield from _leaves({f"{name}.{key}": item for key, item in _items(value)})


def _items(value: List | Dict) -> list[tuple[Any, Any]]:
    return list(value.data.items()) if isinstance(value, Dict) else list(enumerate(value.data))


def _filled(value: Any, name: str, config: Mapping[str, Any]) -> Any:
    """A value of the decorator's arguments with the configuration's values in place of search spaces."""
    if isinstance(value, _LEAVES):
        return config[name]
    if isinstance(value, List | Dict):
        parts = {key: _filled(item, f"{name}.{key}", config) for key, item in _items(value)}
        return Configuration(parts) if isinstance(value, Dict) else list(parts.values())
    return value


@dataclass(frozen=True, slots=True)
class TrainFunction:
    """An AutoGluon training function in dhpo's form."""

    function: Callable[..., Any]
    space: Mapping[str, Any]

    def __call__(self, config: Configuration, report: Reporter) -> Any:
        """Run it; ``args.task_id`` is the trial's number."""
        values = {name: _filled(value, name, config) for name, value in self.space.items()}
        return self.function(Configuration({"task_id": report.trial, **values}), report)
