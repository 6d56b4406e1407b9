"""The protocol of clusters."""

from __future__ import annotations

from typing import Protocol

from distributed import Client


class Cluster(Protocol):
    """Where workers come from: opened for one run of a search, closed after it; it may be opened again.

    A class of your own needs :meth:`open` and :meth:`close`; derive it from this one, and the others do nothing.
    """

    async def open(self) -> Client:
        """An asynchronous client, connected in the running event loop.

        Raises:
            ClusterError: there is nothing to connect to.
        """

    async def close(self) -> None:
        """Leave the cluster; end it, if it was made by :meth:`open`."""

    def want(self, trials: int) -> None:
        """Say how many trials could run now if there were workers for them: those that run, and those still to come.

        A cluster that submits jobs keeps no more workers than that; others take no notice.
        """
        del trials

    def state(self) -> str:
        """What the cluster waits for, in one line for people; "" where there is nothing to tell."""
        return ""

    def failed(self) -> str | None:
        """Why the cluster has given up and no worker will come any more; None as long as it has not."""
        return None
