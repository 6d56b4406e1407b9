"""AutoGluon's multi-objective schedulers, over :class:`dhpo.Search`."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from dhpo.compat._autogluon_space import TrainFunction, problem_of
from dhpo.compat._failures import warn_if_all_failed
from dhpo.errors import ObjectiveError, SettingError
from dhpo.journal import FILE_NAME
from dhpo.pareto import eps_net_order
from dhpo.results import Results
from dhpo.search import Search
from dhpo.searchers import CBO, RandomSearcher, Searcher
from dhpo.stopping.hyperband import Hyperband

__all__ = ["MOASHAScheduler", "MOHyperbandScheduler"]

#: AutoGluon's searchers by a model are all Gaussian processes or the like.
_MODELS = ("skopt", "bayesopt", "cbo")

_SEARCH_OPTIONS = {
    "num_init_random": "n_initial_points",
    "n_initial_points": "n_initial_points",
    "first_is_default": "default_first",
}

_SCALARIZATION = "_SCALARIZATION"


class WithoutEffect(TypedDict, total=False):
    """AutoGluon's arguments that change nothing here: it is done otherwise, or not at all."""

    reward_attr: str
    constraint_attr: str
    max_reward: float | None
    searcher_data: str
    do_snapshots: bool
    delay_get_config: bool
    stop_jobs_after_time_out: bool
    visualizer: str
    training_history_callback: Callable[..., Any] | None
    training_history_callback_delta_secs: float
    training_history_searcher_info: bool
    dist_ip_addrs: Sequence[str] | None


#: Those of them whose absence somebody may notice.
_MISSED = ("max_reward", "training_history_callback", "dist_ip_addrs")


