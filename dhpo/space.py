"""The search space as users write it: :class:`HpProblem`, over ConfigSpace."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, overload

import numpy as np

from dhpo._columns import ChoiceColumn
from dhpo._configspace import ConfigurationSpace, Hyperparameter
from dhpo._html import shown, table
from dhpo._space_json import space_from_json, space_to_json
from dhpo._space_values import check_hyperparameter, to_hyperparameter
from dhpo.encoding import Constraint, Encoding, constraint_name
from dhpo.errors import SpaceError
from dhpo.trial import Configuration

_FORMAT = 1


class HpProblem:
    """A search space: hyperparameters, conditions, forbidden clauses and constraints.

    Args:
        config_space: None for an empty space, a ConfigSpace ``ConfigurationSpace`` to use (not copied), or a mapping
            from names to value forms as of :meth:`add_hyperparameter`.

    Example:
        >>> problem = HpProblem()
        >>> lr = problem.add_hyperparameter((1e-5, 1e-1, "log-uniform"), "lr", default_value=1e-3)
        >>> optimizer = problem.add_hyperparameter(["sgd", "adam"], "optimizer")
        >>> problem.default_configuration
        {'lr': 0.001, 'optimizer': 'sgd'}
    """

    def __init__(self, config_space: ConfigurationSpace | Mapping[str, Any] | None = None) -> None:
        self._space = config_space if isinstance(config_space, ConfigurationSpace) else ConfigurationSpace()
        self._names = [str(name) for name in self._space]
        self._constraints: tuple[Constraint, ...] = ()
        self._missing_constraints: tuple[str, ...] = ()
        self._cached: tuple[tuple[Any, ...], Encoding] | None = None
        if config_space is not None and not isinstance(config_space, ConfigurationSpace):
            if not isinstance(config_space, Mapping):
                raise SpaceError(
                    f"config_space is a {type(config_space).__name__}; give a ConfigurationSpace, a mapping from names "
                    "to value forms, or nothing"
                )
            for name, value in config_space.items():
                self.add_hyperparameter(value, name)
        for hyperparameter in self._space.values():
            check_hyperparameter(hyperparameter)

    # -- building ------------------------------------------------------------------------------------------------------

    def add_hyperparameter(self, value: Any, name: str | None = None, default_value: Any = None) -> Hyperparameter:
        """Add a hyperparameter.

        Args:
            value: What it may be:

                * ``(lower, upper)``: an integer if both bounds are, otherwise a float, uniform over the closed range;
                  ``(lower, upper, "log-uniform")`` on a log scale, ``(lower, upper, "uniform")`` as without;
                * a list of numbers: an ordinal, in the given order; any other list: a categorical;
                * ``{"mu": ..., "sigma": ...}``, and ``"lower"``, ``"upper"`` if wanted: a normal distribution, of
                  integers if ``mu`` is one; the bounds default to four standard deviations from the mean;
                * a single number, string or bool: a constant;
                * a ConfigSpace hyperparameter, used as it is.
            name: Its name; ignored for a ConfigSpace hyperparameter, which has its own.
            default_value: Its default; None for the middle of the range, the mean, or the first value of a list.

        Returns:
            The ConfigSpace hyperparameter, for use in conditions and forbidden clauses.

        Raises:
            SpaceError: The value form, the name or the default is not usable, or the name is taken.
        """
        hyperparameter = to_hyperparameter(value, name, default_value)
        if hyperparameter.name in self._space:
            raise SpaceError(
                f"the space already has a hyperparameter {hyperparameter.name!r} "
                f"({self._space[hyperparameter.name]}); give the new one another name"
            )
        self._extend(hyperparameter)
        self._names.append(hyperparameter.name)
        return hyperparameter

    def add(self, value: Any, name: str | None = None, default_value: Any = None) -> Hyperparameter:
        """Add a hyperparameter, as :meth:`add_hyperparameter` does."""
        return self.add_hyperparameter(value, name, default_value)

    def add_hyperparameters(self, hyperparameters: Iterable[Hyperparameter]) -> list[Hyperparameter]:
        """Add several ConfigSpace hyperparameters."""
        return [self.add_hyperparameter(hyperparameter) for hyperparameter in hyperparameters]

    def add_condition(self, condition: Any) -> Any:
        """Add a ConfigSpace condition, by which a hyperparameter is active for some values of others only."""
        return self.add_conditions([condition])[0]

    def add_conditions(self, conditions: Iterable[Any]) -> list[Any]:
        """Add several ConfigSpace conditions."""
        return self._extend_checked(list(conditions))

    def add_forbidden_clause(self, clause: Any) -> Any:
        """Add a ConfigSpace forbidden clause."""
        return self.add_forbidden_clauses([clause])[0]

    def add_forbidden_clauses(self, clauses: Iterable[Any]) -> list[Any]:
        """Add several ConfigSpace forbidden clauses."""
        return self._extend_checked(list(clauses))

    def add_constraint(self, fn: Constraint) -> None:
        """Add a predicate that every configuration must satisfy.

        It is called in the driver process, once for each random candidate that is considered, so it should be quick.
        The JSON form of the space keeps its name only.

        Args:
            fn: Called with a configuration, from which inactive hyperparameters are absent; true where it is allowed.

        Raises:
            SpaceError: ``fn`` is not callable.
        """
        if not callable(fn):
            raise SpaceError(f"the constraint {fn!r} is not callable; give a function of a configuration")
        self._constraints += (fn,)
        self._missing_constraints = tuple(name for name in self._missing_constraints if name != constraint_name(fn))

    def set_constraint_fn(self, fn: Constraint) -> None:
        """Make this predicate the only constraint; see :meth:`add_constraint`."""
        self._constraints, self._missing_constraints = (), ()
        self.add_constraint(fn)

    # -- looking -------------------------------------------------------------------------------------------------------

    @property
    def space(self) -> ConfigurationSpace:
        """The ConfigSpace below."""
        return self._space

    @property
    def hyperparameter_names(self) -> list[str]:
        """The names in the order in which they were added, which is that of configurations and columns."""
        known = set(self._names)
        return self._names + [str(name) for name in self._space if name not in known]

    @property
    def constants(self) -> dict[str, Any]:
        """The values of the constants, by name."""
        columns = (column for column in self.encoding.columns if isinstance(column, ChoiceColumn))
        return {column.name: column.choices[0] for column in columns if column.kind == "constant"}

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The predicates that every configuration must satisfy."""
        return self._constraints

    @property
    def missing_constraints(self) -> tuple[str, ...]:
        """The names of constraints that the JSON form recorded and that were not added again since."""
        return self._missing_constraints

    @property
    def default_configuration(self) -> Configuration:
        """The configuration of all default values. A constraint may forbid it; forbidden clauses never do."""
        return self.encoding.decode(np.full((1, len(self)), np.nan))[0]

    @property
    def encoding(self) -> Encoding:
        """The encoding of the space as it is now."""
        # A ConfigurationSpace only ever grows, so its sizes tell whether it changed behind our back.
        space = self._space
        version = (len(space), len(space.conditions), len(space.forbidden_clauses), self._constraints)
        if self._cached is None or self._cached[0] != version:
            self._cached = version, Encoding(space, self.hyperparameter_names, self._constraints)
        return self._cached[1]

    @property
    def hash(self) -> str:
        """A stable digest of the JSON form, equal for equal spaces across processes and machines (64 hex digits)."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._space)

    def __iter__(self) -> Iterator[str]:
        return iter(self.hyperparameter_names)

    def __contains__(self, item: object) -> bool:
        """Whether a name is that of a hyperparameter, or a mapping is a legal configuration."""
        if isinstance(item, str):
            return item in self._space
        try:
            self.check_configuration(item)
        except SpaceError:
            return False
        return True

    def __eq__(self, other: object) -> bool:
        """Whether the other problem has the same JSON form."""
        return self.to_json() == other.to_json() if isinstance(other, HpProblem) else NotImplemented

    def __repr__(self) -> str:
        lines = [f"    {constraint_name(fn)}\n" for fn in self._constraints]
        return repr(self._space) + ("  Constraints:\n" + "".join(lines) if lines else "")

    def _repr_html_(self) -> str:
        defaults = self.default_configuration
        rows = [
            (column.name, column.kind, column.allowed, "log" if getattr(column, "log", False) else "",
             defaults.get(column.name, "inactive"))
            for column in self.encoding.columns
        ]  # fmt: skip
        below = "".join(f"<p>{shown(constraint_name(fn))}</p>" for fn in self._constraints)
        return table(("name", "kind", "allowed", "scale", "default"), rows) + below

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached": None}

    # -- configurations ------------------------------------------------------------------------------------------------

    def check_configuration(self, config: Any) -> None:
        """Refuse a configuration that is not one of this space.

        Args:
            config: A mapping from names to values, with exactly the active hyperparameters.

        Raises:
            SpaceError: A name or value is not legal, an active hyperparameter is missing, an inactive one is given, or
                a forbidden clause or constraint does not allow it.
        """
        if not isinstance(config, Mapping):
            raise SpaceError(f"the configuration {config!r} is no mapping from hyperparameters to values")
        names = self.hyperparameter_names
        unknown = [name for name in config if name not in self._space]
        if unknown:
            raise SpaceError(f"the configuration has {unknown}, which the space lacks; its hyperparameters are {names}")
        encoding = self.encoding
        given = encoding.encode_given([config])
        active = encoding.active(given)[0]
        for name, is_active, entry in zip(names, active, given[0], strict=True):
            if is_active and np.isnan(entry):
                allowed = next(column.allowed for column in encoding.columns if column.name == name)
                raise SpaceError(f"the configuration {dict(config)!r} lacks {name!r}; give {allowed}")
            if not is_active and name in config:
                raise SpaceError(
                    f"the configuration gives {name!r} = {config[name]!r}, which is inactive there "
                    f"({encoding.condition_of(name)}); leave it out"
                )
        broken = encoding.violated(given[0])
        if broken is not None:
            raise SpaceError(f"the configuration {dict(config)!r} is not allowed by the space ({broken}); change it")

    @overload
    def sample(self, n: None = None, rng: int | np.random.Generator | None = None) -> Configuration: ...

    @overload
    def sample(self, n: int, rng: int | np.random.Generator | None = None) -> list[Configuration]: ...

    def sample(
        self, n: int | None = None, rng: int | np.random.Generator | None = None
    ) -> Configuration | list[Configuration]:
        """Draw configurations from the hyperparameters' distributions.

        Args:
            n: How many; None for a single one.
            rng: A random generator, or a seed for one; None for a fresh one.

        Returns:
            One configuration, or a list of ``n``.

        Raises:
            SpaceError: ``n`` is negative, or hardly anything satisfies the forbidden clauses and constraints.
        """
        if n is not None and n < 0:
            raise SpaceError(f"n={n} configurations cannot be sampled; give 0 or more")
        encoding = self.encoding
        configs = encoding.decode(encoding.sample(1 if n is None else n, np.random.default_rng(rng)))
        return configs[0] if n is None else configs

    # -- JSON ----------------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """The space as JSON: hyperparameters, conditions, forbidden clauses, and the names of the constraints."""
        constraints = [constraint_name(fn) for fn in self._constraints]
        return {
            "format": _FORMAT,
            "names": self.hyperparameter_names,
            "space": space_to_json(self._space),
            "constraints": sorted([*constraints, *self._missing_constraints]),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Make the space again from its JSON form, without its constraints, whose names are then missing.

        Raises:
            SpaceError: The data are not such a form.
        """
        try:
            if data["format"] != _FORMAT:
                raise SpaceError(
                    f"the format {data['format']!r} of the space is not known; this release writes {_FORMAT}"
                )
            problem = cls(space_from_json(data["space"]))
            problem._names = [str(name) for name in data["names"]]
            problem._missing_constraints = tuple(data["constraints"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, SpaceError):
                raise
            raise SpaceError(
                f"this is not the JSON form of a space ({error!r}); use what to_json() returned"
            ) from error
        if set(problem._names) != set(problem._space):
            raise SpaceError(f"the names {problem._names} are not those of the space, {list(problem._space)}")
        return problem

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _extend_checked(self, clauses: list[Any]) -> list[Any]:
        # ConfigSpace keeps a clause that it refuses, so it is asked on a copy first.
        self._extend(*clauses, space=copy.deepcopy(self._space))
        self._extend(*clauses)
        return clauses

    def _extend(self, *items: Any, space: ConfigurationSpace | None = None) -> None:
        try:
            (self._space if space is None else space).add(*items)
        except (ValueError, TypeError, LookupError, AssertionError) as error:
            raise SpaceError(
                f"{', '.join(map(str, items))} cannot be added to the space: {error!r}. Conditions and clauses must "
                "name hyperparameters of the space and their legal values, and the default values must form an allowed "
                "configuration (change one by default_value)"
            ) from error
