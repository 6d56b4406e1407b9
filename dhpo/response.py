"""The response surface of an objective: a surrogate of a search's results, for looking at it and for checking it.

The surrogate is of the family that the search itself uses (see :class:`~dhpo.searchers.cbo.CBO`), and it is fitted to
the same choice of the results, but to an objective's own values instead of the scaled ones that a search ranks by: what
it predicts can be read in the objective's units. Outliers among the bad values are clipped, failed trials left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dhpo.encoding import Column, Encoding
from dhpo.errors import SettingError
from dhpo.ranks import rank_correlation
from dhpo.searchers.fitting import FOREST_ROWS
from dhpo.searchers.history import History, TrainingSet
from dhpo.searchers.surrogates import GP_ROWS, NAMES, Surrogate, fit_surrogate, uses_gaussian_process
from dhpo.space import HpProblem
from dhpo.trial import Configuration, Observation

Array: TypeAlias = NDArray[np.float64]

#: A surrogate is fitted to no fewer results.
LEAST = 5


class Predicted(NamedTuple):
    """An objective as predicted: in its own values, with the standard deviation of the mean (without noise)."""

    mean: Array  # (n,)
    std: Array  # (n,)


class ModelCheck(NamedTuple):
    """Observed values, and what models that had not seen them predict."""

    observed: Array  # (n,)
    predicted: Predicted
    correlation: float  # Spearman's, of the observed and the predicted


class Slice(NamedTuple):
    """An objective as predicted along one hyperparameter."""

    values: list[object]  # of the hyperparameter, ascending
    places: Array  # where they lie on [0, 1], on the hyperparameter's own scale; the index of a choice
    predicted: Predicted


class Response:
    """A surrogate of one objective, fitted to what was observed.

    Args:
        problem: the search space.
        observations: of trials with costs; others do not count.
        sign: that turns costs into the objective's own values, -1 where it is maximised.
        column: which of the observations' costs.
        model: the family, as ``surrogate_model`` of :class:`~dhpo.searchers.cbo.CBO`; an unknown one stands for "auto".
        max_t: the resource at which trials are complete; predictions are for it.
        seed: of what is random in a fit.

    Raises:
        SettingError: there are fewer than five results to fit to.
    """

    def __init__(
        self,
        problem: HpProblem,
        observations: Sequence[Observation],
        *,
        sign: float = 1.0,
        column: int = 0,
        model: str | None = None,
        max_t: float | None = None,
        seed: int = 0,
    ) -> None:
        self.encoding: Encoding = problem.encoding
        usable = [o for o in observations if o.costs is not None]
        if len(usable) < LEAST:
            raise SettingError(f"there are {len(usable)} results: a surrogate takes at least {LEAST}, run more trials")
        self._sign, self._column, self._seed = sign, column, seed
        self._model = model if model in NAMES else "auto"
        history = History(self.encoding, len(usable[0].costs or ()), max_t)
        history.observe(usable)
        limit = GP_ROWS if uses_gaussian_process(self._model) else FOREST_ROWS
        bounds = np.full(len(usable[0].costs or ()), np.inf)
        self._training: TrainingSet = history.training_set(limit, "ignore", "identity", bounds)
        self._costs: Array = self._training.costs[:, column]
        self._shift, self._scale = float(self._costs.mean()), float(self._costs.std()) or 1.0
        self._surrogate = self._fitted(np.arange(len(self._costs)))

    def predict(self, rows: Array) -> Predicted:
        """Predict at encoded rows (n, d), for complete trials."""
        place = None if self._training.resources is None else np.ones(len(rows))
        return self._predicted(self._surrogate, rows, place)

    def slice(self, name: str, around: Configuration, n: int = 101) -> Slice:
        """Predict along one hyperparameter, the others as in a configuration.

        Args:
            name: the hyperparameter.
            around: a configuration of the space, such as the incumbent's.
            n: how many values of a number to look at, at most.

        Raises:
            SettingError: the space has no such hyperparameter.
        """
        j, column = self.column_of(name)
        places = places_of(column, n)
        rows = np.repeat(self._row(around), len(places), axis=0)
        rows[:, j] = places
        values: list[object] = list(column.decode(column.snap(places)))
        return Slice(values, places, self.predict(rows))

    def contour(self, names: tuple[str, str], around: Configuration, n: int = 41) -> tuple[Array, Array, Predicted]:
        """Predict over two hyperparameters, the others as in a configuration.

        Returns:
            The places of the first (k,) and of the second (l,), as in :class:`Slice`, and what is predicted, (l, k).
        """
        (i, first), (j, second) = self.column_of(names[0]), self.column_of(names[1])
        x, y = places_of(first, n), places_of(second, n)
        rows = np.repeat(self._row(around), len(x) * len(y), axis=0)
        rows[:, i], rows[:, j] = np.tile(x, len(y)), np.repeat(y, len(x))
        mean, std = self.predict(rows)
        shape = (len(y), len(x))
        return x, y, Predicted(mean.reshape(shape), std.reshape(shape))

    def check(self, folds: int = 5) -> ModelCheck:
        """Compare what was observed with what a model predicts that has not seen that configuration.

        Args:
            folds: as many models are fitted, each without a part of the configurations.
        """
        configs = np.unique(self._training.rows, axis=0, return_inverse=True, equal_nan=True)[1].reshape(-1)
        n_configs = int(configs.max()) + 1
        if n_configs < 2:
            raise SettingError("all results are of one configuration: a model cannot be checked, run more trials")
        parts = np.random.default_rng(self._seed).permutation(n_configs) % min(folds, n_configs)
        mean, std = np.empty((2, len(self._costs)))
        for part in range(min(folds, n_configs)):
            out = parts[configs] == part
            resources = self._training.resources
            places = None if resources is None else resources[out]
            found = self._predicted(self._fitted(np.flatnonzero(~out)), self._training.rows[out], places)
            mean[out], std[out] = found
        observed = self._sign * self._costs
        return ModelCheck(observed, Predicted(mean, std), rank_correlation(observed, mean))

    def column_of(self, name: str) -> tuple[int, Column]:
        """The place of a hyperparameter in a row, and its column.

        Raises:
            SettingError: the space has no such hyperparameter.
        """
        for j, column in enumerate(self.encoding.columns):
            if column.name == name:
                return j, column
        names = [column.name for column in self.encoding.columns]
        raise SettingError(f"there is no hyperparameter {name!r}: name one of {names}")

    def _row(self, config: Configuration) -> Array:
        """A configuration as a row whose inactive entries have their defaults: a slice shows them by its own value."""
        row = self.encoding.encode([config], clip=True)
        defaults = np.array([column.default for column in self.encoding.columns])
        return np.where(np.isnan(row), defaults, row)

    def _inputs(self, rows: Array, resources: Array | None) -> Array:
        features = self.encoding.features(rows)
        return features if resources is None else np.column_stack([features, resources])

    def _fitted(self, chosen: NDArray[np.intp]) -> Surrogate:
        resources = self._training.resources
        inputs = self._inputs(self._training.rows[chosen], None if resources is None else resources[chosen])
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, 0x726573]))
        return fit_surrogate(self._model, None, inputs, (self._costs[chosen] - self._shift) / self._scale, rng)

    def _predicted(self, surrogate: Surrogate, rows: Array, resources: Array | None) -> Predicted:
        found = surrogate.belief(self._inputs(self.encoding.snap(rows), resources)).pool()
        return Predicted(self._sign * (found.mean * self._scale + self._shift), found.epistemic * self._scale)


def places_of(column: Column, n: int) -> Array:
    """Where values of a hyperparameter lie that show all of it: all where there are at most ``n``."""
    if column.kind in ("categorical", "constant"):
        return np.arange(column.n_choices, dtype=float)
    count = n if column.n_choices == 0 else min(n, column.n_choices)
    return np.unique(column.snap(np.linspace(0.0, 1.0, count)))
