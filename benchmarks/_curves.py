"""What the trials of ``scaling.py`` train: made-up learning curves, or those of LCBench where the data is there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import exp, inf
from pathlib import Path
from typing import Any

import numpy as np

from dhpo import HpProblem

EPOCHS = 9  # of the made-up curves
MEAN_TRAINING = 1200.0  # seconds of a whole training of LCBench, in the mean: theirs are 10 times as short


@dataclass(frozen=True)
class Curves:
    """A problem with learning curves.

    Args:
        name: for the tables.
        problem: its space.
        epochs: of a whole training.
        objectives: one or two of them.
        train: the run function; it reports ``epoch``, the objectives and ``seconds``.
        figure: called once per search; what it returns takes a report's values and returns the regret by then.
    """

    name: str
    problem: HpProblem
    epochs: int
    objectives: Mapping[str, str]
    train: Callable[..., None]
    figure: Callable[[], Callable[[Mapping[str, Any]], float]]


def made_up(scale: float = 1.0) -> Curves:
    """Seven hyperparameters: four matter, one sets the duration, two do nothing; 1 to 60 minutes, ``scale`` times."""

    def train(config: Any, report: Any) -> None:
        seconds = 60.0 * scale * 60.0 ** config["layers"] / EPOCHS
        for epoch in range(1, EPOCHS + 1):
            report(epoch=epoch, error=_error(config, epoch), seconds=seconds)

    def figure() -> Callable[[Mapping[str, Any]], float]:
        best = inf

        def seen(values: Mapping[str, Any]) -> float:
            nonlocal best
            best = min(best, values["error"])
            return best

        return seen

    names = ("rate", "momentum", "decay", "width", "layers", "unused", "seed")
    problem = HpProblem(dict.fromkeys(names, (0.0, 1.0)))
    return Curves("made up", problem, EPOCHS, {"error": "MIN"}, train, figure)


def _error(config: Mapping[str, float], epoch: float) -> float:
    """Wide networks learn slowly and end lower, small rates likewise; about .044 is the least."""
    best = (0.62, 0.3, 0.45, 0.7)
    far = sum((config[name] - b) ** 2 for name, b in zip(("rate", "momentum", "decay", "width"), best, strict=True))
    speed = 0.25 + 0.6 * config["rate"] - 0.15 * config["width"]
    noise = 0.01 * np.sin(1e4 * (config["seed"] + epoch * config["unused"]))
    return float(0.05 + 0.4 * far + 0.45 * exp(-speed * epoch) + noise)


def harness() -> Path:
    """Where ``hpoq`` is, which has the surrogate of LCBench (see ``quality/run.py``)."""
    return Path(os.environ.get("DHPO_QUALITY", Path(__file__).resolve().parents[2] / "shared" / "quality"))


def lcbench(data_set: str, *, objectives: int = 1) -> Curves:
    """LCBench's curves of 52 epochs on one data set; a whole training takes 20 minutes in the mean.

    Args:
        data_set: its OpenML task.
        objectives: 1, the accuracy; or 2, the time per epoch besides.
    """
    sys.path.append(str(harness()))
    from hpoq.bench import LCBench
    from hpoq.metrics import load_ref

    bench, reference = LCBench(data_set), load_ref(f"lcbench-{data_set}")
    factor = MEAN_TRAINING / reference["time_full_mean"]
    problem = HpProblem()
    for p in bench.space:
        problem.add_hyperparameter((p.lo, p.hi, "log-uniform" if p.log else "uniform"), p.name)

    def train(config: Any, report: Any) -> None:
        curve = bench.curve(dict(config))
        seconds = np.diff(curve["time"], prepend=0.0) * factor
        rows = zip(curve["val_accuracy"].tolist(), curve["time_per_epoch"].tolist(), seconds.tolist(), strict=True)
        for epoch, (accuracy, per_epoch, took) in enumerate(rows, 1):
            report(epoch=epoch, accuracy=accuracy, per_epoch=per_epoch, seconds=took)

    goals = dict([("accuracy", "MAX"), ("per_epoch", "MIN")][:objectives])
    figure = (lambda: _regret(reference)) if objectives == 1 else (lambda: _hypervolume_regret(reference))
    return Curves(f"LCBench {data_set}", problem, bench.max_epoch, goals, train, figure)


def _regret(reference: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], float]:
    best = -inf

    def seen(values: Mapping[str, Any]) -> float:
        nonlocal best
        best = max(best, values["accuracy"])
        return float((reference["best"] - best) / (reference["best"] - reference["worst"]))

    return seen


def _hypervolume_regret(reference: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], float]:
    from hpoq.metrics import hv2, pareto

    low, high = np.array(reference["ideal"]), np.array(reference["nadir"])
    front = np.empty((0, 2))
    regret = 1.0

    def seen(values: Mapping[str, Any]) -> float:
        nonlocal front, regret
        point = (np.array([100.0 - values["accuracy"], values["per_epoch"]]) - low) / (high - low)
        if (point < 1.1).all() and not (front <= point).all(axis=1).any():
            front = pareto(np.vstack([front, point]))
            regret = 1.0 - hv2(front) / reference["hv_ref"]
        return regret

    return seen
