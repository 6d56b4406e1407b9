"""A searcher in a process of its own, so that fitting a model never holds up the driver's interpreter.

The driver's process often hosts the Dask scheduler: a thread that is busy in Python there makes every decision at a
rung wait ten times as long. The child is a plain interpreter that reads pickles from its standard input, not a child
of ``multiprocessing``, because that would import the user's script a second time.
"""

from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, BinaryIO

import cloudpickle

from dhpo.errors import DhpoError
from dhpo.searchers.base import BoundSearcher
from dhpo.trial import Observation, Proposal

#: The driver ends it. What a terminal or a batch system tells all processes is for the driver, which ends cleanly.
_COMMAND = """\
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda *_: None)
from dhpo.searcher_process import serve
serve()
"""
_READY = b"ready"
#: What models are made of; the child imports beforehand what the driver has needed.
_SLOW_IMPORTS = ("scipy.linalg", "scipy.optimize", "scipy.special", "sklearn.ensemble")
#: One thread is enough for the model, and leaves the other processors to the trials.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class SearcherProcess:
    """The driver's end: takes turns with a copy of a searcher that lives in a child process.

    Args:
        searcher: the searcher as it is now; what it observes later is up to the caller.
    """

    def __init__(self, searcher: BoundSearcher) -> None:
        self._start: bytes | None = cloudpickle.dumps(searcher)
        self._ready = False
        environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        used = [name for name in _SLOW_IMPORTS if name in sys.modules]
        self._child = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *used], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )

    @property
    def ready(self) -> bool:
        """Whether the child is up; a turn that is asked for before waits for it."""
        assert self._child.stdout is not None
        self._ready = self._ready or bool(select.select([self._child.stdout], [], [], 0)[0])
        return self._ready

    def turn(self, observations: Sequence[Observation], numbers: range) -> list[Proposal]:
        """Tell the searcher what happened and ask it for proposals; what it raises is raised here."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            if self._start is not None:
                self._child.stdout.read(len(_READY))
                self._ready = True
                self._child.stdin.write(self._start)
                self._start = None
            pickle.dump((list(observations), numbers), self._child.stdin)
            self._child.stdin.flush()
            proposals, error = pickle.load(self._child.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as failure:
            code = self._child.poll()
            raise DhpoError(f"the searcher's process ended (exit code {code}): see its message above") from failure
        if error is not None:
            raise error
        return list(proposals)

    def close(self) -> None:
        """End the child, whatever it computes."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(OSError):  # a turn that nobody waits for was still being written
                    pipe.close()


def serve() -> None:
    """The child's end: import what proposing takes, say so, and serve turns until the driver goes away."""
    for name in sys.argv[1:]:
        import_module(name)
    source: BinaryIO = sys.stdin.buffer
    target: BinaryIO = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not get between the pickles
    target.write(_READY)
    target.flush()
    with suppress(EOFError, BrokenPipeError):
        searcher: BoundSearcher = pickle.load(source)
        while True:
            observations, numbers = pickle.load(source)
            answer: tuple[Any, BaseException | None]
            try:
                searcher.observe(observations)
                answer = (searcher.propose(numbers), None)
            except Exception as error:
                answer = (None, error)
            pickle.dump(answer, target)
            target.flush()
