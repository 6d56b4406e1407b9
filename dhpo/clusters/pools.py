"""Workers from several batch queues at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dhpo.clusters._batch import BatchCluster
from dhpo.clusters._jobs import JobCluster
from dhpo.errors import SettingError

#: Has no GPU be seen: for the jobs of pools that ask for none, where others do.
_NO_GPUS = {"CUDA_VISIBLE_DEVICES": ""}
#: What the one Dask scheduler needs, and all pools say alike.
_SHARED = ("security", "dashboard_address", "log_directory")


class Pools(BatchCluster):
    """Workers of several kinds in one search: from a GPU partition and a CPU partition, on two accounts, ...

    There is one Dask scheduler, to which all workers come. Each pool has its own queue, keeps its own number of jobs,
    and waits for nothing of the others: all ask for workers as long as some are missing for the trials that could run,
    and what is still pending when enough have come is withdrawn. When there are fewer trials than workers, idle ones
    leave, of any pool. A pool whose jobs never start their worker is given up alone; the search ends with the last.

    A trial gets what its worker's job has, whatever ``resources`` asked for at least: the job's processors as threads,
    and its GPUs. Where one pool has ``num_gpus``, the trials of a pool without see none (``CUDA_VISIBLE_DEVICES`` is
    empty there). Trials go to whichever worker is free.

    ``Search(..., cluster=[Slurm(...), Slurm(...)])`` is a shorthand for it.

    Args:
        clusters: the pools, each a :class:`dhpo.Slurm` or :class:`dhpo.PBS`. Their ``security``,
            ``dashboard_address`` and ``log_directory`` must agree; the scheduler listens on the first ``interface``
            that is given.

    Raises:
        SettingError: it is something else, or they do not agree.
    """

    def __init__(self, clusters: Sequence[JobCluster]) -> None:
        self.clusters = tuple(clusters)
        if not self.clusters:
            raise SettingError("cluster=[]: give the pools of workers, such as [dhpo.Slurm(...), dhpo.Slurm(...)]")
        for cluster in self.clusters:
            if not isinstance(cluster, JobCluster):
                raise SettingError(
                    f"cluster=[..., {cluster!r}]: a pool of workers is a dhpo.Slurm(...) or dhpo.PBS(...)"
                )
        self.names = _names(self.clusters)
        self._agree()
        first = self.clusters[0]
        has_gpus = any(cluster.settings.num_gpus for cluster in self.clusters)
        super().__init__(
            [
                cluster.pool(name, _NO_GPUS if has_gpus and not cluster.settings.num_gpus else None)
                for name, cluster in zip(self.names, self.clusters, strict=True)
            ],
            log_directory=first.settings.log_directory,
            interface=next((name for cluster in self.clusters if (name := cluster.settings.interface)), None),
            security=first.security,
            dashboard_address=first.dashboard_address,
        )

    def _agree(self) -> None:
        for name in _SHARED:
            values = [
                cluster.settings.log_directory if name == "log_directory" else getattr(cluster, name)
                for cluster in self.clusters
            ]
            for other, value in zip(self.names, values, strict=True):
                if value != values[0]:
                    raise SettingError(
                        f"{name}: pool {self.names[0]!r} has {str(values[0])!r}, pool {other!r} has {str(value)!r}: "
                        "all workers come to one scheduler, give both the same"
                    )


def _names(clusters: Sequence[JobCluster]) -> list[str]:
    """What people call the pools: by their queues, with a number where that is no name."""
    queues = [cluster.settings.queue or cluster.section for cluster in clusters]
    often = Counter(queues)
    return [queue if often[queue] == 1 else f"{queue} {place}" for place, queue in enumerate(queues, start=1)]
