"""Lets dask-jobqueue's ``SLURMCluster`` start its job scripts as processes of this machine."""

import dask_jobqueue
from dask_jobqueue.local import LocalCluster


def slurm_cluster(*, queue, job_cpu, memory, walltime, **arguments):
    return LocalCluster(memory="1GB", scheduler_options={"dashboard_address": None}, **arguments)


dask_jobqueue.SLURMCluster = slurm_cluster
