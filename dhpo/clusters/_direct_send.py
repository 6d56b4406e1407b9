"""Messages to one worker, written as soon as the event loop gets to it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from distributed.batched import BatchedSend
from distributed.comm import Comm, CommClosedError

logger = logging.getLogger(__name__)


class DirectSend(BatchedSend):  # type: ignore[misc]
    """Dask's ``BatchedSend`` without its timer.

    That gathers messages for 5 ms, by a coroutine that waits for a message, or for the 5 ms to pass, time and again:
    with a message a second that is more work than to write it. Here what is sent in one turn of the event loop, or
    while an earlier message is being written, goes together.

    Args:
        pending: messages that wait for the connection already.
    """

    def __init__(self, pending: list[Any]) -> None:
        super().__init__(interval=0)
        self.buffer = pending
        self._writing: asyncio.Task[None] | None = None

    def start(self, comm: Comm) -> None:
        """Write to this connection from now on."""
        self.comm = comm
        self._write_soon()

    def send(self, *msgs: Any) -> None:
        """Have messages sent.

        Raises:
            CommClosedError: the connection is closed.
        """
        if self.comm is not None and self.comm.closed():
            raise CommClosedError(f"{self.comm!r} is closed already")
        self.message_count += len(msgs)
        self.buffer.extend(msgs)
        self._write_soon()

    def _write_soon(self) -> None:
        if self.comm is not None and self._writing is None and self.buffer:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            while self.buffer:
                payload, self.buffer = self.buffer, []
                self.batch_count += 1
                self.byte_count += await self.comm.write(payload, serializers=self.serializers, on_error="raise")
        except CommClosedError as error:  # the end of the connection is noticed by who reads from it
            logger.info("%r is closed: %s", self.comm, error)
        except Exception:  # nobody knows what was written: what follows could not be read
            logger.exception("a message to a worker could not be written")
            self.abort()
        finally:
            self._writing = None

    async def close(self, timeout: float | None = None) -> None:
        """Write what is left, and close the connection."""
        if self.comm is None:
            return
        if self._writing is not None:
            await asyncio.wait_for(asyncio.shield(self._writing), timeout)
        await self.comm.close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self.comm is not None:
            self.buffer = []
            self.comm.abort()
