"""A small Gaussian process: Matérn-5/2 with a length for each input, for up to a few hundred observations."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from dhpo.searchers._minimise import minimise
from dhpo.searchers.acquisition import Array, Prediction

#: Rows to which the kernel's parameters are fitted; all rows then enter the posterior.
FIT_ROWS = 80
_JITTER = 1e-8
_FEATURES = 256  # random Fourier features of a draw from the prior
_ROOM = 64  # further points that there is room for at once
_IN_CACHE = 1 << 15  # so many covariances are computed at once: what is on the way stays near the processor
_DIRECT = 32  # a triangular matrix of so many rows is inverted in one go
_BLOCK = 128  # rows of a triangular matrix that are multiplied at once, without the zeros beside them


class GaussianProcess:
    """Gaussian process regression (Rasmussen & Williams 2006, algorithm 2.1).

    The kernel is ``s * matern52(distance)``, plus noise. Its parameters maximise their posterior. The lengths have
    the log-normal prior that widens with the root of the dimension (Hvarfner et al. 2024, arXiv 2402.02229, section 5),
    which keeps the model sound from two observations on and in many dimensions.

    Attributes:
        x: (n, d) where it was observed.
        y: (n,) the costs there.
        lengths: (d,) the kernel's lengths.
        variance: the prior variance of the scaled costs.
        noise: the variance of their noise.
        factor: (n, n) the lower Cholesky factor of the covariances of what was observed.
        whitener: (n, n) its inverse.
        white: (n,) the scaled costs, whitened.
    """

    def __init__(self, x: Array, y: Array, lengths: Lengths | None = None, kernel: Kernel | None = None) -> None:
        """Fit to costs ``y`` (n,) at ``x`` (n, d), whose entries are of the order of one.

        Args:
            x: (n, d).
            y: (n,).
            lengths: what is expected of the kernel's lengths; None: the prior above.
            kernel: the kernel, where it is known from other costs at the same kind of points; None: it is fitted.
        """
        self.x, self.y = x, y
        self.lengths, self.variance, self.noise = kernel or fitted_kernel(x, y, lengths)
        z = _standardised(y)
        covariance = self.kernel(x, x)
        covariance[np.diag_indices_from(covariance)] += self.noise + _JITTER
        self.factor = _cholesky(covariance)
        self.whitener = _inverse_lower(self.factor)
        self.white: Array = self.whitener @ z

    def kernel(self, a: Array, b: Array) -> Array:
        """Prior covariances of the scaled costs, (len(a), len(b))."""
        return self.covariance(self.scaled(a), self.scaled(b))

    def scaled(self, points: Array) -> Scaled:
        """Points (n, d) in units of the lengths, ready for :meth:`covariance`."""
        coordinates = points / self.lengths
        return Scaled(coordinates, np.einsum("ij,ij->i", coordinates, coordinates))

    def covariance(self, a: Scaled, b: Scaled) -> Array:
        """Prior covariances of the scaled costs, (len(a), len(b))."""
        result = np.empty((len(a.squares), len(b.squares)))
        rows = max(1, _IN_CACHE // max(1, len(b.squares)))
        for start in range(0, len(result), rows):
            part = slice(start, start + rows)
            self._covariance(Scaled(a.coordinates[part], a.squares[part]), b, result[part])
        return result

    def _covariance(self, a: Scaled, b: Scaled, out: Array) -> None:
        """``s * (1 + r + r * r / 3) * exp(-r)`` for distances ``r`` in units of the lengths over the root of five."""
        root = (-10.0 * a.coordinates) @ b.coordinates.T
        root += 5.0 * a.squares[:, None]
        root += 5.0 * b.squares
        np.maximum(root, 0.0, out=root)
        np.sqrt(root, out=root)
        np.multiply(root, self.variance / 3.0, out=out)
        out += self.variance
        out *= root
        out += self.variance
        np.negative(root, out=root)
        np.exp(root, out=root)
        out *= root

    def belief(self, pool: Array) -> GaussianBelief:
        """Start with nothing believed."""
        return GaussianBelief(self, pool)


class Kernel(NamedTuple):
    """The parameters of a Gaussian process.

    Attributes:
        lengths: (d,) one for each input.
        variance: the prior variance of the scaled costs.
        noise: the variance of their noise.
    """

    lengths: Array
    variance: float
    noise: float


class Lengths(NamedTuple):
    """A normal prior of the logarithms of a kernel's lengths.

    Attributes:
        centre: (d,) the means.
        width: (d,) the deviations.
    """

    centre: Array
    width: Array


def usual_lengths(d: int) -> Lengths:
    """The prior for ``d`` inputs of which nothing is known (Hvarfner et al. 2024)."""
    return Lengths(np.full(d, math.sqrt(2.0) + 0.5 * math.log(max(d, 1))), np.full(d, math.sqrt(3.0)))


def fitted_kernel(x: Array, y: Array, lengths: Lengths | None = None) -> Kernel:
    """The kernel for costs ``y`` (n,) at ``x`` (n, d); see :class:`GaussianProcess`."""
    z = _standardised(y)
    rows = _spread(len(x), z)
    parameters = _fit_parameters(x[rows], z[rows], lengths or usual_lengths(x.shape[1]))
    return Kernel(np.exp(parameters[:-2]), math.exp(parameters[-2]), math.exp(parameters[-1]))


class Scaled(NamedTuple):
    """Points in units of the kernel's lengths (n, d), and their squared norms (n,)."""

    coordinates: Array
    squares: Array


