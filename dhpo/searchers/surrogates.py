"""Surrogate models: a cost and its uncertainty, predicted from encoded configurations.

A surrogate is fitted once for a set of observations; what is pending is then *believed*: each pending point counts as
if it had been observed at its predicted cost, which leaves the predicted costs as they are and takes the uncertainty
away around it (Desautels et al. 2014, section 4). No refit is needed, however large a batch is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, Protocol

import numpy as np

from dhpo.errors import SettingError
from dhpo.searchers.acquisition import Array, Prediction
from dhpo.searchers.gaussian_process import GaussianProcess, Kernel, Lengths

#: The names under which surrogates may be asked for.
NAMES = ("auto", "ET", "RF", "TB", "GP", "GBRT", "HGBRT", "DUMMY")

#: The Gaussian process is fitted to at most so many rows.
GP_ROWS = 200


class Belief(Protocol):
    """A fitted surrogate, together with the points that it believes to be observed at their predicted costs."""

    def pool(self) -> Prediction:
        """Predict at the pool of candidates that was given at the start."""

    def at(self, points: Array) -> Prediction:
        """Predict at any points (n, d)."""

    def path(self, rng: np.random.Generator) -> Callable[[Array], Array]:
        """Draw one function from the model's uncertainty: it gives costs (k,) at points (k, d)."""

    def believe(self, points: Array) -> None:
        """Count these points (k, d) as observed at their predicted costs."""

    def observe(self, points: Array, costs: Array) -> None:
        """Add observations (k, d), before any is believed; ``costs`` are all, the fit's first."""

    def copy(self) -> Belief:
        """The same belief, to be extended on its own."""


class Surrogate(Protocol):
    """A fitted model."""

    def belief(self, pool: Array) -> Belief:
        """Start from the observations alone, with this pool (n, d) of candidates."""


class _Tracked:
    """Belief for models without a posterior: uncertainty shrinks by the similarity to what is believed."""

    def __init__(self, model: Forest | Bagged | Dummy, pool: Array) -> None:
        self._model = model
        self._pool = model.embed(pool)
        self._prediction = model.predict(pool)
        self._shrink: Array = np.ones(len(pool))
        self._believed: list[Array] = []

    def pool(self) -> Prediction:
        return _shrunk(self._prediction, self._shrink)

    def at(self, points: Array) -> Prediction:
        shrink: Array = np.ones(len(points))
        embedded = self._model.embed(points)
        for block in self._believed:
            shrink *= np.prod(1.0 - self._model.similarity(block, embedded), axis=0)
        return _shrunk(self._model.predict(points), shrink)

    def path(self, rng: np.random.Generator) -> Callable[[Array], Array]:
        return self._model.member(rng)

    def believe(self, points: Array) -> None:
        if len(points):
            embedded = self._model.embed(points)
            self._shrink *= np.prod(1.0 - self._model.similarity(embedded, self._pool), axis=0)
            self._believed.append(embedded)

    def observe(self, points: Array, costs: Array) -> None:
        self.believe(points)  # until the next fit only their places count

    def copy(self) -> Belief:
        twin = copy(self)
        twin._shrink, twin._believed = self._shrink.copy(), list(self._believed)
        return twin


def _shrunk(prediction: Prediction, shrink: Array) -> Prediction:
    noise = np.maximum(prediction.total**2 - prediction.epistemic**2, 0.0)
    epistemic = prediction.epistemic * np.sqrt(shrink)
    return Prediction(prediction.mean, epistemic, np.sqrt(epistemic**2 + noise))


class Forest:
    """A forest of regression trees from scikit-learn, with its uncertainty split by the law of total variance.

    The epistemic part is the variance between the trees' means, the aleatoric part the mean of the variances in
    their leaves (Hutter et al. 2014, section 4.3.2).
    """

    def __init__(self, regressor: Any, x: Array, y: Array) -> None:
        regressor.fit(x, y)
        self._trees = [tree.tree_ for tree in regressor.estimators_]

    def predict(self, x: Array) -> Prediction:
        """Predict at the points (n, d)."""
        x32 = np.ascontiguousarray(x, dtype=np.float32)
        means, variances = np.empty((2, len(self._trees), len(x)))
        for i, tree in enumerate(self._trees):
            leaves = tree.apply(x32)
            means[i] = tree.value[leaves, 0, 0]
            variances[i] = tree.impurity[leaves]
        epistemic = means.var(axis=0)
        aleatoric = np.maximum(variances.mean(axis=0), 0.0)  # an impurity of zero may be rounded below it
        return Prediction(means.mean(axis=0), np.sqrt(epistemic), np.sqrt(epistemic + aleatoric))

    def member(self, rng: np.random.Generator) -> Callable[[Array], Array]:
        """One of the trees."""
        tree = self._trees[int(rng.integers(len(self._trees)))]

        def costs(x: Array) -> Array:
            result: Array = tree.value[tree.apply(np.ascontiguousarray(x, dtype=np.float32)), 0, 0]
            return result

        return costs

    def embed(self, x: Array) -> Array:
        """The leaves of the points, (n, trees)."""
        x32 = np.ascontiguousarray(x, dtype=np.float32)
        return np.stack([tree.apply(x32) for tree in self._trees], axis=1).astype(float)

    def similarity(self, a: Array, b: Array) -> Array:
        """The share of trees in which embedded points share a leaf, (len(a), len(b))."""
        return np.stack([(leaves == b).mean(axis=1) for leaves in a])

    def belief(self, pool: Array) -> Belief:
        """Start with nothing believed."""
        return _Tracked(self, pool)


