"""A small Gaussian process: Matérn-5/2 with a length for each input, for up to a few hundred observations."""

from __future__ import annotations

import math
from copy import copy
from typing import Any

import numpy as np

from dhpo.searchers.acquisition import Array, Prediction

#: Rows to which the kernel's parameters are fitted; all rows then enter the posterior.
FIT_ROWS = 80
_JITTER = 1e-8


class GaussianProcess:
    """Gaussian process regression (Rasmussen & Williams 2006, algorithm 2.1).

    The kernel is ``s * matern52(distance)``, plus noise. Its parameters maximise their posterior. The lengths have
    the log-normal prior that widens with the root of the dimension (Hvarfner et al. 2024, arXiv 2402.02229, section 5),
    which keeps the model sound from two observations on and in many dimensions.
    """

    def __init__(self, x: Array, y: Array) -> None:
        """Fit to costs ``y`` (n,) at ``x`` (n, d), whose entries are of the order of one."""
        self.x, self.y = x, y
        z = (y - np.mean(y)) / (float(np.std(y)) or 1.0)
        rows = _spread(len(x), z)
        self._log_parameters = _fit_parameters(x[rows], z[rows])
        self.noise = math.exp(self._log_parameters[-1])
        covariance = self.kernel(x, x)
        covariance[np.diag_indices_from(covariance)] += self.noise + _JITTER
        self.factor = _cholesky(covariance)
        self.white: Array = _solve_lower(self.factor, z)

    def kernel(self, a: Array, b: Array) -> Array:
        """Prior covariances of the scaled costs, (len(a), len(b))."""
        lengths = np.exp(self._log_parameters[:-2])
        root = _squared_distances(a / lengths, b / lengths)
        root *= 5.0
        np.sqrt(root, out=root)
        result = root * root
        result /= 3.0
        result += root
        result += 1.0
        np.negative(root, out=root)
        np.exp(root, out=root)
        result *= root
        result *= self.variance
        return result

    @property
    def variance(self) -> float:
        """The prior variance of the scaled costs."""
        return math.exp(self._log_parameters[-2])

    def belief(self, pool: Array) -> GaussianBelief:
        """Start with nothing believed."""
        return GaussianBelief(self, pool)


class GaussianBelief:
    """The posterior at a pool of candidates, extended by further points without a refit.

    Each further point adds one row to the Cholesky factor. A point that is believed to show its predicted cost has a
    residual of zero, so that the predicted costs need the real observations only.
    """

    def __init__(self, model: GaussianProcess, pool: Array) -> None:
        self._model = model
        self._pool = pool
        self._x = model.x
        self._factor = model.factor
        self._blocks = [_solve_lower(model.factor, model.kernel(model.x, pool))]  # whitened covariances with the pool
        self._explained = _column_squares(self._blocks[0])
        self._condition(model.y)

    def copy(self) -> GaussianBelief:
        """The same belief, to be extended on its own."""
        twin = copy(self)
        twin._blocks = list(self._blocks)
        return twin

    def pool(self) -> Prediction:
        """Predict at the pool."""
        return self._prediction(self._mean, self._explained)

    def at(self, points: Array) -> Prediction:
        """Predict at any points."""
        whitened = _solve_lower(self._factor, self._model.kernel(self._x, points))
        return self._prediction(self._white @ whitened[: len(self._white)], _column_squares(whitened))

    def believe(self, points: Array) -> None:
        """Count these points as observed at their predicted costs."""
        self._extend(points)

    def observe(self, points: Array, costs: Array) -> None:
        """Add observations, before any point is believed.

        Args:
            points: (k, d) what was observed since the fit.
            costs: (n + k,) all costs, of the fit's points (they may be scaled anew) and of these.
        """
        self._extend(points)
        self._condition(costs)

    def _condition(self, costs: Array) -> None:
        """Take these costs (n,) of all points so far."""
        self._offset, self._scale = float(np.mean(costs)), float(np.std(costs)) or 1.0
        self._white: Array = _solve_lower(self._factor, (costs - self._offset) / self._scale)
        self._mean = self._project(self._white)

    def _project(self, left: Array) -> Array:
        """``left.T`` times the whitened covariances with the pool, whose rows are all points so far."""
        start, total = 0, np.zeros((*left.shape[1:], len(self._pool)))
        for block in self._blocks:
            total += left[start : start + len(block)].T @ block
            start += len(block)
        return total

    def _extend(self, points: Array) -> None:
        if not len(points):
            return
        model = self._model
        n, m = len(self._x), len(points)
        cross = _solve_lower(self._factor, model.kernel(self._x, points))
        own = model.kernel(points, points) - cross.T @ cross
        own[np.diag_indices_from(own)] += model.noise + 1e-6 * model.variance
        corner = _cholesky(own)
        block = _solve_lower(corner, model.kernel(points, self._pool) - self._project(cross))
        factor: Array = np.zeros((n + m, n + m))
        factor[:n, :n], factor[n:, :n], factor[n:, n:] = self._factor, cross.T, corner
        self._factor = factor
        self._blocks.append(block)
        self._explained = self._explained + _column_squares(block)
        self._x = np.vstack([self._x, points])

    def _prediction(self, mean: Array, explained: Array) -> Prediction:
        """Costs and deviations from scaled costs, and the variance that is explained there."""
        variance = np.maximum(self._model.variance - explained, 1e-14)
        epistemic = np.sqrt(variance) * self._scale
        total = np.sqrt(variance + self._model.noise) * self._scale
        return Prediction(mean * self._scale + self._offset, epistemic, total)


