"""Budgets: when a search ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from dhpo.errors import SettingError
from dhpo.objectives import Objectives
from dhpo.study import Study

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)")
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(d|h|min|m|s)")


def parse_duration(value: Any, name: str = "time_out") -> float | None:
    """Read a duration in seconds from a number, "2h30m", "90 s", "1d", "[days-]hours:minutes:seconds", or None.

    Raises:
        SettingError: it is not a positive, finite duration.
    """
    if value is None:
        return None
    seconds = float("nan")
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        text = value.strip().lower()
        if clock := _CLOCK.fullmatch(text):
            days, a, b, c = (int(g) if g else 0 for g in clock.groups())
            seconds = days * 86400.0 + (a * 3600.0 + b * 60.0 + c)
        elif re.fullmatch(r"[\d.]+", text) and text.count(".") <= 1:
            seconds = float(text)
        elif text and not _PART.sub("", text).strip():
            seconds = sum(float(n) * _UNITS[u] for n, u in _PART.findall(text))
    if not isfinite(seconds) or seconds <= 0:
        raise SettingError(f"{name}={value!r} is no duration: give seconds, or text such as '2h30m' or '45min'")
    return seconds


@dataclass(frozen=True, slots=True)
class Budget:
    """When one run of a search ends: at the first of these that is reached.

    Args:
        num_trials: how many trials the search runs in all, those of earlier runs on the same journal included, those
            that were added with their results not.
        time_limit: the search's clock (seconds) at which this run ends.
        goal: end as soon as a report has costs at or below these (infinite where an objective is free).
        patience: end after this many ended trials without an improvement (of the best, or of the Pareto front).
        max_failures: end after this many failed trials in a row.
    """

    num_trials: int | None = None
    time_limit: float | None = None
    goal: tuple[float, ...] | None = None
    patience: int | None = None
    max_failures: int | None = None

    def begun(self, time: float) -> Budget:
        """The same for a run that begins now: its ``time_limit`` counts from there."""
        return self if self.time_limit is None else replace(self, time_limit=self.time_limit + time)

    def room(self, study: Study) -> float:
        """How many trials may still be proposed."""
        return float("inf") if self.num_trials is None else max(0, self.num_trials - study.n_run)

    def exhausted_failures(self, study: Study) -> bool:
        """Whether too many trials in a row have failed."""
        return self.max_failures is not None and study.failures_in_a_row >= self.max_failures

    def reached(self, study: Study, time: float) -> str | None:
        """Why the search is at its end now, or None."""
        ended = self.num_trials is not None and study.n_ended >= self.num_trials and not study.n_running
        if ended and next(study.promotable(), None) is None:
            return f"num_trials={self.num_trials} reached"
        if self.exhausted_failures(study):
            return f"the last {study.failures_in_a_row} trials failed"
        if self.goal is not None and study.goal_met:
            return "stop_at reached"
        if self.patience is not None and study.n_ended - study.n_ended_at_improvement >= self.patience:
            return f"no improvement in {self.patience} trials"
        if self.time_limit is not None and time >= self.time_limit:
            return "time_out reached"
        return None


def parse_budget(
    objectives: Objectives,
    num_trials: Any,
    time_out: Any,
    max_evals: Any,
    stop_at: Any,
    patience: Any,
    *,
    max_failures: int | None,
) -> Budget:
    """Read what a user says of a run's end; see :meth:`dhpo.Search.run`. The time limit counts from 0.

    Raises:
        SettingError: some of it is unusable, or there is no end at all.
    """
    if num_trials is not None and max_evals is not None and num_trials != max_evals:
        raise SettingError(f"num_trials={num_trials} and max_evals={max_evals} differ: they mean the same, give one")
    count = check_count(num_trials if num_trials is not None else max_evals, "num_trials")
    seconds = parse_duration(time_out)
    goal = parse_goal(stop_at, objectives)
    patience = check_count(patience, "patience")
    if count is None and seconds is None and goal is None and patience is None:
        raise SettingError("run() needs an end: give num_trials, time_out, stop_at or patience")
    return Budget(count, seconds, goal, patience, max_failures)


def check_count(value: Any, name: str, least: int = 1) -> int | None:
    """Read a whole number, or None.

    Raises:
        SettingError: it is neither, or below ``least``.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < least:
        raise SettingError(f"{name}={value!r}: give a whole number of at least {least}")
    return int(value.__index__())


def parse_goal(value: Any, objectives: Objectives) -> tuple[float, ...] | None:
    """Read ``stop_at``, a number for a single objective, or {objective: value}, into costs.

    Raises:
        SettingError: an unknown objective or a value that is no finite number.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        pairs = dict(value)
    elif objectives.single:
        pairs = {objectives.names[0]: value}
    else:
        raise SettingError(f"stop_at={value!r}: with several objectives give {{objective: value}}")
    for name, bound in pairs.items():
        if name not in objectives.names:
            raise SettingError(f"stop_at names {name!r}, which is no objective; there are {list(objectives.names)}")
        if not isinstance(bound, int | float) or isinstance(bound, bool) or not isfinite(bound):
            raise SettingError(f"stop_at[{name!r}]={bound!r} is no finite number")
    return tuple(
        sign * pairs[name] if name in pairs else float("inf")
        for name, sign in zip(objectives.names, objectives.signs, strict=True)
    )
