"""What a driver does about the requests that come through its search's directory (see ``dhpo/control.py``)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from dhpo.control import Action, Answer, Mailbox, Request, is_paused
from dhpo.events import Event, TrialCancelled
from dhpo.study import Study

logger = logging.getLogger(__name__)

#: Seconds between two looks for requests: one listing of a folder that is nearly always empty.
_PERIOD = 1.0
#: Seconds that a look may still take when the run is over.
_FAREWELL = 5.0


class Desk:
    """Takes requests in beside the loop, and answers them.

    It is one of the loop's watchers: a trial is said to be cancelled once that is journalled.

    Args:
        directory: of the search; None where it has none, and nobody can ask for anything.
        drain: ends the run once its trials have left.
        stop: ends the run at once.
        wake: has the loop look at :attr:`paused` and :meth:`cancellations`.
    """

    def __init__(
        self, directory: Path | None, drain: Callable[[], None], stop: Callable[[], None], wake: Callable[[], None]
    ) -> None:
        self.paused = directory is not None and is_paused(directory)
        self._directory = directory
        self._mailbox: Mailbox | None = None
        self._drain, self._stop, self._wake = drain, stop, wake
        self._to_cancel: list[tuple[int, str]] = []  # trial, request
        self._waiting: dict[int, list[str]] = {}  # trial -> requests, until its end is journalled
        self._answers: list[tuple[str, Answer]] = []
        self._news = asyncio.Event()
        self._is_over = False

    def open(self) -> None:
        """Begin to take requests. Where that is not possible, the search goes on without."""
        if self._directory is None:
            return
        mailbox = Mailbox(self._directory)
        try:
            mailbox.open()
        except OSError as error:
            logger.warning("the search cannot be stopped or paused from outside: %s", error)
            return
        self._mailbox = mailbox
        if self.paused:
            logger.warning("%s", self.status())

    def close(self) -> None:
        """Take no more requests. Those that nobody has answered learn that the run is over."""
        if self._mailbox is None:
            return
        over = Answer(False, "the run has ended meanwhile")
        waiting = [name for names in self._waiting.values() for name in names]
        waiting += [name for _, name in self._to_cancel] + [name for name, _ in self._mailbox.take()]
        for name, answer in [*self._answers, *((name, over) for name in waiting)]:
            self._mailbox.answer(name, answer)
        self._mailbox.close()
        self._mailbox = None

    @asynccontextmanager
    async def attended(self) -> AsyncIterator[None]:
        """Take requests until this context is left."""
        self.open()
        task = asyncio.create_task(self._attend())
        try:
            yield
        finally:
            self._is_over = True
            self._news.set()
            await asyncio.wait({task}, timeout=_FAREWELL)
            task.cancel()
            self.close()

    async def _attend(self) -> None:
        while (mailbox := self._mailbox) is not None and not self._is_over:
            answers, self._answers = self._answers, []
            for name, request in await asyncio.to_thread(_exchange, mailbox, answers):
                if (answer := self._obey(name, request)) is not None:
                    self._answers.append((name, answer))
            if not self._answers and not self._is_over:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), _PERIOD)
                self._news.clear()

    def status(self) -> str | None:
        """What a person is shown while the search is paused."""
        return f"paused; `dhpo unpause {self._directory}` lets it go on" if self.paused else None

    # For the loop.

    def cancellations(self, study: Study, time: float) -> list[TrialCancelled]:
        """The events that end the trials that a person wants to end."""
        asked, self._to_cancel = self._to_cancel, []
        events = study.cancel((trial for trial, _ in asked), time)
        found = {event.trial for event in events}
        for trial, name in asked:
            if trial in found:
                self._waiting.setdefault(trial, []).append(name)
            elif 0 <= trial < len(study.trials):
                status = study.trials[trial].status.value
                self._tell(name, Answer(False, f"trial {trial} has ended already: it is {status}"))
            else:
                self._tell(name, Answer(False, f"there is no trial {trial}: there are {len(study.trials)} so far"))
        return events

    def __call__(self, events: Sequence[Event], study: Study) -> None:
        """Take in what is journalled."""
        if not self._waiting:
            return
        for event in events:
            if isinstance(event, TrialCancelled):
                for name in self._waiting.pop(event.trial, ()):
                    self._tell(name, Answer(True, f"trial {event.trial} is cancelled"))

    def _tell(self, name: str, answer: Answer) -> None:
        self._answers.append((name, answer))
        self._news.set()

    def _obey(self, name: str, request: Request | None) -> Answer | None:
        """Do what is asked for; None where the loop answers later."""
        mailbox = self._mailbox
        if request is None or mailbox is None or (request.action is Action.CANCEL and request.trial is None):
            return Answer(False, "the driver does not understand the request: is it of another version of dhpo?")
        match request.action:
            case Action.STOP:
                mailbox.stopped()
                self._drain()
                return Answer(True, "the trials leave at their next reports, and the run ends")
            case Action.STOP_NOW:
                mailbox.stopped()
                self._stop()
                return Answer(True, "the run ends now")
            case Action.PAUSE | Action.UNPAUSE:
                return self._pause(mailbox, request.action is Action.PAUSE)
            case Action.CANCEL:
                assert request.trial is not None
                self._to_cancel.append((request.trial, name))
                self._wake()
        return None

    def _pause(self, mailbox: Mailbox, wanted: bool) -> Answer:
        before, self.paused = self.paused, wanted
        mailbox.pause(wanted)
        self._wake()
        if wanted:
            return Answer(True, "no more trials start; those that run go on" if not before else "it is paused already")
        return Answer(True, "trials start again" if before else "it was not paused")


def _exchange(mailbox: Mailbox, answers: Sequence[tuple[str, Answer]]) -> list[tuple[str, Request | None]]:
    for name, answer in answers:
        mailbox.answer(name, answer)
    return mailbox.take()
