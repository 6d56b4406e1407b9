from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from program_runner import ROOT, run_script
from sklearn.datasets import load_digits

EXAMPLES = ROOT / "examples"


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write MNIST's own format."""
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">i4").tobytes()
    content = head + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def mnist(tmp_path):
    """A folder like MNIST's, with 600 digits of scikit-learn in images of 28 x 28."""
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    digits = load_digits()
    images = np.zeros((600, 28, 28))
    images[:, 2:26, 2:26] = np.kron(digits.images[:600] * 15, np.ones((1, 3, 3)))
    write_idx(folder / "train-images-idx3-ubyte.gz", images[:500])
    write_idx(folder / "train-labels-idx1-ubyte", digits.target[:500])
    write_idx(folder / "t10k-images-idx3-ubyte", images[500:])
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", digits.target[500:600])
    return folder


def test_transfer_learning(tmp_path):
    script = EXAMPLES / "transfer_learning.py"
    out = run_script(script, tmp_path, "--repeats", "1", "--trials", "12").stdout
    assert "large with transfer" in out
    rows = [line.split() for line in out.splitlines() if line[:1].isdigit()]
    assert [int(row[0]) for row in rows] == [1, 2, 5, 10, 12]
    values = np.array([[float(cell) for cell in row[1:]] for row in rows])
    assert values.shape == (5, 3)
    assert (np.diff(values, axis=0) >= 0).all()
    folder = tmp_path / "runs" / "transfer_learning"
    assert (folder / "transfer_learning.png").stat().st_size > 5000
    frame = pd.read_csv(folder / "seed-42" / "large_with_transfer" / "results.csv")
    assert len(frame) == 12
    again = run_script(script, tmp_path, "--repeats", "1", "--trials", "12").stdout
    assert again == out


def test_mnist_runs_and_goes_on(tmp_path, mnist):
    script = EXAMPLES / "mo_hyperband_mnist.py"
    arguments = ("--mnist", str(mnist), "--max-epochs", "9")
    out = run_script(script, tmp_path, *arguments, "--trials", "4").stdout
    assert "test images only" not in out
    folder = tmp_path / "runs" / "mnist"
    front = pd.read_csv(folder / "front.csv")
    assert list(front) == ["trial", "epoch", "test_score", "prediction_time", "layers"]
    assert front["test_score"].is_monotonic_decreasing
    assert front["prediction_time"].is_monotonic_decreasing
    for name in ("front.png", "learning_curves_0.png", "hypervolume.png"):
        assert (folder / name).stat().st_size > 5000
    first = pd.read_csv(folder / "results.csv")
    assert len(first) == 4
    done = run_script(script, tmp_path, *arguments, "--trials", "6", data=str(mnist.parent))
    assert "6 trials" in done.stdout
    second = pd.read_csv(folder / "results.csv")
    assert second.iloc[:4]["objective_0"].tolist() == first["objective_0"].tolist()
    for word in ("Large object", "large graph", "Warning", "Traceback"):
        assert word.lower() not in done.stderr.lower()


def test_mnist_splits_the_test_images_where_these_are_all_there_is(mnist, monkeypatch, capsys):
    for path in mnist.glob("train-*"):
        path.unlink()
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import mo_hyperband_mnist as example

    arrays = example.load(mnist)
    assert (arrays["X_train"].shape, arrays["X_test"].shape) == ((80, 784), (20, 784))
    assert "the 100 test images only: 80 for training, 20 for testing" in capsys.readouterr().out
    assert arrays["X_train"].dtype == np.float32
    assert arrays["X_train"].max() <= 1.0
    assert arrays["X_train"].max() > 0.5
    assert arrays["y_test"].tolist() == load_digits().target[580:600].tolist()


def test_mnist_without_files_or_network(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import mo_hyperband_mnist as example

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(example, "fetch_openml", offline)
    arrays = example.load(None)
    assert {name: len(a) for name, a in arrays.items()} == {
        "X_train": 1437, "y_train": 1437, "X_test": 360, "y_test": 360,
    }  # fmt: skip
    assert "digits" in capsys.readouterr().out

    def online(*args, **kwargs):
        return np.full((60_010, 4), 255.0), np.full(60_010, "7", dtype=object)

    monkeypatch.setattr(example, "fetch_openml", online)
    arrays = example.load(None)
    assert len(arrays["X_test"]) == 10
    assert arrays["X_test"].max() == 1.0
    assert arrays["y_test"].tolist() == [7] * 10


def test_digits_runs_from_the_command_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "dhpo", "run", str(EXAMPLES / "digits.py"), "-n", "3", "--no-progress"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Pareto front of ")
    assert "3 of 3 trials ended" in done.stdout
    assert (tmp_path / "runs" / "digits" / "results.csv").exists()
