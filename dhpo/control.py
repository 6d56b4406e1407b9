"""Requests to a running search through its directory: small JSON files, for whoever may write there.

``DIR/control`` (its owner's alone) holds ``driver.json`` while a driver is at work, ``paused`` while the search is
paused, ``stopped`` once a person has ended a run, until the next one, and for a moment ``<id>.request`` and
``<id>.answer``.
Every file appears at once as a whole, and the driver reads only those of its own user.
"""

from __future__ import annotations

import json
import os
import stat
import time
import uuid
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from dhpo.errors import DhpoError

#: The folder within a search's directory.
FOLDER = "control"
_DRIVER, _PAUSED, _STOPPED = "driver.json", "paused", "stopped"
_REQUEST, _ANSWER = ".request", ".answer"
_MOST = 4096  # bytes of a request or an answer
#: Seconds between two looks for the answer, at first and at most.
_GLANCE = (0.02, 0.5)


class Action(StrEnum):
    """What a running search can be asked for."""

    STOP = "stop"  # have the trials leave at their next reports, and end
    STOP_NOW = "stop-now"
    CANCEL = "cancel"  # end one trial
    PAUSE = "pause"  # start no more trials
    UNPAUSE = "unpause"


class Request(NamedTuple):
    """What a person asks for."""

    action: Action
    trial: int | None = None  # to be cancelled


class Answer(NamedTuple):
    """What came of a request."""

    done: bool
    text: str  # for a person


class DriverPlace(NamedTuple):
    """Where a driver is at work."""

    host: str
    pid: int


def driver_of(directory: Path) -> DriverPlace | None:
    """The driver that takes requests there, or was killed while it did; None where there is none."""
    try:
        content = _read(directory / FOLDER / _DRIVER)
        return DriverPlace(str(content["host"]), int(content["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_paused(directory: Path) -> bool:
    """Whether a person has paused the search."""
    return (directory / FOLDER / _PAUSED).exists()


def was_stopped(directory: Path) -> bool:
    """Whether a person ended the last run of the search."""
    return (directory / FOLDER / _STOPPED).exists()


def unpause(directory: Path) -> bool:
    """Let a search that no driver runs go on when it is next run; return whether it was paused."""
    try:
        os.unlink(directory / FOLDER / _PAUSED)
    except FileNotFoundError:
        return False
    return True


def send(directory: Path, request: Request, timeout: float) -> Answer:
    """Ask the driver for something, and wait for its answer.

    Args:
        directory: of the search.
        request: what is asked for.
        timeout: seconds to wait.

    Raises:
        DhpoError: no driver has answered.
        OSError: nothing can be written there.
    """
    folder = directory / FOLDER
    name = uuid.uuid4().hex
    asked, answered = folder / f"{name}{_REQUEST}", folder / f"{name}{_ANSWER}"
    _write(asked, {"action": request.action.value, "trial": request.trial})
    end = time.monotonic() + timeout
    pause, longest = _GLANCE
    try:
        while True:
            with suppress(FileNotFoundError):
                content = _read(answered)
                return Answer(bool(content["done"]), str(content["text"]))
            if time.monotonic() >= end:
                raise DhpoError(_silence(directory, asked.exists(), timeout))
            time.sleep(pause)
            pause = min(1.5 * pause, longest)
    finally:
        for path in (asked, answered):
            path.unlink(missing_ok=True)


def _silence(directory: Path, unread: bool, timeout: float) -> str:
    place = driver_of(directory)
    where = "" if place is None else f" on {place.host} (process {place.pid})"
    if not unread:
        return f"the driver{where} has read the request, but not answered within {timeout:g} s: see `dhpo status`"
    return (
        f"no driver has answered within {timeout:g} s: the one{where} seems to be gone, and the request was withdrawn. "
        f"`dhpo status {directory}` tells how the search stands; a slow file system may need a longer --timeout"
    )


class Mailbox:
    """The driver's side of a search's requests. All methods but :meth:`open` bear with a file system that fails.

    Args:
        directory: of the search, whose journal this process holds.
    """

    def __init__(self, directory: Path) -> None:
        self.folder = directory / FOLDER

    def open(self) -> None:
        """Say that a driver is there. Requests to an earlier one are dropped.

        Raises:
            OSError: nothing can be written there.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        for name in os.listdir(self.folder):
            if name not in (_DRIVER, _PAUSED):
                self._remove(name)
        _write(self.folder / _DRIVER, {"host": os.uname().nodename, "pid": os.getpid()})

    def close(self) -> None:
        """Say that there is no driver any more. The folder goes, unless there is something to keep in mind."""
        self._remove(_DRIVER)
        with suppress(OSError):
            os.rmdir(self.folder)

    def take(self) -> list[tuple[str, Request | None]]:
        """The requests that have come, each with its name; None for one that cannot be understood."""
        try:
            names = [name for name in os.listdir(self.folder) if name.endswith(_REQUEST) and not name.startswith(".")]
        except OSError:
            return []
        found: list[tuple[str, Request | None]] = []
        for name in names:
            with suppress(OSError):
                request = _request(self.folder / name)
                os.unlink(self.folder / name)
                found.append((name.removesuffix(_REQUEST), request))
        return found

    def answer(self, name: str, answer: Answer) -> None:
        """Answer a request."""
        with suppress(OSError):
            _write(self.folder / f"{name}{_ANSWER}", answer._asdict())

    def pause(self, wanted: bool) -> None:
        """Keep in mind, beyond this run, whether the search is paused."""
        self._mark(_PAUSED, wanted)

    def stopped(self) -> None:
        """Keep in mind that a person has ended this run."""
        self._mark(_STOPPED, True)

    def _mark(self, name: str, wanted: bool) -> None:
        if not wanted:
            self._remove(name)
            return
        with suppress(OSError):
            _write(self.folder / name, {})

    def _remove(self, name: str) -> None:
        with suppress(OSError):
            os.unlink(self.folder / name)


def _request(path: Path) -> Request | None:
    """The request in a file; None where there is none that can be understood."""
    try:
        content = _read(path)
        trial = content.get("trial")
        if trial is not None and type(trial) is not int:
            return None
        return Request(Action(content["action"]), trial)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _read(path: Path) -> Any:
    """The JSON of a file. Nothing but a small, plain file of this user's is read.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_size > _MOST:
            raise ValueError(f"{path} is no small file of this user's")
        return json.loads(file.read(_MOST))


def _write(path: Path, content: dict[str, Any]) -> None:
    """Let a file appear at once as a whole."""
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
    os.replace(new, path)
