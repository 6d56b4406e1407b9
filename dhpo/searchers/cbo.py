"""Centralised Bayesian optimisation: a surrogate of the objectives proposes what is evaluated next."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np

from dhpo import scalarization
from dhpo.errors import ExhaustedFailuresError, SettingError
from dhpo.objectives import Objectives
from dhpo.searchers._cbo_settings import as_json, check_choice, check_count, check_number, shape
from dhpo.searchers._cbo_waiting import Key, Standing, Waiting
from dhpo.searchers.acquisition import Acquisition, Array, Scheduler, check_scheduler, scheduled
from dhpo.searchers.base import proposal_rng
from dhpo.searchers.design import Design, check_design
from dhpo.searchers.fitting import Fit, Fitter, Recipe
from dhpo.searchers.history import SCALERS, History
from dhpo.searchers.maximiser import Maximiser, Wish
from dhpo.searchers.prior import Prior
from dhpo.searchers.random import FirstPoints, Known, check_initial_points, proposals
from dhpo.searchers.surrogates import GP_ROWS, check_surrogate, slow_imports, uses_gaussian_process
from dhpo.searchers.transfer import FIRST, Transfer
from dhpo.space import HpProblem
from dhpo.stopping.base import FirstJudged
from dhpo.trial import Observation, Proposal

STRATEGIES = ("qUCBd", "qUCB", "cl_min", "cl_mean", "cl_max", "topk", "boltzmann")
FAILURES = ("min", "mean", "ignore")
SCALARISATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "Linear": scalarization.linear,
    "Chebyshev": scalarization.chebyshev,
    "AugChebyshev": scalarization.augmented_chebyshev,
    "PBI": scalarization.pbi,
    "Quadratic": scalarization.quadratic,
}

_GP_INITIAL = 5  # the prior of the Gaussian process's lengths makes it useful from there on
_PORTFOLIO = 32  # so many configurations have used up what earlier searches can recommend
_POLISHED = 4  # of so many trials that run at once every proposal is polished, of more only a part


@dataclass(frozen=True)
class CBO:
    """Bayesian optimisation by one central model. Settings, which many searches may share.

    The names of the arguments are DeepHyper's. Costs below are what is minimised: the negated objective, if it is to be
    maximised.

    Args:
        surrogate_model: "auto" (which is "GP"), "GP" (a Gaussian process of at most a few hundred observations, chosen
            among all), "ET", "RF", "TB", "GBRT", "HGBRT", "DUMMY", or a scikit-learn regressor.
        surrogate_model_kwargs: arguments of the named scikit-learn class.
        acq_func: "UCB", "EI", "logEI" or "PI", each also with the suffix "d" (only the model's own, epistemic,
            uncertainty counts); "qUCB" and "qUCBd" draw ``kappa`` anew for every proposal. "gp_hedge" draws between EI,
            UCB and PI, by the costs that the model predicts where each would go. "TS" is Thompson sampling: the best
            of one function that is drawn from the model for each proposal. "EHVI", for several objectives, is the
            expected improvement of the hypervolume, in place of the scalarisation.
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
            hyperparameters, at least three and at most five, for a Gaussian process, about twice as many for others.
        initial_point_generator: "kronecker", "random", "sobol", "halton", "lhs" or "grid".
        initial_points: configurations to start with.
        default_first: whether the space's default configuration is the first of all.
        filter_failures: what a failed trial counts as: "min" the worst value seen, "mean" the mean; "ignore": nothing.
        max_failures: how many trials may fail before any has succeeded; None for any number.
        moo_scalarization_strategy: for several objectives, "Linear", "Chebyshev", "AugChebyshev", "PBI" or
            "Quadratic".
        moo_scalarization_weight: fixed weights, one for each objective; None draws them anew for each proposal.
        moo_lower_bounds: for each objective, the worst value still wanted (in its own units), or None.
        objective_scaler: "auto" ("half-rank" for one objective, "quantile-uniform" for several), "identity", "minmax",
            "log", "half-rank" or "quantile-uniform".
        acq_resource: the resource at which the model's predictions count: "max", where trials are complete; "first",
            where the trial is to be judged first, by its bracket (as in MOBSTER, Klein et al. 2020, arXiv 2003.10865,
            section 4.2); "observed", the largest at which as many trials were seen as there are hyperparameters, and
            at least three (as in BOHB, Falkner et al. 2018).
        rung_trust: where rungs lie as an input of the model, which learns from the costs themselves how far apart what
            is seen at them may be: "equal", by the logarithm of the resource, or "measured", the farther apart the less
            the orders of trials at them agree (see :mod:`dhpo.searchers.fidelity`). The former did better.
        update_prior: whether the candidates are drawn near the best configurations so far rather than by the space's
            distributions.
        update_prior_quantile: the share of the observations that counts as the best for that.
        random_fraction: share of proposals that are drawn at random, which guards against a wrong model.
        prior: what an earlier search has taught (see :func:`~dhpo.searchers.prior.fit_prior`), or a list of such, one
            for each; how they are used, and when no longer, is told in :mod:`dhpo.searchers.transfer`.

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
    n_points: int = 1_000
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
    acq_resource: str = "max"
    rung_trust: str = "equal"
    update_prior: bool = False
    update_prior_quantile: float = 0.1
    random_fraction: float = 0.05
    prior: Prior | Sequence[Prior] | None = None

    def __post_init__(self) -> None:
        check_surrogate(self.surrogate_model, self.surrogate_model_kwargs)
        Acquisition.parse(self.acq_func)
        check_scheduler(self.scheduler)
        check_design(self.initial_point_generator, "initial_point_generator")
        check_initial_points(self.initial_points)
        choices = {
            "acq_optimizer": ("sampling", "auto"),
            "multi_point_strategy": STRATEGIES,
            "filter_failures": FAILURES,
            "moo_scalarization_strategy": tuple(SCALARISATIONS),
            "objective_scaler": SCALERS,
            "acq_resource": ("max", "first", "observed"),
            "rung_trust": ("measured", "equal"),
        }
        for name, among in choices.items():
            check_choice(name, getattr(self, name), among)
        check_number("kappa", self.kappa, 0.0)
        check_number("xi", self.xi, 0.0)
        check_number("random_fraction", self.random_fraction, 0.0, 1.0)
        check_number("update_prior_quantile", self.update_prior_quantile, 0.0, 1.0)
        check_count("n_points", self.n_points)
        check_count("n_initial_points", self.n_initial_points, optional=True)
        check_count("max_failures", self.max_failures, optional=True)
        if not all(isinstance(prior, Prior) for prior in self.priors):
            raise SettingError(f"prior={self.prior!r}: give what dhpo.searchers.fit_prior returns, or a list of such")

    @property
    def priors(self) -> tuple[Prior, ...]:
        """What earlier searches have taught, one for each."""
        if self.prior is None:
            return ()
        return tuple(self.prior) if isinstance(self.prior, Sequence) else (self.prior,)

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
        columns = shape(problem.encoding)
        if any(shape(prior.encoding) != columns for prior in self.priors):
            raise SettingError("the prior was fitted for another space: fit it again for this one")
        return CBOState(self, problem, objectives, seed, max_t)

    def settings(self) -> dict[str, Any]:
        """The JSON form; what JSON cannot express is named only."""
        values = {field.name: as_json(getattr(self, field.name)) for field in fields(self)}
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
        self._history = History(
            problem.encoding, len(objectives), max_t, measured_rungs=settings.rung_trust == "measured"
        )
        self._acquisition = Acquisition.parse(settings.acq_func)
        n_columns = len(problem.encoding.columns)
        gaussian = uses_gaussian_process(settings.surrogate_model)
        least = min(max(n_columns + 1, 3), _GP_INITIAL) if gaussian else max(2 * n_columns + 1, 8)
        self._n_initial = settings.n_initial_points or least
        self._design = Design(problem.encoding, settings.initial_point_generator, seed, self._n_initial, 3)
        signs, bounds = np.array(objectives.signs), settings.moo_lower_bounds or (None,) * len(objectives)
        self._bounds = np.array([math.inf if b is None else s * b for s, b in zip(signs, bounds, strict=True)])
        self._transfer = (
            Transfer(problem.encoding, settings.priors, settings.n_points, seed) if settings.priors else None
        )
        recipe = Recipe(settings.surrogate_model, settings.surrogate_model_kwargs, settings.filter_failures,
                        settings.objective_scaler, settings.n_points, self._bounds, self._transfer,
                        settings.update_prior_quantile if settings.update_prior else 0.0)  # fmt: skip
        self._fitter = Fitter(problem.encoding, recipe, self._history, seed)
        self._standing = Standing(self._maximiser)
        self._first_judged: FirstJudged | None = None

    def foresee(self, first_judged: FirstJudged) -> None:
        """Learn where each trial will be judged first."""
        self._first_judged = first_judged

    @property
    def imports(self) -> Sequence[str]:
        """What the first proposal of a model imports."""
        return *slow_imports(self._settings.surrogate_model), *self._acquisition.imports

    @property
    def cheap(self) -> bool:
        """Whether proposals need no model yet."""
        least = self._n_initial if self._transfer is None else min(FIRST, self._n_initial)
        return self._history.n_succeeded < least

    def observe(self, observations: Sequence[Observation]) -> None:
        """Take in what happened; the model is refitted when the next proposal asks for it."""
        self._known.add_rows(self._history.observe(observations))

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
        led = self._led(left)
        for modelled, group in groupby(left, lambda number: self._modelled(number in led)):
            if modelled:
                self._from_model(list(group), led, taken, chosen)
            else:
                for number in group:
                    self._at_start(number, number in led, taken, chosen)
        made = proposals(self._known, chosen, history.n_observed)
        for number, proposal, (_, row) in zip(numbers, made, chosen, strict=False):
            history.propose(number, proposal.config, row)
        return made

    def _led(self, numbers: Sequence[int]) -> set[int]:
        """Which of these proposals go by what earlier searches expect."""
        transfer, n = self._transfer, self._history.n_succeeded
        if transfer is None or len(self._history) > GP_ROWS:  # by then the target's own results say more
            return set()
        if n:
            self._fitter.learn()
        probability = cache(self._fitter.probability)  # the same for the whole batch
        return {number for number in numbers if transfer.leads(number, n, probability)}

    def _modelled(self, led: bool) -> bool:
        """Whether the trials so far suffice for a model; what earlier searches expect stands in for some of them."""
        n, least = self._history.n_succeeded, self._n_initial
        if self._transfer is not None:
            # The first trials lie where the sources are good: a plain model needs as many of the design beside them.
            least = min(FIRST, least) if led else max(2 * FIRST, least)
        return n >= least

    def _at_start(self, number: int, led: bool, taken: set[bytes], chosen: list[tuple[str, Array]]) -> None:
        """Add a proposal without a model: from earlier searches, the design or, if these repeat, at random."""
        rng = proposal_rng(self._seed, number)
        row = self._design.row(number) if number < len(self._design) else None
        origin = "random" if self._settings.initial_point_generator == "random" else "design"
        if led:
            origin, row = "prior", self._from_earlier(rng, row, taken, [row for _, row in chosen])[0]
        if row is None or not len(self._known.new(row[None, :], taken)):
            origin, row = "random", self._known.draw(rng, taken)
            if row is None:
                return
        chosen.append((origin, self._known.take(row, taken)))

    def _from_earlier(
        self, rng: np.random.Generator, plain: Array | None, taken: set[bytes], batch: list[Array]
    ) -> Array:
        """A row (1, d) that earlier searches recommend; what they do not know is taken from ``plain``, or drawn."""
        assert self._transfer is not None
        seen = np.vstack([self._history.rows, *batch])
        if len(seen) < _PORTFOLIO:
            first = self._known.new(self._transfer.first(seen, _PORTFOLIO), taken)
            if len(first):
                return first[:1]
        return self._transfer.sample(1, rng, None if plain is None else plain[None, :])

    def _from_model(
        self, numbers: Sequence[int], led: set[int], taken: set[bytes], chosen: list[tuple[str, Array]]
    ) -> None:
        """Add proposals from the model: for those that are led, the one with the mean of earlier searches."""
        waiting = self._waiting(numbers[0], chosen)
        for number in numbers:
            rng, key = proposal_rng(self._seed, number), (number in led, self._resource(number))
            row, origin, n = None, "model", len(waiting)
            if rng.random() >= self._settings.random_fraction:
                maximiser = self._counting(key, waiting.counted(number))
                # A part of a large batch is polished, which part does not depend on how the batch is cut.
                wish = self._wish(rng, key[0], not n, rng.random() * n < _POLISHED)
                row = maximiser.choose(wish, rng, self._fresh(taken))
            if row is None:
                row, origin = self._known.draw(rng, taken), "random"
                if row is None:
                    break
            else:
                self._known.take(row, taken)
            chosen.append((origin, row))
            waiting.add(number, row)

    def _waiting(self, number: int, chosen: list[tuple[str, Array]]) -> Waiting:
        """What waits for its results when a proposal is made, after those that were chosen just before it."""
        waiting = Waiting(*self._history.pending())
        for i, (_, row) in enumerate(chosen):
            waiting.add(number - len(chosen) + i, row)
        return waiting

    def _fresh(self, taken: set[bytes]) -> Callable[[Array], Array]:
        def fresh(rows: Array) -> Array:
            keys = self._encoding.keys(rows, snapped=True)
            return np.array([key not in self._known.keys and key not in taken for key in keys], dtype=bool)

        return fresh

    def _wish(self, rng: np.random.Generator, led: bool, alone: bool, polish: bool) -> Wish:
        """What this proposal looks for: its own kappa, weights and part of the pool."""
        settings, acquisition = self._settings, self._acquisition
        kappa = scheduled(settings.scheduler, self._history.n_observed, settings.kappa, self._n_initial)
        strategy = settings.multi_point_strategy
        if acquisition.sampled or (acquisition.name == "UCB" and strategy.startswith("qUCB") and not alone):
            kappa = float(rng.exponential(kappa))
        return Wish(
            acquisition=acquisition,
            kappa=kappa,
            xi=settings.xi,
            scalarise=self._scalarisation(rng, self._fitter.fit(led).training.bounds),
            sources=frozenset(("plain", "near", "prior")),
            temperature=0.1 if strategy == "boltzmann" else 0.0,
            polish=polish and strategy not in ("topk", "boltzmann"),
        )

    def _scalarisation(self, rng: np.random.Generator, bounds: Array) -> Callable[[Array], Array]:
        m = len(self._bounds)
        given = self._settings.moo_scalarization_weight
        weights = scalarization.simplex_weights(1, m, rng) if given is None else np.array([given], dtype=float)
        function, bounded = SCALARISATIONS[self._settings.moo_scalarization_strategy], np.isfinite(self._bounds)

        def scalarise(costs: Array) -> Array:
            result: Array = function(costs, weights)[:, 0]
            if bounded.any():
                result = result + 2.0 * np.maximum(costs - bounds, 0.0)[:, bounded].sum(axis=1)
            return result

        return scalarise

    def _resource(self, number: int) -> float | None:
        """Where predictions for this trial count; None: where trials are complete."""
        which = self._settings.acq_resource
        if which == "first":
            return None if self._first_judged is None else self._first_judged.at(number)
        if which == "observed":
            return self._history.largest_seen(max(len(self._encoding.columns), 3))
        return None

    def _counting(self, key: Key, waiting: Array) -> Maximiser:
        """The current fit, with what waits for its results (k, d) counted in."""
        strategy = self._settings.multi_point_strategy
        if strategy == "topk":
            waiting = waiting[:0]
        if not strategy.startswith("cl_") or not len(waiting):
            return self._standing.counting(key, waiting, len(self._history))
        # The names speak of the objective, the costs are its negative.
        led, resource = key
        costs = self._fitter.fit(led, resource).training.costs
        lies = {"cl_min": costs.max(axis=0), "cl_mean": costs.mean(axis=0), "cl_max": costs.min(axis=0)}
        return self._of(self._fitter.refitted(led, waiting, lies[strategy], resource))

    def _maximiser(self, key: Key) -> Maximiser:
        return self._of(self._fitter.fit(*key))

    def _of(self, fit: Fit) -> Maximiser:
        return Maximiser(self._encoding, fit.beliefs, fit.pool, self._fitter.inputs_at(fit.training, fit.place))
