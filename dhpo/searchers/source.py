"""What one earlier search says of the costs in the target's space: a regression that can be asked anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dhpo.encoding import Encoding
from dhpo.pareto import non_dominated_rank
from dhpo.searchers.acquisition import Array
from dhpo.searchers.gaussian_process import GaussianProcess
from dhpo.searchers.history import clip_outliers

#: Results that the regression is fitted to, at most.
ROWS = 200


@dataclass(frozen=True, eq=False)
class SourceModel:
    """The earlier search's costs as a function of the target's hyperparameters: the mean of a Gaussian process.

    Attributes:
        features: (f,) which of the target's model inputs the source knows.
        x: (n, k) the source's configurations, in the inputs that it knows.
        y: (n,) their costs, with mean 0 and deviation 1; the Pareto rank takes the place of several objectives.
        process: the fitted process.
        weights: (n,) the weights of its kernel at ``x``.
    """

    features: npt.NDArray[np.bool_]
    x: Array
    y: Array
    process: GaussianProcess
    weights: Array

    @classmethod
    def fit(cls, encoding: Encoding, rows: Array, costs: Array) -> SourceModel | None:
        """Fit to encoded configurations (n, d), NaN where unknown, and their costs (n, m), all of them finite.

        None where they tell nothing: there are fewer than two, or all are equally good.
        """
        rank = costs[:, 0] if costs.shape[1] == 1 else non_dominated_rank(costs).astype(float)
        keep = _even(rank)
        y = clip_outliers(rank[keep][:, None])[:, 0]
        known = ~np.isnan(rows).all(axis=0)
        features = np.repeat(known, [column.features(np.zeros(1)).shape[1] for column in encoding.columns])
        if len(y) < 2 or y.max() == y.min() or not features.any():
            return None
        x = encoding.features(rows[keep])[:, features]
        y = (y - y.mean()) / y.std()
        process = GaussianProcess(x, y)
        weights = np.linalg.solve(process.factor.T, process.white).astype(np.float64, copy=False)
        return cls(features, x, y, process, weights)

    @property
    def complete(self) -> bool:
        """Whether the source knows all of the target's hyperparameters."""
        return bool(self.features.all())

    def predict(self, inputs: Array) -> Array:
        """The scaled costs (n,) to be expected at model inputs (n, f or more: a resource that follows is ignored)."""
        points = inputs[:, : len(self.features)][:, self.features]
        result: Array = self.weights @ self.process.kernel(self.x, points)
        return result


def _even(cost: Array) -> npt.NDArray[np.int64]:
    """Places of at most ROWS results: the best, as a half of these, and an even sample of the others by cost."""
    order = np.argsort(cost, kind="stable")
    if len(order) > ROWS:
        best, rest = order[: ROWS // 2], order[ROWS // 2 :]
        order = np.concatenate([best, rest[np.linspace(0, len(rest) - 1, ROWS - len(best)).astype(int)]])
    return np.sort(order)
