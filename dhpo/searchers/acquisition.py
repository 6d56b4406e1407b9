"""Acquisition functions, and the schedules by which exploration fades.

Everything works on costs, to be minimised; a score is to be maximised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from dhpo.errors import SettingError

Array: TypeAlias = npt.NDArray[np.float64]

#: What a user may give as ``scheduler``: None, settings by name, or a function of (step, initial value).
Scheduler: TypeAlias = Mapping[str, Any] | Callable[[int, float], float] | None

_TINY = 1e-12
_SCHEDULES: dict[str, frozenset[str]] = {
    "constant": frozenset(),
    "periodic-exp-decay": frozenset({"period", "rate", "kappa_final"}),
    "bandit": frozenset({"delta", "lamb"}),
}


class Prediction(NamedTuple):
    """Predicted costs (n,), and the standard deviations (n,) without and with the noise of the objective."""

    mean: Array
    epistemic: Array
    total: Array


def ucb(mean: Array, std: Array, best: float, kappa: float, xi: float) -> Array:
    """Upper confidence bound of the (negated) cost, ``kappa * std - mean`` (Srinivas et al. 2010)."""
    return kappa * std - mean


def expected_improvement(mean: Array, std: Array, best: float, kappa: float, xi: float) -> Array:
    """Expected improvement on ``best - xi`` (Jones et al. 1998, section 4.1)."""
    from scipy.special import ndtr

    gain = best - xi - mean
    z = gain / np.maximum(std, _TINY)
    value: Array = gain * ndtr(z) + std * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return value


def log_expected_improvement(mean: Array, std: Array, best: float, kappa: float, xi: float) -> Array:
    """Logarithm of the expected improvement, finite where the latter underflows (Ament et al. 2023, section 4.1)."""
    from scipy.special import erfcx, ndtr

    std = np.maximum(std, _TINY)
    z = (best - xi - mean) / std
    log_h = np.empty_like(z)
    near = z > -1.0
    log_h[near] = np.log(np.exp(-0.5 * z[near] ** 2) / math.sqrt(2 * math.pi) + z[near] * ndtr(z[near]))
    far = z[~near]
    # phi(z) + z Phi(z) = phi(z) * (1 - |z| * sqrt(pi/2) * erfcx(|z|/sqrt 2)); the bracket tends to 1/z^2, and is
    # replaced by it where the subtraction has lost its digits.
    bracket = 1.0 - np.abs(far) * math.sqrt(math.pi / 2) * erfcx(np.abs(far) / math.sqrt(2))
    bracket = np.where(far < -1e3, far**-2.0, np.maximum(bracket, np.finfo(float).tiny))
    log_h[~near] = -0.5 * far**2 - 0.5 * math.log(2 * math.pi) + np.log(bracket)
    result: Array = log_h + np.log(std)
    return result


def probability_of_improvement(mean: Array, std: Array, best: float, kappa: float, xi: float) -> Array:
    """Logarithm of the probability of improving on ``best - xi``, which ranks as the probability does."""
    from scipy.special import log_ndtr

    value: Array = log_ndtr((best - xi - mean) / np.maximum(std, _TINY))
    return value


_FUNCTIONS: dict[str, Callable[[Array, Array, float, float, float], Array]] = {
    "UCB": ucb,
    "EI": expected_improvement,
    "logEI": log_expected_improvement,
    "PI": probability_of_improvement,
}
#: What "gp_hedge" chooses from; the others are scored where the model is at hand.
HEDGED = ("EI", "UCB", "PI")
_NAMES = (*_FUNCTIONS, "gp_hedge", "EHVI", "TS")


class Acquisition(NamedTuple):
    """A parsed acquisition function.

    Attributes:
        name: one of "UCB", "EI", "logEI", "PI", "gp_hedge", "EHVI", "TS".
        epistemic: whether only the model's own uncertainty counts, not the noise of the objective (suffix "d").
        sampled: whether each proposal draws its own ``kappa`` from the exponential law with mean ``kappa``
            (prefix "q"; Égelé et al. 2023, arXiv 2207.00479, section 3).
    """

    name: str
    epistemic: bool
    sampled: bool

    @classmethod
    def parse(cls, value: Any) -> Acquisition:
        """Read "UCB", "UCBd", "EI", "EId", "logEI", "PI", "qUCB", "qUCBd", …

        Raises:
            SettingError: the name is unknown.
        """
        text = value if isinstance(value, str) else ""
        sampled = text.startswith("q")
        name = text.removeprefix("q").removesuffix("d")
        if name not in _NAMES or (sampled and name != "UCB"):
            raise SettingError(
                f"acq_func={value!r} is unknown: write one of {', '.join(map(repr, _NAMES))}, 'qUCB', "
                "each also with the suffix 'd' (epistemic uncertainty only)"
            )
        return cls(name, text.endswith("d"), sampled)

    @property
    def imports(self) -> tuple[str, ...]:
        """The modules that scoring spends time to import."""
        return () if self.name in ("UCB", "TS") else ("scipy.special",)

    def score(self, mean: Array, std: Array, best: float, kappa: float, xi: float) -> Array:
        """Score points, higher is better.

        Args:
            mean: (n,) predicted costs.
            std: (n,) their standard deviations.
            best: the lowest cost known.
            kappa: weight of ``std`` in UCB.
            xi: improvement that EI and PI ask for at least, in units of the cost.
        """
        return _FUNCTIONS[self.name](mean, std, best, kappa, xi)


def check_scheduler(scheduler: Any) -> None:
    """Refuse a scheduler that :func:`scheduled` cannot follow.

    Raises:
        SettingError: it is no mapping with a known "type", or has unknown or unusable entries.
    """
    if scheduler is None or callable(scheduler):
        return
    kind = scheduler.get("type") if isinstance(scheduler, Mapping) else None
    if kind not in _SCHEDULES:
        raise SettingError(
            f"scheduler={scheduler!r} is unknown: give None, a function of (step, value), or a mapping whose "
            f"'type' is one of {sorted(_SCHEDULES)}"
        )
    unknown = set(scheduler) - _SCHEDULES[kind] - {"type", "delay"}
    if unknown:
        raise SettingError(f"scheduler has the unknown entries {sorted(unknown)}; {kind!r} takes delay and "
                           f"{sorted(_SCHEDULES[kind])}")  # fmt: skip
    for name in ("period", "rate", "kappa_final", "delta", "lamb"):
        value = scheduler.get(name, 1.0)
        if not isinstance(value, int | float) or not value > 0:
            raise SettingError(f"scheduler[{name!r}]={value!r}: give a positive number")


def scheduled(scheduler: Scheduler, step: int, kappa: float, n_initial: int) -> float:
    """``kappa`` at a step.

    Args:
        scheduler: see :func:`check_scheduler`; "periodic-exp-decay" multiplies by
            ``exp(-rate * ((step - delay) mod period))``; "bandit" replaces kappa by
            ``sqrt(2 lamb log(i^2 pi^2 / (6 delta)))`` (Srinivas et al. 2010, theorem 1).
        step: how many observations there are.
        kappa: the initial value.
        n_initial: the delay where the scheduler names none.
    """
    if scheduler is None:
        return kappa
    if not isinstance(scheduler, Mapping):
        return float(scheduler(step, kappa))
    elapsed = max(step - int(scheduler.get("delay", n_initial)), 0)
    if scheduler["type"] == "periodic-exp-decay":
        period = scheduler.get("period", 30)
        final = scheduler.get("kappa_final", kappa * 0.01)
        rate = scheduler.get("rate") or math.log(max(kappa, _TINY) / final) / period
        return float(kappa * math.exp(-rate * (elapsed % period)))
    if scheduler["type"] == "bandit":
        i = elapsed + 1
        growth = math.log(i * i * math.pi**2 / (6 * scheduler.get("delta", 0.05)))
        return math.sqrt(2 * scheduler.get("lamb", 0.2) * max(growth, 0.0))
    return kappa
