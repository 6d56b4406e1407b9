"""From what a user gives as ``cluster`` and ``resources`` to an executor."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dhpo.errors import SettingError

if TYPE_CHECKING:
    from dhpo.executors.base import Executor

_RESOURCES = ("num_cpus", "num_gpus")


def check_resources(resources: Mapping[str, Any] | None) -> dict[str, float]:
    """Read ``{"num_cpus": 4, "num_gpus": 0}``: what one trial takes.

    Raises:
        SettingError: an unknown name, or no usable number.
    """
    given = dict(resources or {})
    for name, amount in given.items():
        if name not in _RESOURCES:
            raise SettingError(f"resources has {name!r}: dhpo knows {list(_RESOURCES)}")
        if not isinstance(amount, int | float) or isinstance(amount, bool) or not 0 <= amount < float("inf"):
            raise SettingError(f"resources[{name!r}]={amount!r}: give a number that is not negative")
    return {"num_cpus": given.get("num_cpus", 1) or 1, "num_gpus": given.get("num_gpus", 0)}


def resolve(
    cluster: Any, resources: Mapping[str, float], ahead: int | None = 0, directory: Path | None = None
) -> Executor:
    """An executor for a name, an address, a scheduler file, a Client, a cluster, a list of pools, or an executor.

    The names: "local", "serial", "threads", "slurm", "pbs", "allocation", and "auto": the job that this process runs
    in, if it does, and this machine otherwise.

    Args:
        cluster: as said.
        resources: what one trial takes, of :func:`check_resources`.
        ahead: trials given out beyond the slots; None for as many as they are found to need.
        directory: the search's; a batch system given by its name keeps the files of its jobs in ``jobs`` there.

    Raises:
        SettingError: it is none of these, or its workers are too small for the trials.
    """
    if cluster == "serial":
        from dhpo.executors.local import LocalExecutor

        return LocalExecutor(1)
    if cluster == "threads":
        from dhpo.executors.local import LocalExecutor

        return LocalExecutor(None)
    if all(hasattr(cluster, name) for name in ("events", "start", "free", "obey")):
        return cluster  # type: ignore[no-any-return]
    from dhpo.executors.dask import DaskExecutor

    gpus = {"GPU": resources["num_gpus"]} if resources["num_gpus"] else {}
    return DaskExecutor(_workers(cluster, resources, directory), gpus, ahead)


def _workers(cluster: Any, resources: Mapping[str, float], directory: Path | None) -> Any:
    from dhpo.clusters.existing import Existing
    from dhpo.clusters.local import Local

    if cluster == "auto":
        from dhpo.clusters.allocation import inside_job

        cluster = "allocation" if inside_job() else "local"
    if cluster is None or cluster == "local":
        return Local(num_cpus=resources["num_cpus"], num_gpus=resources["num_gpus"])
    if isinstance(cluster, str) and cluster in ("slurm", "pbs", "allocation"):
        return _named(cluster, resources, directory)
    if isinstance(cluster, list | tuple):
        from dhpo.clusters.pools import Pools

        cluster = Pools(cluster)
    if hasattr(cluster, "open") and hasattr(cluster, "close") and not hasattr(cluster, "scheduler_address"):
        _check_size(cluster, resources)
        return cluster
    if hasattr(cluster, "scheduler_address") or hasattr(cluster, "scheduler_info"):
        return Existing(cluster)
    if isinstance(cluster, str | os.PathLike):
        text = os.fspath(cluster)
        if ":" in text or os.path.exists(text) or text.endswith(".json"):
            return Existing(cluster)
    raise SettingError(
        f"cluster={cluster!r}: give 'local', 'serial', 'threads', 'slurm', 'pbs', 'allocation', 'auto', a cluster such "
        "as dhpo.Slurm(...) or a list of them, a Dask Client or cluster, the address of a scheduler "
        "(tcp://host:8786), or the path of a scheduler file"
    )


def _named(name: str, resources: Mapping[str, float], directory: Path | None) -> Any:
    """A batch system by its name: a worker is as large as a trial, all else stands in ``jobqueue.yaml``."""
    for what, amount in resources.items():
        if amount != int(amount):
            raise SettingError(f"resources[{what!r}]={amount:g}: a worker on {name!r} takes whole ones")
    num_cpus = int(resources["num_cpus"]) if resources["num_cpus"] > 1 else None
    num_gpus = int(resources["num_gpus"])
    jobs = None if directory is None else directory / "jobs"
    if name == "allocation":
        from dhpo.clusters.allocation import Allocation

        return Allocation(num_cpus=num_cpus, num_gpus=num_gpus or None, log_directory=jobs)
    from dhpo.clusters._settings import configured
    from dhpo.clusters.pbs import PBS
    from dhpo.clusters.slurm import Slurm

    kind = Slurm if name == "slurm" else PBS
    log_directory = configured(name, "log-directory") or jobs
    return kind(num_cpus=num_cpus, num_gpus=num_gpus, log_directory=log_directory)


def _check_size(cluster: Any, resources: Mapping[str, float]) -> None:
    """Trials for which no job is large enough would wait for ever."""
    pools = dict(zip(getattr(cluster, "names", ()), getattr(cluster, "clusters", ()), strict=True))
    for pool, each in (pools or {"": cluster}).items():
        settings, kind = getattr(each, "settings", None), type(each).__name__
        for name in _RESOURCES:
            offered = getattr(settings, name, None)
            if offered is not None and resources[name] > offered:
                raise SettingError(
                    f"resources: a trial takes {name}={resources[name]:g}, a job of {kind} has {offered}"
                    + (f" in the pool {pool!r}; every pool must have what a trial takes" if pool else "")
                    + f": give {kind}(..., {name}={resources[name]:g})"
                )
