"""Workers that are there already: a Client, a Dask cluster object, an address, or a scheduler file."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from distributed import Client

from dhpo.clusters.base import Cluster
from dhpo.clusters.security import credentials_of, security_from
from dhpo.errors import ClusterError


class Existing(Cluster):
    """A Dask cluster that somebody else made and that outlives the search.

    Args:
        target: a ``distributed.Client``, a cluster object (``SLURMCluster``, ``LocalCluster``, …), a scheduler's
            address such as ``tcp://host:8786``, or the path of a scheduler file. The credentials of a scheduler that
            speaks TLS are looked for beside that: ``x.tls`` belongs to ``x.json``.
        connect_timeout: seconds to wait for the scheduler.
    """

    def __init__(self, target: Any, *, connect_timeout: float = 30.0) -> None:
        self.target = target
        self.connect_timeout = connect_timeout
        self._client: Client | None = None

    async def open(self) -> Client:
        """Connect a client of dhpo's own, in the running event loop, to the same scheduler."""
        arguments: dict[str, Any] = {"asynchronous": True, "timeout": self.connect_timeout, "set_as_default": False}
        target = self.target
        if isinstance(target, Client):
            if target.status not in ("running", "connecting"):
                raise ClusterError(f"the client {target} is {target.status}: give one that is connected")
            arguments |= {"address": target.scheduler.address, "security": target.security}
        elif isinstance(target, str | os.PathLike):
            text = os.fspath(target)
            if ":" in text:
                arguments["address"] = text
            else:
                arguments["scheduler_file"] = text
                if (credentials := credentials_of(text)).is_dir():
                    arguments["security"] = security_from(credentials)
        else:
            arguments |= {"address": target.scheduler_address, "security": getattr(target, "security", None)}
        client: Client = None
        try:
            client = Client(**arguments)
            # A scheduler file that is not there yet would be waited for without an end.
            self._client = await asyncio.wait_for(client, self.connect_timeout)
        except (OSError, ValueError) as error:
            if client is not None:
                await client.close(timeout=1)
            raise ClusterError(f"no Dask scheduler answers at {target!r} within {self.connect_timeout:g} s") from error
        return self._client

    async def close(self) -> None:
        """Close dhpo's own client; the cluster stays."""
        if self._client is not None:
            await self._client.close()
