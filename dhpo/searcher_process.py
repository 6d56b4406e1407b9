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

_COMMAND = "from dhpo.searcher_process import serve; serve()"
_READY = b"ready"
#: One thread is enough for the model, and leaves the other processors to the trials.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class SearcherProcess:
    """The driver's end: takes turns with a searcher that lives in a child process."""

    def __init__(self) -> None:
        environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._child = subprocess.Popen(
            [sys.executable, "-c", _COMMAND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._start: bytes | None = None
        self._ready = False

    def takes_over(self, searcher: BoundSearcher) -> bool:
        """Whether the child has the searcher, or, being ready now, gets it with the next turn."""
        assert self._child.stdout is not None
        if not self._ready and select.select([self._child.stdout], [], [], 0)[0]:
            self._ready = True
            self._start = cloudpickle.dumps(searcher)
        return self._ready

    def turn(self, observations: Sequence[Observation], numbers: range) -> list[Proposal]:
        """Tell the searcher what happened and ask it for proposals; what it raises is raised here."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            if self._start is not None:
                self._child.stdout.read(len(_READY))
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
    """The child's end: import what fitting takes, say so, and serve turns until the driver goes away."""
    import_module("sklearn.ensemble")
    source: BinaryIO = sys.stdin.buffer
    target: BinaryIO = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print must not get between the pickles
    target.write(_READY)
    target.flush()
    searcher: BoundSearcher = pickle.load(source)
    while True:
        try:
            observations, numbers = pickle.load(source)
        except EOFError:
            return
        answer: tuple[Any, BaseException | None]
        try:
            if observations:
                searcher.observe(observations)
            answer = (searcher.propose(numbers), None)
        except Exception as error:
            answer = (None, error)
        pickle.dump(answer, target)
        target.flush()
