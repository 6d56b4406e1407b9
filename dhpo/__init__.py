"""dhpo: asynchronous hyperparameter optimisation for supercomputers, on Dask."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dhpo._version import __version__

if TYPE_CHECKING:
    from dhpo.clusters.allocation import Allocation
    from dhpo.clusters.existing import Existing
    from dhpo.clusters.local import Local
    from dhpo.clusters.pbs import PBS
    from dhpo.clusters.pools import Pools
    from dhpo.clusters.slurm import Slurm
    from dhpo.executors.local import LocalExecutor
    from dhpo.executors.simulated import Simulated
    from dhpo.results import Results, retrieve_pareto_front
    from dhpo.script_trial import ScriptTrial
    from dhpo.search import Search
    from dhpo.searchers.asktell import AskTell
    from dhpo.searchers.cbo import CBO
    from dhpo.searchers.evolution import RegularizedEvolution
    from dhpo.searchers.random import RandomSearcher
    from dhpo.space import HpProblem
    from dhpo.stopping.base import NeverStop
    from dhpo.stopping.combine import AnyOf
    from dhpo.stopping.hyperband import Hyperband
    from dhpo.stopping.median import MedianStopper
    from dhpo.stopping.patience import Patience
    from dhpo.worker.loader import Loader

#: Where each public name lives. They are loaded on first use: ``import dhpo`` itself loads nothing heavy.
_HOMES = {
    "Allocation": "dhpo.clusters.allocation",
    "AnyOf": "dhpo.stopping.combine",
    "AskTell": "dhpo.searchers.asktell",
    "CBO": "dhpo.searchers.cbo",
    "Existing": "dhpo.clusters.existing",
    "HpProblem": "dhpo.space",
    "Hyperband": "dhpo.stopping.hyperband",
    "Loader": "dhpo.worker.loader",
    "Local": "dhpo.clusters.local",
    "LocalExecutor": "dhpo.executors.local",
    "MedianStopper": "dhpo.stopping.median",
    "NeverStop": "dhpo.stopping.base",
    "PBS": "dhpo.clusters.pbs",
    "Patience": "dhpo.stopping.patience",
    "Pools": "dhpo.clusters.pools",
    "RandomSearcher": "dhpo.searchers.random",
    "RegularizedEvolution": "dhpo.searchers.evolution",
    "Results": "dhpo.results",
    "ScriptTrial": "dhpo.script_trial",
    "Search": "dhpo.search",
    "Simulated": "dhpo.executors.simulated",
    "Slurm": "dhpo.clusters.slurm",
    "retrieve_pareto_front": "dhpo.results",
}

__all__ = [
    "CBO",
    "PBS",
    "Allocation",
    "AnyOf",
    "AskTell",
    "Existing",
    "HpProblem",
    "Hyperband",
    "Loader",
    "Local",
    "LocalExecutor",
    "MedianStopper",
    "NeverStop",
    "Patience",
    "Pools",
    "RandomSearcher",
    "RegularizedEvolution",
    "Results",
    "ScriptTrial",
    "Search",
    "Simulated",
    "Slurm",
    "__version__",
    "retrieve_pareto_front",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dhpo' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
