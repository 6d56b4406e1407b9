"""From the arguments of DeepHyper's CBO, of its releases 0.8 to 0.13, to those of :class:`dhpo.CBO`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from dhpo.searchers.cbo import CBO


class CBOSettings(TypedDict, total=False):
    """The arguments of ``CBO`` that say how it searches. Whatever is not given is as :class:`dhpo.CBO` has it."""

    surrogate_model: Any
    surrogate_model_kwargs: Mapping[str, Any] | None
    acq_func: str
    acq_func_kwargs: Mapping[str, Any] | None
    acq_optimizer: str
    acq_optimizer_kwargs: Mapping[str, Any] | None
    acq_optimizer_freq: int
    kappa: float
    xi: float
    n_points: int
    filter_duplicated: bool
    update_prior: bool
    update_prior_quantile: float
    multi_point_strategy: str
    n_jobs: int
    n_initial_points: int | None
    initial_point_generator: str
    initial_points: Sequence[Mapping[str, Any]] | None
    sync_communication: bool
    filter_failures: str
    max_failures: int | None
    moo_lower_bounds: Sequence[float | None] | None
    moo_scalarization_strategy: str
    moo_scalarization_weight: Sequence[float] | str | None
    scheduler: Mapping[str, Any] | Callable[..., Any] | None
    objective_scaler: str
    checkpoint_history_to_csv: bool
    checkpoint_restart: bool
    solution_selection: Any


#: Without effect here: dhpo never proposes a configuration twice, polishes the best candidates itself, and journals.
_NO_EFFECT = frozenset({
    "acq_optimizer_freq", "filter_duplicated", "n_jobs", "sync_communication", "checkpoint_history_to_csv",
    "checkpoint_restart", "solution_selection", "n_restarts_optimizer", "outliers_iqr_factor", "ga_pop_size", "ga_xtol",
    "ga_ftol", "ga_period", "ga_n_max_gen",
})  # fmt: skip


#: The same thing under another name.
_SYNONYMS: dict[str, dict[Any, Any]] = {
    "acq_optimizer": {"lbfgs": "sampling", "ga": "sampling", "mixedga": "sampling"},
    "filter_failures": {"max": "min"},  # of what DeepHyper minimises inside
    "objective_scaler": {"minmaxlog": "log"},
    "moo_scalarization_weight": {"random": None},
    "max_failures": {-1: None},
}

#: What dhpo does not have, and the nearest that it has.
_NEAREST: dict[str, dict[Any, Any]] = {
    "surrogate_model": {"RS": "ET", "MF": "ET"},
    "acq_func": {"MES": "EI", "MESd": "EId", "gp_hedged": "gp_hedge"},
    "initial_point_generator": {"hammersly": "halton"},
}

_SCHEDULES = {
    "constant": {"type"},
    "periodic-exp-decay": {"type", "period", "rate", "kappa_final"},
    "bandit": {"type", "delta", "lamb"},
}


def to_cbo(given: Mapping[str, Any]) -> CBO:
    """Make dhpo's searcher of DeepHyper's arguments.

    The first trial is not the space's default configuration, as it is not in DeepHyper.

    Raises:
        TypeError: an argument is unknown.
        SettingError: an argument is unusable.
    """
    unknown = sorted(set(given) - set(CBOSettings.__annotations__))
    if unknown:
        raise TypeError(f"CBO got the unexpected arguments {unknown}")
    flat: dict[str, Any] = {}
    for name, value in given.items():
        if name in ("acq_func_kwargs", "acq_optimizer_kwargs"):
            flat.update(value or {})
        else:
            flat[name] = value
    if "max_total_failures" in flat:
        flat["max_failures"] = flat.pop("max_total_failures")
    settings: dict[str, Any] = {"default_first": False}
    for name, value in flat.items():
        if name not in _NO_EFFECT and value is not None:
            settings[name] = _translated(name, value)
    return CBO(**settings)


def _translated(name: str, value: Any) -> Any:
    if name == "scheduler":
        return _schedule(value)
    key = value if isinstance(value, str | int) else None
    if key in _NEAREST.get(name, {}):
        nearest = _NEAREST[name][key]
        warnings.warn(f"{name}={value!r} is not available: {nearest!r} is used", UserWarning, stacklevel=4)
        return nearest
    return _SYNONYMS.get(name, {}).get(key, value)


def _schedule(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    # DeepHyper's settings are those of all types together; what belongs to another type, or to xi, goes.
    wanted = _SCHEDULES.get(value.get("type", ""), set(value))
    return {key: item for key, item in value.items() if key in wanted and item is not None}
