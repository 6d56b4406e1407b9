"""Transfer learning: the search of a small problem starts the search of a larger one ahead.

A sphere function stands for a model whose training is expensive: with one hyperparameter it is the small problem,
with two the large one. The small problem is searched first; its results then tell the search of the large one where
good values of ``x0`` are, while ``x1``, which it has never seen, is searched from its own prior.

    python examples/transfer_learning.py

prints what is reached with and without transfer, and writes the searches and a figure to ``runs/transfer_learning``. A
second start finds the searches finished there and only draws.
"""

from __future__ import annotations

import argparse
import functools
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws into files: no screen is needed

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from dhpo import CBO, HpProblem, Results, Search


def run(config: dict[str, float], n: int) -> float:
    """Return the objective, which is maximised: 0 at the origin, negative elsewhere."""
    return -sum(config[f"x{i}"] ** 2 for i in range(n))


def make_search(n: int, seed: int, log_dir: Path) -> Search:
    problem = HpProblem({f"x{i}": (-10.0, 10.0) for i in range(n)})
    # A search begins with the default configuration, which is the middle of each range; here that would be the optimum.
    searcher = CBO(default_first=False)
    function = functools.partial(run, n=n)
    return Search(problem, function, searcher=searcher, cluster="serial", random_state=seed, log_dir=log_dir)


def compare(trials: int, seed: int, log_dir: Path) -> dict[str, Results]:
    """Run the three searches."""
    results = {}
    results["small"] = make_search(1, seed, log_dir / "small").run(trials)
    results["large"] = make_search(2, seed, log_dir / "large").run(trials)

    search = make_search(2, seed, log_dir / "large_with_transfer")
    with warnings.catch_warnings():
        # Of twenty results it takes the best ten, not the best tenth, and says so.
        warnings.filterwarnings("ignore", message="The value of q=")
        search.fit_generative_model(results["small"])
    results["large with transfer"] = search.run(trials)
    return results


def best_so_far(results: Results) -> np.ndarray:
    return results.to_frame().objective.cummax().to_numpy(dtype=float)


def table(curves: dict[str, np.ndarray], trials: int) -> pd.DataFrame:
    """The median over the repeats of the best value after so many evaluations."""
    after = [k for k in (1, 2, 5, 10, 15, 20, 30, 50, 100) if k < trials] + [trials]
    columns = {name: np.median(rows[:, [k - 1 for k in after]], axis=0) for name, rows in curves.items()}
    return pd.DataFrame(columns, index=pd.Index(after, name="evaluations"))


def draw(curves: dict[str, np.ndarray], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(5.0, 3.4), layout="constrained")
    for (name, rows), colour in zip(curves.items(), ("#a9b4bf", "#1f4e79", "#c8501e"), strict=True):
        evaluations = np.arange(1, rows.shape[1] + 1)
        regret = np.maximum(-rows, 1e-8)
        axes.step(evaluations, regret.T, where="post", color=colour, alpha=0.3, linewidth=0.8)
        axes.step(evaluations, np.median(regret, axis=0), where="post", color=colour, linewidth=1.8, label=name)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("evaluations")
    axes.set_ylabel("distance of the best objective from 0")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20, help="evaluations of each search (default: 20)")
    parser.add_argument("--repeats", type=int, default=5, help="how often, with one seed each (default: 5)")
    parser.add_argument("--seed", type=int, default=42, help="the first seed (default: 42)")
    parser.add_argument("--log-dir", type=Path, default=Path("runs/transfer_learning"))
    arguments = parser.parse_args()

    searches = [
        compare(arguments.trials, seed, arguments.log_dir / f"seed-{seed}")
        for seed in range(arguments.seed, arguments.seed + arguments.repeats)
    ]
    curves = {name: np.array([best_so_far(results[name]) for results in searches]) for name in searches[0]}
    print(f"Best objective so far, median of {arguments.repeats} repeats (0 is the optimum):")
    print(table(curves, arguments.trials).to_string(float_format=lambda value: f"{value:.3g}"))
    path = arguments.log_dir / "transfer_learning.png"
    draw(curves, path)
    print(f"The figure is {path}")


if __name__ == "__main__":
    main()
