"""How long sampling, encoding and decoding take, beside ConfigSpace's own sampling.

Run: python benchmarks/encoding.py [--n 10000] [--repeat 9]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import ConfigSpace as cs
import numpy as np

from dhpo.space import HpProblem


def make_problem(*, conditional: bool) -> HpProblem:
    problem = HpProblem(
        {
            "lr": (1e-5, 1e-1, "log-uniform"),
            "dropout": (0.0, 0.9),
            "width": (16, 1024, "log-uniform"),
            "depth": (1, 12),
            "batch": [16, 32, 64, 128, 256],
            "activation": ["relu", "gelu", "tanh", "swish"],
            "optimizer": ["sgd", "adam"],
        }
    )
    if conditional:
        space = problem.space
        problem.add_condition(cs.EqualsCondition(space["dropout"], space["optimizer"], "adam"))
        problem.add_condition(cs.GreaterThanCondition(space["width"], space["depth"], 3))
    return problem


def median_ms(function: Callable[[], object], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def measure(problem: HpProblem, n: int, repeat: int) -> dict[str, float]:
    encoding = problem.encoding
    rng = np.random.default_rng(0)
    rows = encoding.sample(n, rng)
    configs = encoding.decode(rows)
    problem.space.seed(0)
    cases: dict[str, Callable[[], object]] = {
        "dhpo sample": lambda: encoding.sample(n, rng),
        "dhpo encode": lambda: encoding.encode(configs),
        "dhpo decode": lambda: encoding.decode(rows),
        "dhpo snap": lambda: encoding.snap(rows),
        "dhpo keys": lambda: encoding.keys(rows),
        "dhpo neighbours (100)": lambda: encoding.neighbours(rows[0], rng, 100),
        "dhpo sample (1)": lambda: encoding.sample(1, rng),
        "ConfigSpace sample_configuration": lambda: problem.space.sample_configuration(n),
        "ConfigSpace sample_configuration, as dicts": lambda: [dict(c) for c in problem.space.sample_configuration(n)],
    }
    return {name: median_ms(function, repeat) for name, function in cases.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="configurations (default: %(default)s)")
    parser.add_argument("--repeat", type=int, default=9, help="repetitions, of which the median is printed")
    args = parser.parse_args()
    flat, conditional = (measure(make_problem(conditional=c), args.n, args.repeat) for c in (False, True))
    print(f"milliseconds for {args.n} configurations of 7 hyperparameters, median of {args.repeat}")
    print(f"{'':44}{'flat':>10}{'2 conditions':>14}")
    for name in flat:
        print(f"{name:44}{flat[name]:10.2f}{conditional[name]:14.2f}")


if __name__ == "__main__":
    main()
