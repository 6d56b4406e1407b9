"""``fetch_openml("mnist_784")`` without a network, and ``MLPClassifier`` as it was before scikit-learn 1.7.

The data are 1,500 rows of MNIST's test images, where the environment variable DHPO_DATA tells a folder with ``mnist/``
in it, otherwise of scikit-learn's digits; the form is OpenML's.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn import neural_network
from sklearn.datasets import load_digits

ROWS = 1_500


class MLPClassifier(neural_network.MLPClassifier):
    """With ``classes`` where it was: scikit-learn 1.7 has put ``sample_weight`` before it."""

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> MLPClassifier:
        return super().partial_fit(X, y, classes=classes)


class Sample:
    """Every so-many-th row of a frame or series of 70,000: slices count as they would in the whole one."""

    def __init__(self, values: Any) -> None:
        self.values = values
        self.places = np.linspace(0, 70_000, len(values), endpoint=False)

    def __truediv__(self, other: float) -> Sample:
        return Sample(self.values / other)

    def __getitem__(self, rows: slice) -> Any:
        first, last = np.searchsorted(self.places, [rows.start or 0, 70_000 if rows.stop is None else rows.stop])
        return self.values.iloc[first:last]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.values, dtype=dtype)


def fetch_openml(name: str, *, version: int, return_X_y: bool) -> tuple[Sample, Sample]:
    assert (name, version, return_X_y) == ("mnist_784", 1, True)
    folder = Path(os.environ.get("DHPO_DATA", "/nonexistent")) / "mnist"
    if folder.is_dir():
        pixels = _idx(folder / "t10k-images-idx3-ubyte.gz", 16).reshape(-1, 784)[:ROWS]
        labels = _idx(folder / "t10k-labels-idx1-ubyte.gz", 8)[:ROWS]
    else:
        digits = load_digits()
        pixels, labels = digits.data[:ROWS] * 16, digits.target[:ROWS]
    columns = [f"pixel{i}" for i in range(1, pixels.shape[1] + 1)]
    frame = pd.DataFrame(pixels.astype(float), columns=columns)
    return Sample(frame), Sample(pd.Series(pd.Categorical(labels.astype(str)), name="class"))


def _idx(path: Path, header: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=header)
