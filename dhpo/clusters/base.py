"""The protocol of clusters."""

from __future__ import annotations

from typing import Protocol

from distributed import Client


class Cluster(Protocol):
    """Where workers come from: opened for one run of a search, closed after it."""

    async def open(self) -> Client:
        """An asynchronous client, connected in the running event loop.

        Raises:
            ClusterError: there is nothing to connect to.
        """

    async def close(self) -> None:
        """Leave the cluster; end it, if it was made by :meth:`open`."""
