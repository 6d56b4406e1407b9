"""The driver's end of its connection with the relay on the Dask scheduler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from distributed import Client

from dhpo.errors import ClusterError
from dhpo.executors.base import Inbox
from dhpo.trial import Decision

logger = logging.getLogger(__name__)


class Link:
    """Takes in the relay's records, and passes decisions on to it.

    Args:
        client: connected to the scheduler.
        token: of the relay.
        read: gives a piece of the search's data, for nodes that do not see its file.
        outlook: what the relay is to be told each time: seconds that a new trial needs, and so on.
        inbox: where records go, as (number, record).
    """

    def __init__(
        self,
        client: Client,
        token: str,
        read: Callable[[int, int], bytes],
        outlook: Callable[[], Mapping[str, float | None]],
        inbox: Inbox,
    ) -> None:
        self.slots = 0
        self.acknowledged = 0  # up to this number the records are in the journal
        self._client = client
        self._token = token
        self._read = read
        self._outlook = outlook
        self._inbox = inbox
        self._received = 0
        self._outbox: tuple[list[Any], list[str]] = ([], [])
        self._sender: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._puller = asyncio.create_task(self._pull())

    @property
    def is_down(self) -> bool:
        """Whether the scheduler is lost, or has lost this search."""
        return self._puller.done()

    def check(self) -> None:
        """Raise what has gone wrong.

        Raises:
            ClusterError: the scheduler is lost, or has lost this search.
        """
        if self._puller.done():
            self._puller.result()

    def close(self) -> None:
        """Ask for no more records."""
        self._puller.cancel()

    def call(self, operation: str, **message: Any) -> Any:
        """Have the relay do something."""
        return getattr(self._client.scheduler, f"dhpo_{operation}_{self._token}")(**message)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Do something beside."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def answer(self, key: str, index: int, decision: Decision) -> None:
        """Let a report that waits for a decision have it."""
        self._outbox[0].append((key, index, decision.value))
        self._flush()

    def cancel(self, key: str) -> None:
        """Have a task end at its next report."""
        self._outbox[1].append(key)
        self._flush()

    def recall(self) -> None:
        """Have all trials leave at their next reports."""
        self.spawn(self._recall())

    async def _recall(self) -> None:
        try:
            await self.call("recall")
        except OSError as error:  # nobody is there to be recalled, or they learn of the end by other ways
            logger.debug("the trials could not be recalled: %s", error)

    def _flush(self) -> None:
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while any(self._outbox):
            (decisions, cancelled), self._outbox = self._outbox, ([], [])
            await self.call("obey", decisions=decisions, cancelled=cancelled)

    async def _pull(self) -> None:
        try:
            while True:
                answer = await self.call(
                    "exchange", after=self._received, acknowledged=self.acknowledged, **self._outlook()
                )
                if answer is None:
                    raise ClusterError("the scheduler no longer knows this search: was its plugin removed?")
                if answer["slots"] != self.slots:
                    self.slots = answer["slots"]
                    self._inbox.wake()
                for number, record in answer["records"]:
                    self._received = number
                    if record[0] == "fetch":
                        self.spawn(self._serve(*record[1:]))
                    else:
                        self._inbox.put((number, record))
        except OSError as error:
            raise ClusterError(
                f"the connection to the Dask scheduler was lost ({error}). Finished trials are safe in the journal: "
                "run the same search again to go on."
            ) from error
        finally:
            self._inbox.wake()

    async def _serve(self, number: int, offset: int, length: int) -> None:
        data = await asyncio.to_thread(self._read, offset, length)
        await self.call("chunk", number=number, data=data)
