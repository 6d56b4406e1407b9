"""From the short forms in which users write hyperparameters to ConfigSpace's objects."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dhpo._configspace import (
    BetaFloatHyperparameter,
    BetaIntegerHyperparameter,
    CategoricalHyperparameter,
    Constant,
    Hyperparameter,
    NormalFloatHyperparameter,
    NormalIntegerHyperparameter,
    OrdinalHyperparameter,
    UniformFloatHyperparameter,
    UniformIntegerHyperparameter,
)
from dhpo.errors import SpaceError

FLOATS = (UniformFloatHyperparameter, NormalFloatHyperparameter, BetaFloatHyperparameter)
INTEGERS = (UniformIntegerHyperparameter, NormalIntegerHyperparameter, BetaIntegerHyperparameter)
PRIORS = (
    NormalFloatHyperparameter,
    NormalIntegerHyperparameter,
    BetaFloatHyperparameter,
    BetaIntegerHyperparameter,
)

FORMS = (
    "(lower, upper), (lower, upper, 'log-uniform'), a list of values, {'mu': ..., 'sigma': ...}, "
    "a single number or string, or a ConfigSpace hyperparameter"
)
# Beyond these, double precision no longer tells neighbouring integers of the unit interval apart.
_WIDEST_INTEGERS = 2**50
_LARGEST_LOG_INTEGER = 10**12
# Bounds that a normal distribution gets when none are given, in standard deviations from its mean.
_NORMAL_REACH = 4.0


def plain(value: Any, where: str) -> Any:
    """Turn a choice into plain Python: numpy scalars become Python's, lists become tuples.

    Args:
        value: A number, a string, a bool, None, or a list or tuple of these.
        where: What the value belongs to, for the error.

    Returns:
        The plain, hashable value.

    Raises:
        SpaceError: The value is something else, or is not finite.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise SpaceError(f"{where}: {value} cannot be used; give finite values")
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return tuple(plain(item, where) for item in value)
    raise SpaceError(
        f"{where}: {value!r} ({type(value).__name__}) cannot be used as a value; use numbers, strings, booleans or "
        "tuples of these, and look the object up by its name in the run function"
    )