class MOHyperbandScheduler:
    """Asynchronous Hyperband with several objectives.

    Args:
        train_fn: ``train_fn(args, reporter)``, decorated by ``@ag.args(...)``; it reports every objective and the
            ``time_attr``.
        objectives: ``{name: "MAX" | "MIN"}``.
        scalarization_options: ``{"algorithm": "random_weights", "num_weights": 100}`` unless given; "parego" (with
            ``"rho": 0.05``) and "golovin" are the others. They name dhpo's rankings, which take each objective as its
            quantile within the rung, so that all objectives count. AutoGluon's own formulas, in which objectives to be
            minimised hardly count, are taken with ``"legacy": True``.
        time_attr: the reported metric that is the resource.
        grace_period: the first rung.
        reduction_factor: the ratio of consecutive rungs.
        brackets: how many brackets.
        type: "stopping" or "promotion".
        rung_levels: the rungs themselves.
        rung_system_per_bracket: whether each bracket compares its own trials only.
        max_t: the resource at which a trial is complete; by default the constant ``epochs`` or ``max_t`` of ``args``.
        resource: what one trial takes, ``{"num_cpus": 1, "num_gpus": 0}``.
        num_trials: how many trials there are in all.
        time_out: seconds after which the search ends.
        searcher: "random", "grid", "bayesopt", "skopt" (both: dhpo's model-based search), or any searcher of
            :class:`dhpo.Search`.
        search_options: ``num_init_random`` and ``first_is_default``; the others are without effect.
        checkpoint: the search's directory; None keeps everything in memory.
        resume: go on with the search that ``checkpoint`` holds.
        random_seed: the seed.
        cluster: where the trials run, as of :class:`dhpo.Search`; it takes the place of ``dist_ip_addrs``.
        **without_effect: see :class:`WithoutEffect`.

    Raises:
        KeyError: there are no ``objectives``.
        ValueError: a direction is neither "MIN" nor "MAX", or another argument is unusable.
        TypeError: an argument is unknown.
    """

    def __init__(
        self,
        train_fn: Any,
        *,
        objectives: Mapping[str, str] | None = None,
        scalarization_options: Mapping[str, Any] | None = None,
        time_attr: str = "epoch",
        grace_period: float = 1,
        reduction_factor: float = 3,
        brackets: int = 1,
        type: str = "stopping",
        rung_levels: Sequence[float] | None = None,
        rung_system_per_bracket: bool = True,
        max_t: float | None = None,
        resource: Mapping[str, float] | None = None,
        num_trials: int | None = None,
        time_out: float | str | None = None,
        searcher: Any = "random",
        search_options: Mapping[str, Any] | None = None,
        checkpoint: str | Path | None = None,
        resume: bool = False,
        random_seed: int = 31415927,
        cluster: Any = "local",
        **without_effect: Unpack[WithoutEffect],
    ) -> None:
        space = getattr(train_fn, "args", None)
        if not callable(train_fn) or not isinstance(space, Mapping):
            raise SettingError(f"train_fn={train_fn!r}: give a function that is decorated by @ag.args(...)")
        if num_trials is None and time_out is None:
            raise SettingError("neither num_trials nor time_out is given: give one of them")
        _check_without_effect(without_effect)
        _check_checkpoint(checkpoint, resume)
        self.objectives = _checked_objectives(objectives)
        self.num_trials = num_trials
        self.time_out = time_out
        limit = _max_t(space) if max_t is None else max_t
        stopper = Hyperband(
            time_attr=time_attr,
            max_t=limit,
            grace_period=grace_period,
            reduction_factor=reduction_factor,
            brackets=brackets,
            type=type,
            rung_levels=_below(rung_levels, limit),
            rung_system_per_bracket=rung_system_per_bracket,
            **_ranking(dict(scalarization_options or {})),
        )
        self._results: Results | None = None
        self._search = Search(
            problem_of(space),
            TrainFunction(train_fn, dict(space)),
            objectives=self.objectives,
            stopper=stopper,
            searcher=_searcher(searcher, dict(search_options or {})),
            cluster=cluster,
            resources=resource,
            log_dir=checkpoint,
            random_state=random_seed,
        )

    def run(self) -> None:
        """Run the search to its end. (AutoGluon returns once all trials are submitted; ``join_jobs`` waits there.)

        Ctrl-C and SIGTERM end it cleanly; with a ``checkpoint``, ``resume=True`` goes on.

        Raises:
            DhpoError: see :meth:`dhpo.Search.run`.
        """
        self._results = self._search.run(num_trials=self.num_trials, time_out=self.time_out)
        warn_if_all_failed(self._results)

    def join_jobs(self, timeout: float | None = None) -> None:
        """Wait for the trials: :meth:`run` has done so."""

    def shutdown(self) -> None:
        """Release the workers: :meth:`run` has done so."""

    @property
    def results(self) -> Results:
        """Everything that was found so far."""
        return self._search.results if self._results is None else self._results

    @property
    def training_history(self) -> OrderedDict[str, list[dict[str, Any]]]:
        """For each trial (its number as text) everything that it reported, in order.

        AutoGluon's entry ``_SCALARIZATION`` is not there: no trial has one scalar here.
        """
        return self.results.training_history

    @property
    def config_history(self) -> dict[str, dict[str, Any]]:
        """The configuration of each trial, without constants."""
        return self.results.config_history

    def get_pareto_front(self) -> list[dict[str, Any]]:
        """The best trade-offs among all that was reported, as :func:`dhpo.retrieve_pareto_front` has them."""
        return self.results.pareto_front()

    def get_best_task_id(self) -> str | None:
        """The trial with the best value; of several objectives, with the point of the front nearest the ideal one."""
        front = self.results.pareto_front(strict=True, unique=True)
        if not front:
            return None
        costs = np.array([self._search.objectives.costs(point) for point in front])
        return str(front[int(eps_net_order(costs, limit=1)[0])]["task_id-ressource"][0])

    def get_best_config(self) -> dict[str, Any]:
        """The configuration of :meth:`get_best_task_id`; empty when there is none."""
        best = self.get_best_task_id()
        return {} if best is None else self.config_history[best]

    def get_training_curves(
        self, filename: str | Path | None = None, plot: bool = False, use_legend: bool = True
    ) -> None:
        """Plot what the trials reported of the first objective.

        Args:
            filename: where to save the figure.
            plot: show it on the screen.
            use_legend: without effect.

        Raises:
            DhpoError: matplotlib is not installed.
        """
        from dhpo.plots import plot_learning_curves

        if filename is not None:
            plot_learning_curves(self.results).get_figure().savefig(filename)  # type: ignore[union-attr]
        if plot:
            import matplotlib.pyplot as plt

            plot_learning_curves(self.results, plt.figure().add_subplot())
            plt.show()


