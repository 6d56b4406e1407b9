"""Two objectives and early stopping: accurate and fast networks for MNIST's handwritten digits.

Each trial trains a multi-layer perceptron epoch by epoch and reports its accuracy and how long a prediction takes.
Hyperband stops trials at epochs 1, 3, 9 unless they are among the best trade-offs.

    python examples/mo_hyperband_mnist.py

prints the Pareto front, and writes the search, ``front.csv`` and figures to ``runs/mnist``. Interrupt it with Ctrl-C
and start it again: it goes on where it was.

The images come from ``--mnist DIR``, a folder with MNIST's files (``train-images-idx3-ubyte.gz`` and so on, packed or
not), by default ``mnist`` in the folder that the variable DHPO_DATA names (``../shared/data`` where it is not set);
where there is none, from OpenML, and without a network from scikit-learn's small digits.
"""

from __future__ import annotations

import argparse
import gzip
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import fetch_openml, load_digits
from sklearn.neural_network import MLPClassifier

from dhpo import HpProblem, Hyperband, Results, Search
from dhpo.plots import save_all

Arrays = dict[str, np.ndarray]

OBJECTIVES = {"test_score": "MAX", "prediction_time": "MIN"}


def train(config: Any, report: Any, data: Arrays) -> None:
    """Train one network; runs on the workers, where ``data`` is mapped read-only."""
    hidden = [config.layer_1, config.layer_2, config.layer_3, config.layer_4][: config.n_layers]
    network = MLPClassifier(
        hidden_layer_sizes=hidden,
        alpha=config.alpha,
        learning_rate_init=config.learning_rate_init,
        beta_1=config.beta_1,
        beta_2=config.beta_2,
        random_state=0,
    )
    for epoch in range(1, config.epochs + 1):
        network.partial_fit(data["X_train"], data["y_train"], classes=np.arange(10))
        report(
            epoch=epoch,
            train_score=network.score(data["X_train"], data["y_train"]),
            test_score=network.score(data["X_test"], data["y_test"]),
            prediction_time=prediction_time(network, data["X_test"]),
        )


def prediction_time(network: MLPClassifier, X: np.ndarray) -> float:
    """Seconds for one prediction of all of ``X``: the least of five, since others use the machine too."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        network.predict(X)
        times.append(time.perf_counter() - start)
    return min(times)


def make_problem(max_epochs: int) -> HpProblem:
    return HpProblem(
        {
            "n_layers": (1, 4),
            **{f"layer_{i}": (2, 32) for i in (1, 2, 3, 4)},
            "alpha": (1e-6, 1e-1, "log-uniform"),
            "learning_rate_init": (1e-5, 1e-1, "log-uniform"),
            "beta_1": (0.001, 0.99, "log-uniform"),
            "beta_2": (0.001, 0.99, "log-uniform"),
            "epochs": max_epochs,
        }
    )


def load(folder: Path | None) -> Arrays:
    """MNIST from a folder or from OpenML, else scikit-learn's digits."""
    if folder is not None:
        return from_folder(folder)
    try:
        print("Fetching MNIST from OpenML ...")
        X, y = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False, parser="pandas", n_retries=1)
        return split(X / 255.0, y.astype(int), 60_000)
    except OSError as error:
        print(f"OpenML cannot be reached ({error}): taking scikit-learn's digits (1,797 images of 8 x 8 pixels).")
        digits = load_digits()
        return split(digits.data / 16.0, digits.target, 1_437)


def from_folder(folder: Path) -> Arrays:
    test = read_idx(folder, "t10k-images-idx3-ubyte"), read_idx(folder, "t10k-labels-idx1-ubyte")
    if not any(folder.glob("train-images-idx3-ubyte*")):
        n, n_train = len(test[0]), len(test[0]) * 4 // 5
        print(f"{folder} has the {n:,} test images only: {n_train:,} for training, {n - n_train:,} for testing.")
        return split(test[0].reshape(-1, 784) / 255.0, test[1], n_train)
    train = read_idx(folder, "train-images-idx3-ubyte"), read_idx(folder, "train-labels-idx1-ubyte")
    images = np.concatenate([train[0], test[0]]).reshape(-1, 784)
    return split(images / 255.0, np.concatenate([train[1], test[1]]), len(train[0]))


def read_idx(folder: Path, name: str) -> np.ndarray:
    """Read a file in MNIST's own format: a header with the shape, then bytes."""
    packed = folder / f"{name}.gz"
    content = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / name).read_bytes()
    dimensions = content[3]
    shape = np.frombuffer(content, dtype=">i4", count=dimensions, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def split(X: np.ndarray, y: np.ndarray, n_train: int) -> Arrays:
    X, y = X.astype(np.float32), y.astype(np.int64)
    return {"X_train": X[:n_train], "y_train": y[:n_train], "X_test": X[n_train:], "y_test": y[n_train:]}


def front_table(results: Results) -> pd.DataFrame:
    """The front with the configurations behind it, the most accurate first."""
    rows = []
    for point in results.pareto_front(strict=True, unique=True, resource=True):
        trial, epoch = point.pop("task_id-ressource")
        config = results.config_history[trial]
        layers = [config[f"layer_{i}"] for i in range(1, config["n_layers"] + 1)]
        rows.append({"trial": int(trial), "epoch": epoch, **point, "layers": "-".join(map(str, layers))})
    return pd.DataFrame(rows).sort_values("test_score", ascending=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, metavar="DIR", help="a folder with MNIST's files")
    parser.add_argument("--trials", type=int, default=20, help="how many networks are tried (default: 20)")
    parser.add_argument(
        "--max-epochs", type=int, default=27, help="epochs of a trial that is not stopped (default: 27)"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--log-dir", type=Path, default=Path("runs/mnist"))
    parser.add_argument("--cluster", default="local", help="local, threads, or a Dask scheduler's address or file")
    arguments = parser.parse_args()
    folder = arguments.mnist
    if folder is None and (known := Path(os.environ.get("DHPO_DATA") or "../shared/data") / "mnist").is_dir():
        folder = known

    search = Search(
        make_problem(arguments.max_epochs),
        train,
        objectives=OBJECTIVES,
        stopper=Hyperband(time_attr="epoch", grace_period=1, reduction_factor=3),
        cluster=arguments.cluster,
        data=load(folder),
        log_dir=arguments.log_dir,
        random_state=arguments.seed,
    )
    results = search.run(num_trials=arguments.trials)
    print(results)
    if len(results.pareto_front()) == 0:
        return
    front = front_table(results)
    print(front.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    front.to_csv(arguments.log_dir / "front.csv", index=False)
    figures = save_all(results, arguments.log_dir)
    print(f"In {arguments.log_dir}: results.csv, front.csv, {', '.join(path.name for path in figures)}")


if __name__ == "__main__":
    main()
