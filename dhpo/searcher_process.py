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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import BinaryIO

import cloudpickle

from dhpo.errors import DhpoError
from dhpo.searchers.base import BoundSearcher
from dhpo.trial import Observation, Phase, Proposal

#: A turn gives its proposals by so many: the first of a large one can be used while the others are made.
PART = 16

#: The driver ends it. What a terminal or a batch system tells all processes is for the driver, which ends cleanly.
_COMMAND = """\
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda *_: None)
from dhpo.searcher_process import serve
serve()
"""
_READY = b"ready"
#: One thread is enough for the model, and leaves the other processors to the trials.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class SearcherProcess:
    """The driver's end: takes turns with a copy of a searcher that lives in a child process.

    Args:
        imports: the modules that the searcher's turns take time to import, beside those that are imported here.
    """

    def __init__(self, imports: Sequence[str] = ()) -> None:
        self._start: bytes | None = None
        self._started = False
        self._ready = False
        path = os.pathsep.join(place or os.getcwd() for place in sys.path)
        environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": path}
        self._child = subprocess.Popen(
            # Without -P, modules in the working directory would come before those that are imported here.
            [sys.executable, "-P", "-c", _COMMAND, *imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )

    @property
    def ready(self) -> bool:
        """Whether the child is up; a turn that is asked for before waits for it."""
        assert self._child.stdout is not None
        self._ready = self._ready or bool(select.select([self._child.stdout], [], [], 0)[0])
        return self._ready

    def give(self, searcher: BoundSearcher) -> None:
        """Give it the searcher as it is now, before the first turn; what it observes later is up to the caller."""
        self._start = cloudpickle.dumps(searcher)

    def turn(self, observations: Sequence[Observation], numbers: range) -> Iterator[list[Proposal]]:
        """Tell the searcher what happened and ask it for proposals; what it raises is raised here.

        They come in parts of at most ``PART``, as soon as they are made. The searcher is told that they are pending.
        """
        assert self._child.stdout is not None
        with self._talking():
            self._send((list(observations), numbers))
        while numbers:
            with self._talking():
                proposals, error = pickle.load(self._child.stdout)
            if error is not None:
                raise error
            wanted, numbers = numbers[:PART], numbers[PART:]
            yield list(proposals)
            if len(proposals) < len(wanted):
                return

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """What fails while the child is talked to is the child's end."""
        try:
            yield
        except (OSError, EOFError, pickle.UnpicklingError) as failure:
            code = self._child.poll()
            raise DhpoError(f"the searcher's process ended (exit code {code}): see its message above") from failure

    def _send(self, what: tuple[list[Observation], range]) -> None:
        """Ask for a turn, the first time with the searcher before it."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        if not self._started:
            assert self._start is not None, "the searcher was not given"
            self._child.stdout.read(len(_READY))
            self._ready = self._started = True
            self._child.stdin.write(self._start)
            self._start = None
        pickle.dump(what, self._child.stdin)
        self._child.stdin.flush()

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
            for answer in _turn(searcher, observations, numbers):
                pickle.dump(answer, target)
                target.flush()


def _turn(
    searcher: BoundSearcher, observations: Sequence[Observation], numbers: range
) -> Iterator[tuple[list[Proposal], Exception | None]]:
    """Take a turn in parts; what the searcher raises ends it."""
    try:
        searcher.observe(observations)
        while numbers:
            part, numbers = numbers[:PART], numbers[PART:]
            made = searcher.propose(part)
            searcher.observe([Observation(k, p.config, Phase.PENDING) for k, p in zip(part, made, strict=False)])
            yield made, None
            if len(made) < len(part):
                return
    except Exception as error:
        yield [], error
