"""What a stopper's settings are checked for, and the rung levels that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite, log
from numbers import Integral, Real
from typing import Any

from dhpo.errors import SettingError

_MOST_RUNGS = 1000


def check_time_attr(value: Any) -> None:
    """Refuse what is no name of a reported metric.

    Raises:
        SettingError: it is something else.
    """
    if not isinstance(value, str) or not value:
        raise SettingError(f"time_attr={value!r}: name the reported metric that grows, such as 'epoch'")


def check_number(name: str, value: Any, *, positive: bool = True) -> None:
    """Refuse what is no finite number above 0, or of at least 0.

    Raises:
        SettingError: it is something else.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    if not number or value < 0 or (positive and value == 0):
        raise SettingError(f"{name}={value!r}: give a finite number {'above' if positive else 'of at least'} 0")


def check_whole(name: str, value: Any) -> None:
    """Refuse what is no whole number of at least 1.

    Raises:
        SettingError: it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingError(f"{name}={value!r}: give a whole number of at least 1")


def positive(name: str, value: Any) -> float:
    """Read a positive, finite number; an int where it is whole.

    Raises:
        SettingError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value) or value <= 0:
        raise SettingError(f"{name}={value!r}: give a finite number above 0")
    return int(value) if isinstance(value, Integral) else _plain(float(value))


def ascending(levels: Any) -> tuple[float, ...]:
    """Read rung levels.

    Raises:
        SettingError: they are no sequence of positive numbers, or do not ascend.
    """
    if isinstance(levels, str) or not isinstance(levels, Sequence) or not levels:
        raise SettingError(f"rung_levels={levels!r}: give ascending numbers such as [1, 3, 9], or None")
    numbers = tuple(positive("a level of rung_levels", level) for level in levels)
    if any(left >= right for left, right in pairwise(numbers)):
        raise SettingError(f"rung_levels={list(levels)} does not ascend strictly: give numbers such as [1, 3, 9]")
    return numbers


def all_below(levels: Sequence[float], max_t: float) -> tuple[float, ...]:
    """Given rung levels, all of which are below ``max_t``.

    Raises:
        SettingError: the last one is not.
    """
    if levels[-1] >= max_t:
        raise SettingError(
            f"rung_levels={list(levels)} reaches max_t={max_t}: leave out the levels from max_t on, where trials are "
            "complete anyway"
        )
    return tuple(levels)


def geometric(first: float, factor: float, max_t: float) -> tuple[float, ...]:
    """Rung levels from ``first`` up to ``max_t``, each ``factor`` times the one before; the last may equal ``max_t``.

    Raises:
        SettingError: there is none, or there are too many.
    """
    if max_t < first:
        raise SettingError(f"max_t={max_t} is below grace_period={first}: lower grace_period or raise max_t")
    if log(max_t / first) / log(factor) > _MOST_RUNGS:
        raise SettingError(f"reduction_factor={factor} makes more than {_MOST_RUNGS} rungs: raise it, to 3 say")
    levels: list[float] = []
    while (level := _tidy(first * factor ** len(levels))) <= max_t:
        levels.append(level)
    return tuple(levels)


def _tidy(level: float) -> float:
    """A level without the rounding of its computation: 0.1 * 3 is 0.3, and whole numbers are ints."""
    return level if isinstance(level, int) else _plain(float(f"{level:.12g}"))


def _plain(value: float) -> float:
    """An int where it is one."""
    return int(value) if value.is_integer() else value
