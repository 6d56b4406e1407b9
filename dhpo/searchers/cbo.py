"""Centralised Bayesian optimisation: a surrogate of the objectives proposes what is evaluated next."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any

import numpy as np

from dhpo import scalarization
from dhpo.errors import ExhaustedFailuresError, SettingError
from dhpo.objectives import Objectives
from dhpo.searchers.acquisition import Acquisition, Array, Scheduler, check_scheduler, scheduled
from dhpo.searchers.base import proposal_rng
from dhpo.searchers.design import Design, check_design
from dhpo.searchers.history import History, TrainingSet, best_rows
from dhpo.searchers.maximiser import Maximiser, Pool, Wish
from dhpo.searchers.prior import Prior
from dhpo.searchers.random import FirstPoints, Known, check_initial_points, proposals
from dhpo.searchers.surrogates import GP_ROWS, Surrogate, check_surrogate, fit_surrogate, uses_gaussian_process
from dhpo.space import HpProblem
from dhpo.trial import Observation, Proposal

STRATEGIES = ("qUCBd", "qUCB", "cl_min", "cl_mean", "cl_max", "topk", "boltzmann")
SCALERS = ("auto", "identity", "minmax", "log", "quantile-uniform")
FAILURES = ("min", "mean", "ignore")
SCALARISATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "Linear": scalarization.linear,
    "Chebyshev": scalarization.chebyshev,
    "AugChebyshev": scalarization.augmented_chebyshev,
    "PBI": scalarization.pbi,
    "Quadratic": scalarization.quadratic,
}

FOREST_ROWS = 2_000
PENDING = 256
_POLISHED = 4  # of a batch; the others are taken from the pool as they are
_FIT = 0x66_69_74  # tells the random stream of a fit from those of the proposals


@dataclass(frozen=True)
class CBO:
    """Bayesian optimisation by one central model. Settings, which many searches may share.

    The names of the arguments are DeepHyper's. Costs below are what is minimised: the negated objective, if it is to be
    maximised.

    Args:
        surrogate_model: "auto" (a Gaussian process for the first few hundred rows, "ET" from then on), "ET", "RF",
            "TB", "GP", "GBRT", "HGBRT", "DUMMY", or a scikit-learn regressor.
        surrogate_model_kwargs: arguments of the named scikit-learn class.
        acq_func: "UCB", "EI", "logEI" or "PI", each also with the suffix "d" (only the model's own, epistemic,
            uncertainty counts); "qUCB" and "qUCBd" draw ``kappa`` anew for every proposal.
        kappa: weight of the uncertainty in UCB.
        xi: least improvement that EI and PI ask for, in units of the scaled objective.
        scheduler: how ``kappa`` changes with the number of observations: None, {"type": "constant"},
            {"type": "periodic-exp-decay", "period": 30, "kappa_final": …}, {"type": "bandit"}, or f(step, kappa).
        acq_optimizer: "sampling": the best of ``n_points`` candidates, polished by a local search.
        n_points: how many candidates are drawn for one fit.
        multi_point_strategy: how several proposals from one fit are kept apart. Pending trials and earlier proposals
            of the batch count as observed at their predicted cost; "qUCB" and "qUCBd" moreover draw ``kappa`` from the
            exponential law with mean ``kappa`` for them. "cl_min", "cl_mean" and "cl_max" impute them with a
            constant instead and refit for each proposal; "topk" takes the best of the pool, "boltzmann" draws
            from it by its acquisition.
        n_initial_points: how many trials must show values before the model is used; None: one more than there are
            hyperparameters, at least three, for a Gaussian process, about twice as many for other models.
        initial_point_generator: "kronecker", "random", "sobol", "halton", "lhs" or "grid".
        initial_points: configurations to start with.
        default_first: whether the space's default configuration is the first of all.
        filter_failures: what a failed trial counts as: "min" the worst value seen, "mean" the mean; "ignore": nothing.
        max_failures: how many trials may fail before any has succeeded; None for any number.
        moo_scalarization_strategy: for several objectives, "Linear", "Chebyshev", "AugChebyshev", "PBI" or
            "Quadratic".
        moo_scalarization_weight: fixed weights, one for each objective; None draws them anew for each proposal.
        moo_lower_bounds: for each objective, the worst value still wanted (in its own units), or None.
        objective_scaler: "auto" ("minmax" for one objective, "quantile-uniform" for several), "identity", "minmax",
            "log" or "quantile-uniform".
        random_fraction: share of proposals that are drawn at random, which guards against a wrong model.
        prior: what an earlier search has taught (see :func:`~dhpo.searchers.prior.fit_prior`).

    Raises:
        SettingError: an argument is unusable.
    """

    surrogate_model: Any = "auto"
    surrogate_model_kwargs: Mapping[str, Any] | None = None
    acq_func: str = "qUCBd"
    kappa: float = 1.96
    xi: float = 0.001
    scheduler: Scheduler = None
    acq_optimizer: str = "sampling"
    n_points: int = 2_000
    multi_point_strategy: str = "qUCBd"
    n_initial_points: int | None = None
    initial_point_generator: str = "kronecker"
    initial_points: Sequence[Mapping[str, Any]] = ()
    default_first: bool = True
    filter_failures: str = "min"
    max_failures: int | None = 100
    moo_scalarization_strategy: str = "Chebyshev"
    moo_scalarization_weight: Sequence[float] | None = None
    moo_lower_bounds: Sequence[float | None] | None = None
    objective_scaler: str = "auto"
    random_fraction: float = 0.05
    prior: Prior | None = None

    def __post_init__(self) -> None:
        check_surrogate(self.surrogate_model, self.surrogate_model_kwargs)
        Acquisition.parse(self.acq_func)
        check_scheduler(self.scheduler)
        check_design(self.initial_point_generator, "initial_point_generator")
        check_initial_points(self.initial_points)
        _check_choice(self, "acq_optimizer", ("sampling", "auto"))
        _check_choice(self, "multi_point_strategy", STRATEGIES)
        _check_choice(self, "filter_failures", FAILURES)
        _check_choice(self, "moo_scalarization_strategy", tuple(SCALARISATIONS))
        _check_choice(self, "objective_scaler", SCALERS)
        _check_number(self, "kappa", 0.0, math.inf)
        _check_number(self, "xi", 0.0, math.inf)
        _check_number(self, "random_fraction", 0.0, 1.0)
        _check_count(self, "n_points", 1, optional=False)
        _check_count(self, "n_initial_points", 1, optional=True)
        _check_count(self, "max_failures", 1, optional=True)
        if self.prior is not None and not isinstance(self.prior, Prior):
            raise SettingError(f"prior={self.prior!r}: give what dhpo.searchers.fit_prior returns")

    def bind(self, problem: HpProblem, objectives: Objectives, *, seed: int, max_t: float | None) -> CBOState:
        """Make the state for one search.

        Raises:
            SettingError: weights or bounds do not fit the number of objectives, or the prior another space.
            SpaceError: an initial point is no configuration of the space.
        """
        for name in ("moo_scalarization_weight", "moo_lower_bounds"):
            value = getattr(self, name)
            if value is not None and len(value) != len(objectives):
                raise SettingError(f"{name}={value!r} has {len(value)} entries for {len(objectives)} objectives "
                                   f"({', '.join(objectives.names)}): give one for each")  # fmt: skip
        names = [column.name for column in problem.encoding.columns]
        if self.prior is not None and [column.name for column in self.prior.encoding.columns] != names:
            raise SettingError("the prior was fitted for another space: fit it again for this one")
        return CBOState(self, problem, objectives, seed, max_t)

    def settings(self) -> dict[str, Any]:
        """The JSON form; what JSON cannot express is named only."""
        values = {field.name: _as_json(getattr(self, field.name)) for field in fields(self)}
        return {"searcher": "CBO", **values}


class CBOState:
    """The state of one search: the observations, and the model fitted to them when one was last needed."""

    def __init__(
        self, settings: CBO, problem: HpProblem, objectives: Objectives, seed: int, max_t: float | None
    ) -> None:
        self._settings = settings
        self._encoding = problem.encoding
        self._seed = seed
        self._known = Known(problem)
        self._first = FirstPoints(problem, settings.initial_points, settings.default_first)
        self._history = History(problem.encoding, len(objectives), max_t)
        self._acquisition = Acquisition.parse(settings.acq_func)
        n_columns = len(problem.encoding.columns)
        least = (
            max(n_columns + 1, 3) if uses_gaussian_process(settings.surrogate_model, 0) else max(2 * n_columns + 1, 8)
        )
        self._n_initial = settings.n_initial_points or least
        self._design = Design(problem.encoding, settings.initial_point_generator, seed, self._n_initial, 3)
        signs, bounds = np.array(objectives.signs), settings.moo_lower_bounds or (None,) * len(objectives)
        self._bounds = np.array([math.inf if b is None else s * b for s, b in zip(signs, bounds, strict=True)])
        self._fit: tuple[int, TrainingSet, list[Surrogate], Pool] | None = None

    @property
    def cheap(self) -> bool:
        """Whether proposals need no model yet."""
        return self._history.n_succeeded < self._n_initial

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fit": None}  # made again when needed, the same

    def observe(self, observations: Sequence[Observation]) -> None:
        """Take in what happened; the model is refitted when the next proposal asks for it."""
        self._known.add(observations)
        self._history.observe(observations)

    def propose(self, numbers: Sequence[int]) -> list[Proposal]:
        """Propose a configuration for each number; fewer when the space is exhausted.

        Raises:
            ExhaustedFailuresError: ``max_failures`` trials have failed, and none has succeeded.
        """
        history, limit = self._history, self._settings.max_failures
        if limit is not None and history.n_failed >= limit and not history.n_succeeded:
            raise ExhaustedFailuresError(f"{history.n_failed} trials failed and none succeeded (max_failures={limit})")
        taken: set[bytes] = set()
        chosen = self._first.left(self._known, taken, len(numbers))
        left = numbers[len(chosen) :]
        if left and history.n_succeeded >= self._n_initial:
            chosen += self._from_model(left, taken)
        else:
            chosen += [pair for number in left if (pair := self._at_start(number, taken)) is not None]
        return proposals(self._known, chosen, history.n_observed)

    def _at_start(self, number: int, taken: set[bytes]) -> tuple[str, Array] | None:
        """A proposal without a model: from the prior, the design or, if these repeat, at random."""
        rng = proposal_rng(self._seed, number)
        row, prior = self._design.row(number) if number < len(self._design) else None, self._settings.prior
        origin = "random" if self._settings.initial_point_generator == "random" else "design"
        if prior is not None and rng.random() < prior.trust(self._history.n_succeeded):
            row = prior.sample(1, rng, None if row is None else row[None, :])[0]
            origin = "prior"
        if row is not None and len(self._known.new(row[None, :], taken)):
            return origin, self._known.take(row, taken)
        row = self._known.draw(rng, taken)
        return None if row is None else ("random", row)

    def _from_model(self, numbers: Sequence[int], taken: set[bytes]) -> list[tuple[str, Array]]:
        lies = self._settings.multi_point_strategy.startswith("cl_")
        pending = self._history.pending(PENDING)
        maximiser: Maximiser | None = None
        chosen: list[tuple[str, Array]] = []
        for place, number in enumerate(numbers):
            rng = proposal_rng(self._seed, number)
            row, origin = None, "model"
            if rng.random() >= self._settings.random_fraction:
                if maximiser is None or lies:
                    maximiser = self._maximiser(pending, [row for _, row in chosen])
                alone = place == 0 and not len(pending)
                row = maximiser.choose(self._wish(rng, alone, place < _POLISHED), rng, self._fresh(taken))
            if row is None:
                row, origin = self._known.draw(rng, taken), "random"
                if row is None:
                    break
            else:
                self._known.take(row, taken)
            chosen.append((origin, row))
            if maximiser is not None and not lies and self._settings.multi_point_strategy != "topk":
                maximiser.believe(row[None, :])
        return chosen

    def _fresh(self, taken: set[bytes]) -> Callable[[Array], Array]:
        def fresh(rows: Array) -> Array:
            keys = self._encoding.keys(rows)
            return np.array([key not in self._known.keys and key not in taken for key in keys], dtype=bool)

        return fresh

    def _wish(self, rng: np.random.Generator, alone: bool, polish: bool) -> Wish:
        """What this proposal looks for: its own kappa, weights and part of the pool."""
        settings, acquisition = self._settings, self._acquisition
        kappa = scheduled(settings.scheduler, self._history.n_observed, settings.kappa, self._n_initial)
        strategy = settings.multi_point_strategy
        if acquisition.sampled or (acquisition.name == "UCB" and strategy.startswith("qUCB") and not alone):
            kappa = float(rng.exponential(kappa))
        sources = {"plain", "prior", "near"}
        if settings.prior is not None and rng.random() < settings.prior.trust(self._history.n_succeeded):
            sources = {"prior"}
        return Wish(
            acquisition=acquisition,
            kappa=kappa,
            xi=settings.xi,
            scalarise=self._scalarisation(rng),
            sources=frozenset(sources),
            temperature=0.1 if strategy == "boltzmann" else 0.0,
            polish=polish and strategy not in ("topk", "boltzmann"),
        )

    def _scalarisation(self, rng: np.random.Generator) -> Callable[[Array], Array]:
        m = len(self._bounds)
        given = self._settings.moo_scalarization_weight
        weights = scalarization.simplex_weights(1, m, rng) if given is None else np.array([given], dtype=float)
        function = SCALARISATIONS[self._settings.moo_scalarization_strategy]
        bounds = self._fit[1].bounds if self._fit is not None else np.ones(m)

        def scalarise(costs: Array) -> Array:
            penalty = 2.0 * np.maximum(costs - bounds, 0.0)[:, np.isfinite(self._bounds)].sum(axis=1)
            result: Array = function(costs, weights)[:, 0] + penalty
            return result

        return scalarise

    def _maximiser(self, pending: Array, batch: list[Array]) -> Maximiser:
        """The current fit, with what is pending counted in."""
        training, surrogates, pool = self._fitted()
        waiting = np.vstack([pending, *batch])
        strategy = self._settings.multi_point_strategy
        if strategy.startswith("cl_") and len(waiting):
            # The names speak of the objective, the costs are its negative.
            costs = training.costs
            lies = {"cl_min": costs.max(axis=0), "cl_mean": costs.mean(axis=0), "cl_max": costs.min(axis=0)}
            surrogates = self._surrogates(_with_lies(training, waiting, lies[strategy]))
            waiting = waiting[:0]
        maximiser = Maximiser(self._encoding, surrogates, pool, self._inputs_at_top(training))
        if strategy != "topk":
            maximiser.believe(waiting)
        return maximiser

    def _fitted(self) -> tuple[TrainingSet, list[Surrogate], Pool]:
        """The surrogates for the present observations, and their pool of candidates; both are kept."""
        n = self._history.n_observed
        if self._fit is None or self._fit[0] != n:
            settings = self._settings
            limit = GP_ROWS if uses_gaussian_process(settings.surrogate_model, len(self._history)) else FOREST_ROWS
            training = self._history.training_set(
                limit, settings.filter_failures, settings.objective_scaler, self._bounds
            )
            self._fit = (n, training, self._surrogates(training), self._pool(training))
        return self._fit[1:]

    def _surrogates(self, training: TrainingSet) -> list[Surrogate]:
        inputs = self._inputs(training.rows, training.resources)
        model, kwargs = self._settings.surrogate_model, self._settings.surrogate_model_kwargs
        return [fit_surrogate(model, kwargs, inputs, y, self._fit_rng(i)) for i, y in enumerate(training.costs.T)]

    def _pool(self, training: TrainingSet) -> Pool:
        rng, n = self._fit_rng(-1), self._settings.n_points
        best = best_rows(training, 5)
        near = [self._encoding.neighbours(row, rng, 40, scale) for row in best for scale in (0.1, 0.02)]
        prior = self._settings.prior
        parts = {"plain": self._encoding.sample(n, rng), "near": np.vstack(near)}
        if prior is not None:
            parts["prior"] = prior.sample(n, rng)
        return Pool.of(**parts, observed=training.rows[-GP_ROWS:])

    def _inputs(self, rows: Array, resources: Array | None) -> Array:
        features = self._encoding.features(rows)
        return features if resources is None else np.column_stack([features, resources])

    def _inputs_at_top(self, training: TrainingSet) -> Callable[[Array], Array]:
        """Model inputs of rows at the resource at which trials are complete."""
        return lambda rows: self._inputs(rows, None if training.resources is None else np.ones(len(rows)))

    def _fit_rng(self, part: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self._seed, self._history.n_observed, _FIT, part + 1]))


def _with_lies(training: TrainingSet, rows: Array, lie: Array) -> TrainingSet:
    resources = training.resources
    return TrainingSet(
        np.vstack([training.rows, rows]),
        None if resources is None else np.concatenate([resources, np.ones(len(rows))]),
        np.vstack([training.costs, np.tile(lie, (len(rows), 1))]),
        training.bounds,
    )


def _check_choice(settings: CBO, name: str, choices: Sequence[str]) -> None:
    value = getattr(settings, name)
    if value not in choices:
        raise SettingError(f"{name}={value!r} is unknown: write one of {', '.join(map(repr, choices))}")


def _check_number(settings: CBO, name: str, low: float, high: float) -> None:
    value = getattr(settings, name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        limits = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
        raise SettingError(f"{name}={value!r}: give a number {limits}")


def _check_count(settings: CBO, name: str, least: int, optional: bool) -> None:
    value = getattr(settings, name)
    if not (optional and value is None) and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise SettingError(f"{name}={value!r}: give an integer of at least {least}{', or None' * optional}")


def _as_json(value: Any) -> Any:
    if isinstance(value, Prior):
        return {"rows": len(value.rows), "digest": sha256(value.rows.tobytes()).hexdigest(), "weight": value.weight}
    if isinstance(value, Mapping):
        return {str(k): _as_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return getattr(value, "__qualname__", None) or repr(value)