class GaussianBelief:
    """The posterior at a pool of candidates, extended by further points without a refit.

    Each further point adds one row to the inverse of the Cholesky factor. A point that is believed to show its
    predicted cost has a residual of zero, so that the predicted costs need the real observations only.
    """

    def __init__(self, model: GaussianProcess, pool: Array) -> None:
        self._model = model
        self._pool = model.scaled(pool)
        self._n = len(model.x)  # how many points there are so far; the first of them are the model's own
        self._points = model.scaled(model.x)
        self._whitener = model.whitener
        self._base = _lower_product(model.whitener, model.covariance(self._points, self._pool))  # whitened
        self._further: Array = np.empty((0, len(pool)))  # the same of the further points, with room for more
        self._owns = False  # the arrays that grow; copies share them until one grows
        self._explained = _column_squares(self._base)
        self._condition(model.y)

    def copy(self) -> GaussianBelief:
        """The same belief, to be extended on its own."""
        twin = copy(self)
        twin._owns = False
        return twin

    def pool(self) -> Prediction:
        """Predict at the pool."""
        return self._prediction(self._mean, self._explained)

    def at(self, points: Array) -> Prediction:
        """Predict at any points."""
        n = self._n
        covariance = self._model.covariance(self._known, self._model.scaled(points))
        whitened = _lower_product(self._whitener[:n, :n], covariance)
        return self._prediction(self._white @ whitened[: len(self._white)], _column_squares(whitened))

    def path(self, rng: np.random.Generator) -> Callable[[Array], Array]:
        """Draw a function from the posterior, which gives its costs (k,) at points (k, d).

        A draw from the prior, by random Fourier features, is corrected by the kernel so as to pass near what was
        observed (Wilson et al. 2020, arXiv 2002.09309, section 3.2). Points that are believed count as observed.
        """
        model, known = self._model, self._known
        # The spectral density of Matérn-5/2 is Student's t with 5 degrees of freedom.
        directions = rng.standard_normal((len(model.lengths), _FEATURES))
        directions *= np.sqrt(5.0 / rng.chisquare(5.0, _FEATURES))
        phases = rng.uniform(0.0, 2.0 * math.pi, _FEATURES)
        amplitudes = rng.standard_normal(_FEATURES) * math.sqrt(2.0 * model.variance / _FEATURES)

        def prior(scaled: Scaled) -> Array:
            result: Array = np.cos(scaled.coordinates @ directions + phases) @ amplitudes
            return result

        whitener = self._whitener[: self._n, : self._n]
        n_real = len(self._white)
        weights = whitener[:n_real, :n_real].T @ self._white
        shown = model.covariance(known, Scaled(*(part[:n_real] for part in known))) @ weights
        shown[:n_real] = self._shown
        residuals = shown - prior(known) - math.sqrt(model.noise) * rng.standard_normal(self._n)
        correction = whitener.T @ (whitener @ residuals)

        def costs(points: Array) -> Array:
            scaled = model.scaled(points)
            drawn: Array = prior(scaled) + correction @ model.covariance(known, scaled)
            return drawn * self._scale + self._offset

        return costs

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

    @property
    def _known(self) -> Scaled:
        """All points so far, observed or believed."""
        return Scaled(self._points.coordinates[: self._n], self._points.squares[: self._n])

    def _condition(self, costs: Array) -> None:
        """Take these costs (n,) of all points so far."""
        self._offset, self._scale = float(np.mean(costs)), float(np.std(costs)) or 1.0
        self._shown: Array = (costs - self._offset) / self._scale
        self._white: Array = self._whitener[: self._n, : self._n] @ self._shown
        self._mean = self._project(self._white)

    def _project(self, left: Array) -> Array:
        """``left.T`` times the whitened covariances with the pool, whose rows are all points so far."""
        k = len(self._base)
        total: Array = left[:k].T @ self._base
        if self._n > k:
            total += left[k:].T @ self._further[: self._n - k]
        return total

    def _extend(self, points: Array) -> None:
        m = len(points)
        if not m:
            return
        model, n, k = self._model, self._n, len(self._base)
        new = model.scaled(points)
        whitener = self._whitener[:n, :n]
        cross = _lower_product(whitener, model.covariance(self._known, new))
        own = model.covariance(new, new) - cross.T @ cross
        own[np.diag_indices_from(own)] += model.noise + 1e-6 * model.variance
        corner = _inverse_lower(_cholesky(own))
        block = model.covariance(new, self._pool)
        block -= self._project(cross)
        block = _lower_product(corner, block)
        inverse_cross = -(corner @ _product_with_lower(cross.T, whitener))
        self._reserve(m)
        self._whitener[n : n + m, :n], self._whitener[n : n + m, n : n + m] = inverse_cross, corner
        self._further[n - k : n + m - k] = block
        self._points.coordinates[n : n + m], self._points.squares[n : n + m] = new
        self._explained = self._explained + _column_squares(block)
        self._n = n + m

    def _reserve(self, m: int) -> None:
        """Make room for so many further points, in arrays that no copy shares."""
        n, k, room = self._n, len(self._base), len(self._points.squares)
        if self._owns and n + m <= room:
            return
        room = max(n + m + _ROOM, room)
        self._whitener = _enlarged(self._whitener[:n, :n], (room, room))
        self._further = _enlarged(self._further[: n - k], (room - k, self._further.shape[1]))
        coordinates, squares = self._known
        self._points = Scaled(_enlarged(coordinates, (room, coordinates.shape[1])), _enlarged(squares, (room,)))
        self._owns = True

    def _prediction(self, mean: Array, explained: Array) -> Prediction:
        """Costs and deviations from scaled costs, and the variance that is explained there."""
        variance = np.maximum(self._model.variance - explained, 1e-14)
        epistemic = np.sqrt(variance) * self._scale
        total = np.sqrt(variance + self._model.noise) * self._scale
        return Prediction(mean * self._scale + self._offset, epistemic, total)