class Bagged:
    """Any scikit-learn regressor, fitted to bootstrap samples for its uncertainty (Breiman 1996)."""

    def __init__(self, regressor: Any, x: Array, y: Array, rng: np.random.Generator, n_models: int = 8) -> None:
        from sklearn.base import clone

        self._models = []
        for _ in range(n_models):
            rows = rng.integers(len(x), size=len(x))
            model = clone(regressor)
            if "random_state" in model.get_params():
                model.set_params(random_state=int(rng.integers(2**31)))
            self._models.append(model.fit(x[rows], y[rows]))

    def predict(self, x: Array) -> Prediction:
        """Predict at the points (n, d)."""
        means = np.stack([np.asarray(model.predict(x), dtype=float).reshape(len(x)) for model in self._models])
        std = means.std(axis=0)
        return Prediction(means.mean(axis=0), std, std)

    def member(self, rng: np.random.Generator) -> Callable[[Array], Array]:
        """One of the models."""
        model = self._models[int(rng.integers(len(self._models)))]
        return lambda x: np.asarray(model.predict(x), dtype=float).reshape(len(x))

    def embed(self, x: Array) -> Array:
        """The points themselves."""
        return x

    def similarity(self, a: Array, b: Array) -> Array:
        """A Gaussian of the mean squared difference, (len(a), len(b)): a tenth of the unit cube is near."""
        return _nearness(a, b)

    def belief(self, pool: Array) -> Belief:
        """Start with nothing believed."""
        return _Tracked(self, pool)


class Dummy:
    """A model that knows nothing: every point is as good as any other."""

    def predict(self, x: Array) -> Prediction:
        """Predict at the points (n, d)."""
        return Prediction(np.zeros(len(x)), np.ones(len(x)), np.ones(len(x)))

    def member(self, rng: np.random.Generator) -> Callable[[Array], Array]:
        """Costs that are random everywhere."""
        return lambda x: rng.standard_normal(len(x))

    def embed(self, x: Array) -> Array:
        """The points themselves."""
        return x

    def similarity(self, a: Array, b: Array) -> Array:
        """As for :class:`Bagged`."""
        return _nearness(a, b)

    def belief(self, pool: Array) -> Belief:
        """Start with nothing believed."""
        return _Tracked(self, pool)


def _nearness(a: Array, b: Array) -> Array:
    squares = ((a[:, None, :] - b[None, :, :]) ** 2).mean(axis=2)
    result: Array = np.exp(-0.5 * squares / 0.1**2)
    return result


def check_surrogate(model: Any, kwargs: Mapping[str, Any] | None) -> None:
    """Refuse what :func:`fit_surrogate` could not fit.

    Raises:
        SettingError: ``model`` is no known name and no regressor, or ``kwargs`` do not go with it.
    """
    if not isinstance(model, str):
        if not (hasattr(model, "fit") and hasattr(model, "predict") and hasattr(model, "get_params")):
            raise SettingError(f"surrogate_model={model!r}: give a name of {NAMES} or a scikit-learn regressor")
        if kwargs:
            raise SettingError("surrogate_model_kwargs goes with a surrogate's name; set up the regressor itself")
    elif model not in NAMES:
        raise SettingError(f"surrogate_model={model!r} is unknown: write one of {NAMES}, or give a regressor")
    elif kwargs and model in ("auto", "GP", "DUMMY"):
        raise SettingError(f"surrogate_model_kwargs={dict(kwargs)!r} does not go with surrogate_model={model!r}, "
                           "which takes none")  # fmt: skip


def uses_gaussian_process(model: Any) -> bool:
    """Whether this choice means the Gaussian process."""
    return isinstance(model, str) and model in ("GP", "auto")


def slow_imports(model: Any) -> tuple[str, ...]:
    """The modules that a first fit of this choice spends time to import."""
    return () if uses_gaussian_process(model) else ("sklearn.ensemble",)


def fit_surrogate(
    model: Any,
    kwargs: Mapping[str, Any] | None,
    x: Array,
    y: Array,
    rng: np.random.Generator,
    lengths: Lengths | None = None,
    kernel: Kernel | None = None,
) -> Surrogate:
    """Fit a surrogate to costs ``y`` (n,), scaled to the order of one, at the points ``x`` (n, d).

    Args:
        model: a name, or a scikit-learn regressor (which is cloned). "ET" extremely randomised trees, "RF" random
            forest, "TB" bagged trees, "GP" Gaussian process, "GBRT" and "HGBRT" gradient boosting, "DUMMY" none.
        kwargs: arguments of the named scikit-learn class.
        x: (n, d) model inputs.
        y: (n,) costs.
        rng: whatever is random in the fit.
        lengths: what is expected of a Gaussian process's lengths; None: nothing in particular.
        kernel: a Gaussian process's kernel, where it is known; None: it is fitted.
    """
    if uses_gaussian_process(model):
        return GaussianProcess(x, y, lengths, kernel)
    if model == "DUMMY":
        return Dummy()
    if not isinstance(model, str):
        return Bagged(model, x, y, rng)

    from sklearn import ensemble

    options: dict[str, Any] = {"random_state": int(rng.integers(2**31)), **(kwargs or {})}
    if model in ("GBRT", "HGBRT"):
        names = {"GBRT": "GradientBoostingRegressor", "HGBRT": "HistGradientBoostingRegressor"}
        if model == "HGBRT":
            options = {"min_samples_leaf": 5, "max_iter": 50, **options}
        return Bagged(getattr(ensemble, names[model])(**options), x, y, rng)
    options = {"n_estimators": 50, "n_jobs": 1, **options}
    if model == "ET":
        return Forest(ensemble.ExtraTreesRegressor(**options), x, y)
    options = {"max_features": 1.0 if model == "TB" else 1.0 / 3.0, **options}
    return Forest(ensemble.RandomForestRegressor(**options), x, y)
