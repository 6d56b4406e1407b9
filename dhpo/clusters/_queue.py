"""What a batch system can be asked for, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from dhpo.clusters._controller import Phase
from dhpo.clusters._jobscript import Site
from dhpo.clusters._settings import JobSettings
from dhpo.errors import ClusterError


class Refused(ClusterError):
    """A job was not accepted. ``lasting`` says that the same will never be."""

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class BatchQueue(Protocol):
    """A batch system's commands."""

    #: What submits, to be named in messages.
    command: str

    def script(self, settings: JobSettings, site: Site, number: int) -> str:
        """The script of one worker's job."""

    async def submit(self, script: Path) -> str:
        """Submit a script; the job's identity.

        Raises:
            Refused: the batch system does not take it.
        """

    async def poll(self, site: Site, ids: Sequence[str]) -> Mapping[str, tuple[Phase, str]]:
        """The phase of those jobs that have not ended, and why they are pending, by one command.

        Raises:
            ClusterError: the batch system does not answer.
        """

    async def cancel(self, ids: Sequence[str], *, pending: bool) -> None:
        """Cancel jobs; ``pending`` spares those that have begun, where the batch system can do that.

        Raises:
            ClusterError: the batch system does not answer.
        """
