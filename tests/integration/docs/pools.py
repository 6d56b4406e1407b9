"""Lets ``dhpo.Slurm`` check its arguments, and has the workers of two pools run on this machine."""

import dhpo
from dhpo.clusters.local import Local
from dhpo.clusters.resolve import check_resources, resolve


def search(space, train, *, cluster, **arguments):
    resolve(cluster, check_resources(None))
    names = [each.settings.queue for each in cluster]
    assert names == ["gpu", "cpu"], names
    return Search(space, train, cluster=Local(2), **arguments)


Search = dhpo.Search
dhpo.Search = search
