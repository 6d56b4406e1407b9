"""Search quality on a sphere: f(x) = -sum (x_i - shift)^2 on [-10, 10]^N, 20 serial evaluations.

A search in one dimension is the source; the target has two. The default configuration is not evaluated first: it is
the optimum of the unshifted sphere. Prints the median and the mean of the best value over the seeds, with
and without transfer.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dhpo.objectives import Objectives
from dhpo.searchers import CBO, RandomSearcher, Searcher, fit_prior
from dhpo.space import HpProblem
from dhpo.trial import Observation, Phase

COUNTS = (5, 10, 15, 20)


def problem(n: int) -> HpProblem:
    space = HpProblem()
    for i in range(n):
        space.add_hyperparameter((-10.0, 10.0), f"x{i}")
    return space


def search(
    space: HpProblem, searcher: Searcher, seed: int, shift: float, n: int = 20
) -> tuple[list[Mapping[str, Any]], list[float]]:
    """Serial search; the configurations and their values."""
    state = searcher.bind(space, Objectives.parse(), seed=seed, max_t=None)
    configs, values = [], []
    for number in range(n):
        (proposal,) = state.propose([number])
        config = proposal.config
        state.observe([Observation(number, config, Phase.PENDING)])
        values.append(-sum((x - shift) ** 2 for x in config.values()))
        configs.append(config)
        state.observe([Observation(number, config, Phase.ENDED, None, (-values[-1],))])
    return configs, values


def best(runs: list[list[float]]) -> np.ndarray[Any, Any]:
    return np.maximum.accumulate(np.array(runs), axis=1)[:, [c - 1 for c in COUNTS]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--shift", type=float, default=0.0, help="where the optimum lies on every axis")
    parser.add_argument("--source-shift", type=float, help="where the source's optimum lies, if elsewhere")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of CBO to change")
    args = parser.parse_args()
    pairs = (item.split("=", 1) for item in args.set)
    changes = {k: float(v) if v.replace(".", "").isdigit() else v for k, v in pairs}
    changes = {k: int(v) if k.startswith("n_") else v for k, v in changes.items()}
    searcher = CBO(default_first=False, **changes)
    source_shift = args.shift if args.source_shift is None else args.source_shift
    runs: dict[str, list[list[float]]] = {"random": [], "without transfer": [], "with transfer": []}
    seconds = 0.0
    for seed in range(args.seeds):
        configs, values = search(problem(1), searcher, seed, source_shift)
        target = problem(2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prior = fit_prior(target, configs, values)
        runs["random"].append(search(target, RandomSearcher(default_first=False), seed, args.shift)[1])
        start = time.perf_counter()
        runs["without transfer"].append(search(target, searcher, seed, args.shift)[1])
        seconds += time.perf_counter() - start
        runs["with transfer"].append(search(target, replace(searcher, prior=prior), seed, args.shift)[1])
    print(f"{'':>26}" + "".join(f"{c:>10}" for c in COUNTS) + "   evaluations")
    for name, values_by_seed in runs.items():
        table = best(values_by_seed)
        for label, row in (("median", np.median(table, axis=0)), ("mean", table.mean(axis=0))):
            print(f"{name + ', ' + label:>26}" + "".join(f"{v:>10.3g}" for v in row))
    print(f"{seconds / args.seeds / 20 * 1e3:.1f} ms per proposal without transfer")


if __name__ == "__main__":
    main()
