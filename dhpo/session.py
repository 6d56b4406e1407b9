"""One driver's hold on a search: its journal opened (and replayed), its study and searcher as of the last event."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
import warnings
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from dhpo._collector import collector_at_rest
from dhpo._replay import replay
from dhpo._version import __version__
from dhpo.errors import ResumeError
from dhpo.events import Conclude, Event, GiveUp, Observe, SessionOpened
from dhpo.journal import FileJournal, Header, Journal, MemoryJournal
from dhpo.known import KnownResult, admit_known
from dhpo.objectives import Objectives
from dhpo.searchers.base import BoundSearcher, Foresees, Searcher
from dhpo.searchers.continued import told_otherwise
from dhpo.space import HpProblem
from dhpo.stopping.base import FirstJudged, Stopper
from dhpo.study import Study, follow_up

_MOST_SHOWN = 10  # differences between settings
#: The settings that must not change when a search is resumed, with what a person calls them.
_FIXED = {"problem": "search space", "objectives": "objectives", "stopper": "stopper"}


@dataclass(frozen=True, slots=True)
class Setup:
    """What defines a search, apart from its run function and where it runs.

    Args:
        problem: the search space.
        objectives: what is optimised.
        stopper: what stops weak trials.
        searcher: what proposes configurations.
        seed: seeds everything that is random; None takes one from the system, or the journal's when resumed.
        max_t: the largest resource, as far as the space tells it.
    """

    problem: HpProblem
    objectives: Objectives
    stopper: Stopper
    searcher: Searcher
    seed: int | None
    max_t: float | None

    def settings(self, seed: int) -> dict[str, Any]:
        """The JSON form, for the journal's header."""
        return {
            "problem": self.problem.to_json(),
            "objectives": self.objectives.as_dict(),
            "stopper": self.stopper.settings(),
            "searcher": self.searcher.settings(),
            "time_attr": self.stopper.time_attr,
            "seed": seed,
            "dhpo": __version__,
        }


class Session:
    """A search's journal, study and searcher, in step with each other.

    Args:
        setup: what defines the search.
        directory: where its journal is, or will be; None keeps it in memory.
        journal: the journal in memory of an earlier session, to go on with.

    Raises:
        ResumeError: the directory's journal belongs to a search with another space, objectives, stopper or seed.
        JournalError: the journal cannot be used.
    """

    def __init__(self, setup: Setup, directory: Path | None, journal: Journal | None = None) -> None:
        self.setup = setup

        def header() -> Header:
            # Journals keep 64-bit integers; a seed of 32 bits is also one for every library.
            seed = setup.seed if setup.seed is not None else int.from_bytes(os.urandom(4), "big")
            return Header(uuid.uuid4().hex, time.time(), setup.settings(seed))

        if journal is None:
            journal = MemoryJournal(header()) if directory is None else FileJournal.open(directory, header)
        self.journal = journal
        weakref.finalize(self, journal.close)  # a search that is forgotten holds no lock
        try:
            self._check(self.journal.header.settings, directory)
            self.seed = int(self.journal.header.settings["seed"])
            n_objectives = len(setup.objectives)
            stopper = setup.stopper.bind(n_objectives, max_t=setup.max_t, seed=self.seed)
            self.study = Study(setup.objectives, stopper, self.seed)
            self.searcher: BoundSearcher = setup.searcher.bind(
                setup.problem, setup.objectives, seed=self.seed, max_t=stopper.max_t
            )
            if isinstance(self.searcher, Foresees):
                unused = setup.stopper.bind(n_objectives, max_t=setup.max_t, seed=self.seed)  # small to send on
                self.searcher.foresee(FirstJudged(unused, self.seed))
            with collector_at_rest():
                self._replay()
        except BaseException:
            self.journal.close()
            raise

    def _check(self, found: Mapping[str, Any], directory: Path | None) -> None:
        wanted = self.setup.settings(int(found["seed"]))
        for key, name in _FIXED.items():
            if lines := _differences(_plain(found.get(key)), _plain(wanted[key])):
                shown = "\n".join(lines[:_MOST_SHOWN] + ["  …"] * (len(lines) > _MOST_SHOWN))
                raise ResumeError(
                    f"{directory} holds a search with another {name}:\n{shown}\n"
                    "Give another log_dir for a new search, or the same settings to go on with this one."
                )
        if self.setup.seed is not None and self.setup.seed != found["seed"]:
            raise ResumeError(
                f"{directory} holds a search with random_state={found['seed']}, not {self.setup.seed}: "
                "leave it out to go on"
            )
        if difference := told_otherwise(found.get("searcher") or {}, wanted["searcher"]):
            warnings.warn(
                f"{directory} holds a search whose searcher was told something else: {difference}. It goes on, but its "
                "proposals are not what they would have been: tell it (by fit_surrogate) the same as then",
                UserWarning,
                stacklevel=5,  # where the user began: run(), ask(), …
            )

    def _replay(self) -> None:
        observations = list(chain.from_iterable(replay(self.study, self.journal.blocks())))
        if observations:
            self.searcher.observe(observations)

    def opened(self, now: float) -> SessionOpened:
        """The event with which this driver goes on."""
        return SessionOpened(round(now, 6), time.time() - now, os.uname().nodename, os.getpid(), __version__)

    async def append(self, events: Sequence[Event]) -> None:
        """Make events durable, without holding up the event loop while the disk works."""
        if isinstance(self.journal, MemoryJournal):
            self.journal.append(events)
        else:
            await asyncio.to_thread(self.journal.append, events)

    def commit(self, events: Iterable[Event]) -> list[Any]:
        """Journal and apply events without a loop, for searches driven by hand; return the commands."""
        events = list(events)
        commands: list[Any] = []
        while events:
            self.journal.append(events)
            fresh = [command for event in events for command in self.study.apply(event)]
            time = events[-1].time
            events = [follow_up(command, time) for command in fresh if isinstance(command, GiveUp | Conclude)]
            commands += fresh
        self.searcher.observe([c.observation for c in commands if isinstance(c, Observe)])
        return commands

    def add(self, results: Sequence[KnownResult], now: float | None = None) -> list[int]:
        """Make known results trials, all of them or none; return the number of each one's trial, be it new or not."""
        time = self.study.time if now is None else now
        events, numbers = admit_known(self.study, self.setup.problem, results, time)
        if events:
            self.commit(events)
        return numbers

    def close(self) -> None:
        """Let go of the journal."""
        self.journal.close()

    def withdraw(self) -> None:
        """Let go of the journal, and undo it where this session began it."""
        if isinstance(self.journal, FileJournal):
            self.journal.withdraw()


def _differences(there: Any, here: Any, path: str = "") -> list[str]:
    """What differs between plain settings, a line for each value; members of lists are known by their names."""
    if there == here:
        return []
    old, new = _members(there), _members(here)
    if old is not None and new is not None:
        lines = []
        for key in dict.fromkeys([*old, *new]):
            lines += _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        if lines:
            return lines
    return [f"  {path}: {there!r} there, {here!r} here"]


def _members(value: Any) -> dict[str, Any] | None:
    """The members of a mapping, or of a list in which each has a name; None where there are none."""
    if isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value):
        return {str(item["name"]): item for item in value}
    return value if isinstance(value, dict) else None


def _plain(value: Any) -> Any:
    """Settings as JSON would give them back."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