def _enlarged(array: Array, shape: tuple[int, ...]) -> Array:
    """A copy in the corner of a larger array."""
    result: Array = np.zeros(shape)
    result[tuple(slice(n) for n in array.shape)] = array
    return result


def _spread(n: int, z: Array) -> Any:
    """Rows for the fit of the parameters: all, or the best half and an even sample of the rest."""
    if n <= FIT_ROWS:
        return slice(None)
    order = np.argsort(z, kind="stable")
    half = FIT_ROWS // 2
    rest = order[half:]
    return np.sort(np.concatenate([order[:half], rest[np.linspace(0, len(rest) - 1, FIT_ROWS - half).astype(int)]]))


def _standardised(y: Array) -> Array:
    result: Array = (y - np.mean(y)) / (float(np.std(y)) or 1.0)
    return result


def _lower_product(lower: Array, right: Array) -> Array:
    """``lower @ right`` for a lower triangular matrix."""
    n = len(lower)
    result: Array = np.empty((n, right.shape[1]))
    for start in range(0, n, _BLOCK):
        end = min(start + _BLOCK, n)
        np.matmul(lower[start:end, :end], right[:end], out=result[start:end])
    return result


def _product_with_lower(left: Array, lower: Array) -> Array:
    """``left @ lower`` for a lower triangular matrix."""
    n = len(lower)
    result: Array = np.empty((len(left), n))
    for start in range(0, n, _BLOCK):
        end = min(start + _BLOCK, n)
        np.matmul(left[:, start:], lower[start:, start:end], out=result[:, start:end])
    return result


def _column_squares(whitened: Array) -> Array:
    result: Array = np.einsum("ij,ij->j", whitened, whitened)
    return result


def _cholesky(matrix: Array) -> Array:
    factor: Array = np.linalg.cholesky(matrix).astype(np.float64, copy=False)
    return factor


def _inverse_lower(factor: Array) -> Array:
    """The inverse of a lower triangular matrix, by halves: most of it is products."""
    n = len(factor)
    if n == 1:
        return 1.0 / factor
    if n <= _DIRECT:  # an upper triangular one needs no elimination
        return np.ascontiguousarray(np.linalg.inv(factor.T).T, dtype=np.float64)
    half = n // 2
    first, second = _inverse_lower(factor[:half, :half]), _inverse_lower(factor[half:, half:])
    inverse: Array = np.zeros((n, n))
    inverse[:half, :half], inverse[half:, half:] = first, second
    np.matmul(-second, factor[half:, :half] @ first, out=inverse[half:, :half])
    return inverse


def _fit_parameters(x: Array, z: Array, lengths: Lengths) -> Array:
    """Log lengths (d), log variance and log noise that maximise the posterior, from one fixed start."""
    n, d = x.shape
    squares = np.moveaxis((x[:, None, :] - x[None, :, :]) ** 2, 2, 0).reshape(d, n * n)
    centre = np.concatenate([lengths.centre, [0.0, -4.0]])
    width = np.concatenate([lengths.width, [1.0, 1.0]])
    low = np.array([-4.0] * (d + 1) + [math.log(1e-6)])
    high = np.array([6.0] * (d + 1) + [1.0])

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
            return math.inf, np.zeros(d + 2)
        inverse_root = _inverse_lower(factor)
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
    return minimise(objective, start, low, high, iterations=40)
