"""A program that runs a trial: started, read line by line, and ended with all that it has started."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from dhpo.errors import ReportError
from dhpo.worker import _warden

_GLANCE = 0.2  # seconds between looks at whether the trial is to end
_CHUNK = 65536
_MAX_LINE = 1_000_000  # characters; what is longer is no report
_TAIL = 2000  # characters of the standard error that a failure shows


class Program:
    """One program under a warden, which ends all that it has started; a context.

    Args:
        argv: the program and its arguments.
        directory: where it runs, and where its logs are.
        environment: its environment.
        grace: seconds between SIGTERM and SIGKILL.

    Raises:
        ReportError: there is no such program.
    """

    def __init__(self, argv: Sequence[str], directory: Path, environment: Mapping[str, str], grace: float) -> None:
        program = shutil.which(argv[0], path=environment.get("PATH"))
        if program is None:
            raise ReportError(
                f"the program {argv[0]!r} is not on this machine ({os.uname().nodename}), or is not executable"
            )
        self._name = argv[0]
        self._grace = grace
        self._answer: tuple[int, int] | None = None
        self._errors = directory / "stderr.log"
        self._log: IO[str] = (directory / "stdout.log").open("a", encoding="utf-8", errors="replace")
        self._control, control = socket.socketpair()
        command = [str(Path(program).absolute()), *argv[1:]]
        with self._errors.open("ab") as errors, open(os.devnull, "rb") as nothing:
            self._since = errors.tell()
            self._warden = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(Path(_warden.__file__))),
                    *(str(control.fileno()), str(nothing.fileno()), *command),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=directory,
                env=dict(environment),
                pass_fds=(control.fileno(), nothing.fileno()),
                start_new_session=True,  # out of reach of what a terminal sends to the processes in its foreground
            )
        control.close()

    def lines(self, check: Callable[[], None]) -> Iterator[str]:
        """Each line that it writes, until it ends.

        Args:
            check: called several times a second; raises where the trial is to end.
        """
        assert self._warden.stdout is not None
        descriptor, rest = self._warden.stdout.fileno(), b""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while True:
            check()
            if not poll.poll(_GLANCE * 1000):
                continue
            chunk = os.read(descriptor, _CHUNK)
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in whole)
            if not chunk or len(rest) > _MAX_LINE:
                if rest:
                    yield rest.decode("utf-8", "replace")
                rest = b""
            if not chunk:
                return

    def log(self, line: str) -> None:
        """Keep a line that is no report."""
        self._log.write(f"{line}\n")
        self._log.flush()

    def check_code(self) -> None:
        """Wait for its end.

        Raises:
            ReportError: it failed; with the last that it wrote to its standard error.
        """
        status, _ = self._answer or self._join()
        if status:
            code = os.waitstatus_to_exitcode(status)
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            raise ReportError(f"{Path(self._name).name} {how}: {self._last_errors()}".rstrip(": "))

    def _last_errors(self) -> str:
        with self._errors.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._since, size - _TAIL))
            return file.read().decode("utf-8", "replace").strip()

    def end(self) -> None:
        """Have it end: SIGTERM, and SIGKILL when the grace is over."""
        if self._answer is not None:
            return
        with suppress(OSError):
            self._control.send(b"t")
        until = time.monotonic() + self._grace
        assert self._warden.stdout is not None
        descriptor = self._warden.stdout.fileno()
        while (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select([self._control.fileno(), descriptor], [], [], left)
            if self._control.fileno() in ready:
                break
            if descriptor in ready and not os.read(
                descriptor, _CHUNK
            ):  # it must be able to write on, to come to its end
                select.select([self._control], [], [], max(0.0, until - time.monotonic()))
                break
        with suppress(OSError):
            self._control.send(b"k")
        self._join()

    def _join(self) -> tuple[int, int]:
        answer = b""
        with suppress(OSError):
            answer = self._control.recv(_warden.ANSWER.size, socket.MSG_WAITALL)
        self._warden.wait()
        complete = len(answer) == _warden.ANSWER.size
        self._answer = _warden.ANSWER.unpack(answer) if complete else (9, 0)
        return self._answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if self._warden.stdout is not None:
            self._warden.stdout.close()
        self._control.close()
        self._log.close()