def is_number(value: Any) -> bool:
    """Whether the value is a real number, and no bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)


def to_hyperparameter(value: Any, name: str | None, default: Any = None) -> Hyperparameter:
    """Make the ConfigSpace hyperparameter that a value form stands for.

    Args:
        value: One of the forms of :meth:`dhpo.space.HpProblem.add_hyperparameter`.
        name: The hyperparameter's name; not needed where ``value`` is a ConfigSpace hyperparameter.
        default: Its default value; None leaves the choice to ConfigSpace.

    Returns:
        The ConfigSpace hyperparameter.

    Raises:
        SpaceError: The form, the name or the default is not usable.
    """
    if isinstance(value, Hyperparameter):
        if default is not None:
            raise SpaceError(
                f"hyperparameter {value.name!r}: default_value={default!r} was given beside a ConfigSpace "
                "hyperparameter; give default_value to that object's constructor"
            )
        check_hyperparameter(value)
        return value
    if not isinstance(name, str) or not name:
        raise SpaceError(
            f"the hyperparameter with the value {value!r} needs a name, a non-empty string, not {name!r}: "
            "write add_hyperparameter(value, 'name')"
        )
    where = f"hyperparameter {name!r}"
    try:
        hyperparameter = _build(value, name, default, where)
    except SpaceError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise SpaceError(f"{where}: {error}; allowed forms are {FORMS}") from error
    check_hyperparameter(hyperparameter)
    return hyperparameter


def check_hyperparameter(hyperparameter: Hyperparameter) -> None:
    """Refuse a ConfigSpace hyperparameter that cannot be encoded or written as JSON exactly."""
    where = f"hyperparameter {hyperparameter.name!r}"
    if isinstance(hyperparameter, FLOATS):
        _check_finite(hyperparameter.lower, hyperparameter.upper, where)
    elif isinstance(hyperparameter, INTEGERS):
        widest = max(abs(hyperparameter.lower), abs(hyperparameter.upper))
        if widest > _WIDEST_INTEGERS or (hyperparameter.log and widest > _LARGEST_LOG_INTEGER):
            raise SpaceError(
                f"{where}: the integer range [{hyperparameter.lower}, {hyperparameter.upper}] is too wide to be told "
                "apart in double precision; use float bounds"
            )
    elif isinstance(hyperparameter, CategoricalHyperparameter):
        plain(hyperparameter.choices, where)
    elif isinstance(hyperparameter, OrdinalHyperparameter):
        plain(hyperparameter.sequence, where)
    elif isinstance(hyperparameter, Constant):
        plain(hyperparameter.value, where)
    else:
        raise SpaceError(f"{where}: the type {type(hyperparameter).__name__} is not known; allowed forms are {FORMS}")


def _build(value: Any, name: str, default: Any, where: str) -> Hyperparameter:
    if isinstance(value, tuple):
        return _range(value, name, default, where)
    if isinstance(value, list):
        return _choice(value, name, default, where)
    if isinstance(value, Mapping):
        return _normal(value, name, default, where)
    if isinstance(value, str | bool | np.generic) or is_number(value):
        value = plain(value, where)
        if default is not None and default != value:
            raise SpaceError(f"{where}: default_value={default!r} differs from the constant {value!r}; leave it out")
        return Constant(name, value)
    raise SpaceError(f"{where}: {value!r} is no value form; allowed forms are {FORMS}")


def _number(value: Any, what: str, where: str) -> int | float:
    if not is_number(value):
        raise SpaceError(f"{where}: {what} is {value!r}, not a number; allowed forms are {FORMS}")
    number: int | float = plain(value, where)
    return number


def _range(value: tuple[Any, ...], name: str, default: Any, where: str) -> Hyperparameter:
    if len(value) not in (2, 3):
        raise SpaceError(
            f"{where}: {value!r} has {len(value)} elements; write (lower, upper) or (lower, upper, 'log-uniform'), "
            "or a list for single values"
        )
    if len(value) == 3 and value[2] not in ("uniform", "log-uniform"):
        raise SpaceError(f"{where}: the third element {value[2]!r} is not known; write 'uniform' or 'log-uniform'")
    log = len(value) == 3 and value[2] == "log-uniform"
    lower, upper = _bounds(value[0], value[1], where)
    if log and lower <= 0:
        raise SpaceError(f"{where}: the lower bound {lower} of a log-uniform range must be above 0; raise it")
    default = _default_in(default, lower, upper, where)
    if isinstance(lower, float):
        _check_decimals(lower, upper, where)
        return UniformFloatHyperparameter(name, lower, upper, default_value=default, log=log)
    return UniformIntegerHyperparameter(name, lower, upper, default_value=default, log=log)


def _bounds(lower: Any, upper: Any, where: str) -> tuple[int, int] | tuple[float, float]:
    """The bounds: integers where both are, otherwise floats."""
    lower, upper = _number(lower, "the lower bound", where), _number(upper, "the upper bound", where)
    if lower >= upper:
        raise SpaceError(
            f"{where}: the lower bound {lower} is not below the upper bound {upper}; "
            "swap them, or give a single value for a constant"
        )
    if isinstance(lower, int) and isinstance(upper, int):
        return lower, upper
    lower, upper = float(lower), float(upper)
    _check_finite(lower, upper, where)
    return lower, upper


def _check_finite(lower: float, upper: float, where: str) -> None:
    if not math.isfinite(upper - lower):
        raise SpaceError(f"{where}: the width of the range [{lower}, {upper}] is not finite; narrow it")


def _check_decimals(lower: float, upper: float, where: str) -> None:
    for bound in (lower, upper):
        if abs(float(np.round(bound, 13)) - bound) > 1e-3 * abs(bound):
            raise SpaceError(
                f"{where}: the bound {bound} is too small, ConfigSpace keeps 13 decimals; "
                "search over its exponent, or in a larger unit"
            )


def _default_in(default: Any, lower: float, upper: float, where: str) -> int | float | None:
    if default is None:
        return None
    default = _number(default, "default_value", where)
    if not lower <= default <= upper:
        raise SpaceError(f"{where}: default_value={default} is outside [{lower}, {upper}]; give one inside")
    if isinstance(lower, int) and default != int(default):
        raise SpaceError(f"{where}: default_value={default} is no integer, but the bounds are; give an integer")
    number: int | float = default
    return number


def _choice(values: Sequence[Any], name: str, default: Any, where: str) -> Hyperparameter:
    if not values:
        raise SpaceError(f"{where}: the list of values is empty; give at least one")
    choices = [plain(value, where) for value in values]
    default = None if default is None else plain(default, where)
    repeated = [value for i, value in enumerate(choices) if value in choices[:i]]
    if repeated:
        raise SpaceError(f"{where}: {repeated[0]!r} occurs more than once in {values!r}; give each value once")
    if default is not None and default not in choices:
        raise SpaceError(f"{where}: default_value={default!r} is none of {choices!r}; give one of them")
    # ConfigSpace compares with ==, by which True is 1: take the choice itself.
    default = choices[0] if default is None else choices[choices.index(default)]
    if all(is_number(choice) for choice in choices):
        return OrdinalHyperparameter(name, choices, default_value=default)
    return CategoricalHyperparameter(name, choices, default_value=default)


def _normal(value: Mapping[str, Any], name: str, default: Any, where: str) -> Hyperparameter:
    unknown = set(value) - {"mu", "sigma", "lower", "upper"}
    if unknown or "mu" not in value or "sigma" not in value:
        raise SpaceError(f"{where}: write {{'mu': ..., 'sigma': ..., 'lower': ..., 'upper': ...}}, not {dict(value)!r}")
    mu, sigma = _number(value["mu"], "mu", where), _number(value["sigma"], "sigma", where)
    if sigma <= 0:
        raise SpaceError(f"{where}: sigma={sigma} must be above 0")
    integer = isinstance(mu, int)
    lower = value.get("lower", mu - _NORMAL_REACH * sigma)
    upper = value.get("upper", mu + _NORMAL_REACH * sigma)
    lower, upper = _bounds(lower, upper, where)
    if integer:
        lower, upper = math.floor(lower), math.ceil(upper)
    default = _default_in(default, lower, upper, where)
    kind = NormalIntegerHyperparameter if integer else NormalFloatHyperparameter
    if not integer:
        _check_decimals(lower, upper, where)
    return kind(name, mu=mu, sigma=sigma, lower=lower, upper=upper, default_value=default)