def _spread(n: int, z: Array) -> Any:
    """Rows for the fit of the parameters: all, or the best half and an even sample of the rest."""
    if n <= FIT_ROWS:
        return slice(None)
    order = np.argsort(z, kind="stable")
    half = FIT_ROWS // 2
    rest = order[half:]
    return np.sort(np.concatenate([order[:half], rest[np.linspace(0, len(rest) - 1, FIT_ROWS - half).astype(int)]]))


def _squared_distances(a: Array, b: Array) -> Array:
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2.0 * (a @ b.T)
    result: Array = np.maximum(squares, 0.0, out=squares)
    return result


def _column_squares(whitened: Array) -> Array:
    result: Array = np.einsum("ij,ij->j", whitened, whitened)
    return result


def _cholesky(matrix: Array) -> Array:
    factor: Array = np.linalg.cholesky(matrix).astype(np.float64, copy=False)
    return factor


def _solve_lower(factor: Array, b: Array) -> Array:
    from scipy.linalg import solve_triangular

    result: Array = solve_triangular(factor, b, lower=True, check_finite=False)
    return result


def _fit_parameters(x: Array, z: Array) -> Array:
    """Log lengths (d), log variance and log noise that maximise the posterior, from one fixed start."""
    from scipy.optimize import minimize

    n, d = x.shape
    squares = np.moveaxis((x[:, None, :] - x[None, :, :]) ** 2, 2, 0).reshape(d, n * n)
    centre = np.concatenate([np.full(d, math.sqrt(2.0) + 0.5 * math.log(max(d, 1))), [0.0, -4.0]])
    width = np.concatenate([np.full(d, math.sqrt(3.0)), [1.0, 1.0]])
    bounds = [(-4.0, 6.0)] * d + [(-4.0, 6.0), (math.log(1e-6), 1.0)]

    def objective(theta: Array) -> tuple[float, Array]:
        """Negative log posterior, and its gradient."""
        inverse_squares = np.exp(-2.0 * theta[:d])
        root = np.sqrt(5.0 * (inverse_squares @ squares)).reshape(n, n)
        decay = math.exp(theta[d]) * np.exp(-root)
        signal = (1.0 + root + root * root / 3.0) * decay
        noise = math.exp(theta[d + 1])
        try:
            factor = _cholesky(signal + (noise + _JITTER) * np.eye(n))
        except np.linalg.LinAlgError:
            return 1e10, np.zeros(d + 2)
        inverse_root = _solve_lower(factor, np.eye(n))
        inverse = inverse_root.T @ inverse_root
        alpha = inverse @ z
        offset = (theta - centre) / width
        value = 0.5 * float(z @ alpha) + float(np.log(np.diag(factor)).sum()) + 0.5 * float(offset @ offset)
        inner = inverse - np.outer(alpha, alpha)
        slope = inner * ((5.0 / 3.0) * (1.0 + root) * decay)
        gradient = np.empty(d + 2)
        gradient[:d] = 0.5 * inverse_squares * (squares @ slope.ravel())
        gradient[d] = 0.5 * float((inner * signal).sum())
        gradient[d + 1] = 0.5 * noise * float(np.trace(inner))
        return value, gradient + offset / width

    start = centre.copy()
    start[:d] = math.log(0.5) + 0.5 * math.log(max(d, 1))
    result = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
    theta: Array = np.asarray(result.x)
    return theta