class MOASHAScheduler(MOHyperbandScheduler):
    """Asynchronous successive halving that ranks by the geometry of the whole Pareto front.

    Args:
        train_fn: as of :class:`MOHyperbandScheduler`.
        type: "eps_net" or "nsga_ii". Trials pause at the rungs, and the best are promoted.
        **arguments: the other arguments of :class:`MOHyperbandScheduler`.

    Raises:
        KeyError: there are no ``objectives``.
        ValueError: an argument is unusable.
        TypeError: an argument is unknown.
    """

    def __init__(self, train_fn: Any, *, type: str = "eps_net", **arguments: Any) -> None:
        if type not in ("eps_net", "nsga_ii"):
            raise SettingError(f"type={type!r} is unknown: write 'eps_net' or 'nsga_ii'")
        super().__init__(train_fn, type="promotion", scalarization_options={"algorithm": type}, **arguments)


def _checked_objectives(objectives: Mapping[str, str] | None) -> dict[str, str]:
    if objectives is None:
        raise KeyError("objectives")
    if any(direction not in ("MIN", "MAX") for direction in objectives.values()):
        raise ObjectiveError("Error, in conversion of objective dict. Allowed values are 'MIN' and 'MAX'")
    if _SCALARIZATION in objectives:
        raise ObjectiveError(f"no objective may be called {_SCALARIZATION!r}: give it another name")
    return dict(objectives)


def _ranking(options: dict[str, Any]) -> dict[str, Any]:
    """AutoGluon's scalarisation as arguments of :class:`Hyperband`."""
    algorithm = options.pop("algorithm", "random_weights")
    legacy = options.pop("legacy", False)
    unknown = sorted(set(options) - {"num_weights", "rho"})
    if unknown:
        raise SettingError(f"scalarization_options has {unknown}: write algorithm, num_weights, rho or legacy")
    return {"ranking": f"legacy_{algorithm}" if legacy else algorithm, **options}


def _max_t(space: Mapping[str, Any]) -> float | None:
    constants = (space.get(name) for name in ("epochs", "max_t", "max_epochs"))
    return next((value for value in constants if isinstance(value, int | float)), None)


def _below(levels: Sequence[float] | None, limit: float | None) -> list[float] | None:
    """AutoGluon's rung levels may include ``max_t``, where there is nothing to decide."""
    return None if levels is None else [level for level in levels if limit is None or level != limit]


def _searcher(searcher: Any, options: dict[str, Any]) -> Searcher | str:
    known = {_SEARCH_OPTIONS[name]: value for name, value in options.items() if name in _SEARCH_OPTIONS}
    if searcher == "random":
        known.pop("n_initial_points", None)
        return RandomSearcher(**known)
    if searcher in _MODELS:
        return CBO(**known)
    found: Searcher | str = searcher
    return found


def _check_checkpoint(checkpoint: str | Path | None, resume: bool) -> None:
    there = checkpoint is not None and (Path(checkpoint).expanduser() / FILE_NAME).exists()
    if resume and not there:
        raise SettingError(f"resume=True, but checkpoint={checkpoint!r} holds no search: leave resume out to begin one")
    if there and not resume:
        raise SettingError(f"checkpoint={str(checkpoint)!r} holds a search: give resume=True to go on with it, "
                           "or another checkpoint")  # fmt: skip


def _check_without_effect(given: Mapping[str, Any]) -> None:
    unknown = sorted(set(given) - set(WithoutEffect.__annotations__))
    if unknown:
        raise TypeError(f"the scheduler got the unexpected arguments {unknown}")
    for name in _MISSED:
        if given.get(name):
            hint = ": give cluster=" if name == "dist_ip_addrs" else ""
            warnings.warn(f"{name} has no effect{hint}", UserWarning, stacklevel=3)
