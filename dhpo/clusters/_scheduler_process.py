"""A Dask scheduler in a process of its own, as the driver sees it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
from distributed import Client, Security

from dhpo.clusters._scheduler import remove
from dhpo.errors import ClusterError

logger = logging.getLogger(__name__)

#: Seconds for the scheduler to come up; imports from a busy file system included.
_STARTUP = 120.0
_END = 10.0


class SchedulerProcess:
    """Started by :meth:`start`, ended by :meth:`close`, or with the driver, whatever happens to it.

    Args:
        log: the file for its output.
        security: its TLS, of which all parts are files; None for none.
        interface: the network that it listens on; None for all.
        dashboard_address: where the Dask dashboard listens.
        transient: files and directories that are removed at its end.
        heard: called with each piece of news, such as ``{"joined": name}`` or ``{"left": name}``.
    """

    def __init__(
        self,
        log: Path,
        *,
        security: Security | None,
        interface: str | None,
        dashboard_address: str | None,
        transient: Sequence[Path] = (),
        heard: Callable[[dict[str, Any]], None] = lambda news: None,
    ) -> None:
        self.log = log
        self.security = security
        self.heard = heard
        self._transient = list(transient)
        self._options = {
            "security": _files_of(security),
            "interface": interface,
            "dashboard_address": dashboard_address,
            "remove": [str(path) for path in transient],
            "parent": os.getpid(),
        }
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self.address = ""

    async def start(self) -> None:
        """Start it; :attr:`address` is known then.

        Raises:
            ClusterError: it does not come up.
        """
        inherited = {"DASK_INTERNAL_INHERIT_CONFIG": dask.config.serialize(dask.config.global_config)}
        with open(self.log, "ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "dhpo.clusters._scheduler",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, **inherited},
                start_new_session=True,  # Ctrl-C in a terminal is for the driver
            )
        self._say(self._options)
        news = await self._news(self._process, _STARTUP)
        if news is None:
            await self.close()
            raise ClusterError(f"the Dask scheduler did not start:\n{tail(self.log)}")
        self.address = str(news["address"])
        self._listener = asyncio.create_task(self._listen(self._process))

    async def connect(self) -> Client:
        """A client of it."""
        return await Client(
            self.address, security=self.security, asynchronous=True, set_as_default=False, timeout=_STARTUP
        )

    def retire(self, count: int) -> None:
        """Have idle workers leave; ``{"retired": names}`` will be heard."""
        self._say({"retire": count})

    async def close(self) -> None:
        """End it."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _END)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._listener is not None:
            await self._listener
        remove(self._transient)  # where it was killed, it could not do so itself
        self._process = self._listener = None

    def _say(self, command: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        while (news := await self._news(process, None)) is not None:
            if "room" in news:
                logger.warning(
                    "the Dask scheduler may have open files for %d workers, and nearly as many are there: more cannot "
                    "join. Start the search where the hard limit is higher (`ulimit -Hn`)",
                    news["room"],
                )
            else:
                self.heard(news)
        self.heard({"ended": await process.wait()})

    async def _news(self, process: asyncio.subprocess.Process, timeout: float | None) -> dict[str, Any] | None:
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), timeout)
        except TimeoutError:
            return None
        return json.loads(line) if line else None


def _files_of(security: Security | None) -> dict[str, Any]:
    if security is None:
        return {}
    options: dict[str, Any] = {"require_encryption": True}
    for name in ("tls_ca_file", "tls_scheduler_cert", "tls_scheduler_key"):
        value = getattr(security, name)
        if value is None or "\n" in str(value):
            raise ClusterError(
                f"security: its {name} is {'missing' if value is None else 'no file'}. The jobs read it from a file "
                "that the nodes see; security=True makes the files"
            )
        options[name] = os.path.abspath(value)
    return options


def tail(path: Path, lines: int = 25) -> str:
    """The last lines of a file; "" where there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 16384))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-lines:])
