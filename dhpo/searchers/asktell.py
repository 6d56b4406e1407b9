"""Any object that can be asked and told, as a searcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dhpo.errors import SettingError
from dhpo.objectives import Objectives
from dhpo.searchers.acquisition import Array
from dhpo.searchers.base import proposal_rng
from dhpo.searchers.random import Known, proposals
from dhpo.space import HpProblem
from dhpo.trial import Configuration, Observation, Phase, Proposal

#: How many configurations in a row may be known already before one is drawn at random instead.
_STALL = 100


@dataclass(frozen=True)
class AskTell:
    """Propose what another optimiser asks for.

    The optimiser is any object with two methods:

    * ``ask()`` returns a configuration, a mapping with exactly the active hyperparameters; or a pair ``(id,
      configuration)``; or None when it has nothing more to propose. It is called several times in a row where several
      workers are free.
    * ``tell(what, costs)`` takes in a result. ``what`` is the id where ``ask`` gave one, else the configuration.
      ``costs`` is a number for one objective and a tuple for several, to be minimised whatever their direction is.

    A trial is told when it ends; one that was paused is told then, and again when it has gone on. A failed one is told
    the worst costs seen so far. What is proposed although it is known already is told what is known of it at once, and
    not run again; after a hundred of them in a row a configuration is drawn at random. Configurations that the
    optimiser did not propose (an earlier run's, or random ones) are told by themselves, or not at all if it gives ids.

    A resumed search makes the optimiser anew, and asks and tells it as before; so one that is deterministic goes on
    as if nothing had happened.

    Args:
        factory: makes the optimiser, ``factory(problem, seed)``. It is also called to check a search, without more.
        cheap: whether ``ask`` takes no time to speak of. Otherwise it is called beside the search's loop, in another
            thread or process (the optimiser must then be picklable), and a resumed search may ask in another order.

    Raises:
        SettingError: the factory cannot be called.
    """

    factory: Callable[[HpProblem, int], Any]
    cheap: bool = True

    def __post_init__(self) -> None:
        if not callable(self.factory):
            raise SettingError(f"factory={self.factory!r}: give a callable, factory(problem, seed)")

    def bind(self, problem: HpProblem, objectives: Objectives, *, seed: int, max_t: float | None) -> AskTellState:
        """Make the optimiser for one search.

        Raises:
            SettingError: what the factory makes cannot be asked and told.
        """
        optimiser = self.factory(problem, seed)
        for name in ("ask", "tell"):
            if not callable(getattr(optimiser, name, None)):
                raise SettingError(
                    f"AskTell: {type(optimiser).__name__} has no method {name}(): see AskTell's docstring"
                )
        return AskTellState(problem, optimiser, seed, cheap=self.cheap)

    def settings(self) -> dict[str, Any]:
        """The JSON form."""
        name = getattr(self.factory, "__qualname__", type(self.factory).__qualname__)
        return {"searcher": "AskTell", "factory": name, "cheap": self.cheap}


class _Asked(NamedTuple):
    """A configuration that the optimiser has proposed."""

    handle: Any  # by which it is told
    key: bytes
    row: Array


class AskTellState:
    """An optimiser within one search, and what it has proposed that was not used yet."""

    def __init__(self, problem: HpProblem, optimiser: Any, seed: int, *, cheap: bool) -> None:
        self.cheap = cheap
        self._problem = problem
        self._known = Known(problem)
        self._optimiser = optimiser
        self._seed = seed
        self._waiting: list[_Asked] = []
        self._handles: dict[int, Any] = {}  # by trial
        self._costs: dict[bytes, tuple[float, ...]] = {}  # what was told of each configuration last
        self._worst: tuple[float, ...] | None = None
        self._failed: list[int] = []  # not told yet, as nothing was seen to tell
        self._gives_ids = False
        self._exhausted = False
        self._n_observed = 0

    def observe(self, observations: Sequence[Observation]) -> None:
        """Tell the optimiser what happened, asking it first for what it proposed."""
        for o in observations:
            if o.phase is Phase.PENDING:
                self._used(o)
            else:
                self._n_observed += 1
                if o.phase is Phase.FAILED:
                    self._failed.append(o.trial)
                elif o.phase is Phase.ENDED and o.costs is not None:
                    self._worst = o.costs if self._worst is None else tuple(map(max, self._worst, o.costs))
                    self._costs[self._key(o.config)] = o.costs
                    self._tell(o.trial, o.costs)
                self._tell_failed()

    def _used(self, o: Observation) -> None:
        """Find the proposal that has become this trial: the next one, which a resumed search has yet to ask for."""
        if o.trial in self._handles:  # it was paused, and goes on
            return
        key = self._key(o.config)
        if not self._waiting:
            self._fill(1, set())
        found = next((asked for asked in self._waiting if asked.key == key), None)
        if found is not None:
            self._waiting.remove(found)
        foreign = None if self._gives_ids else Configuration(o.config)
        self._handles[o.trial] = foreign if found is None else found.handle
        self._known.add([o])

    def _tell(self, trial: int, costs: tuple[float, ...]) -> None:
        handle = self._handles.get(trial)
        if handle is not None:
            self._optimiser.tell(handle, costs[0] if len(costs) == 1 else costs)

    def _tell_failed(self) -> None:
        if self._worst is not None:
            for trial in self._failed:
                self._tell(trial, self._worst)
            self._failed.clear()

    def propose(self, numbers: Sequence[int]) -> list[Proposal]:
        """Propose a configuration for each number; fewer when the optimiser, or the space, has no more."""
        self._waiting = [asked for asked in self._waiting if asked.key not in self._known.keys]
        taken: set[bytes] = set()
        self._fill(len(numbers), taken)
        rows = [("model", asked.row) for asked in self._waiting[: len(numbers)]]
        taken.update(asked.key for asked in self._waiting)
        for number in numbers[len(rows) :]:
            row = None if self._exhausted else self._known.draw(proposal_rng(self._seed, number), taken)
            if row is None:
                break
            rows.append(("random", row))
        return proposals(self._known, rows, self._n_observed)

    def _fill(self, n: int, taken: set[bytes]) -> None:
        """Ask until ``n`` new configurations wait, the optimiser has no more, or it only repeats itself."""
        taken.update(asked.key for asked in self._waiting)
        repeated = 0
        while len(self._waiting) < n and repeated < _STALL and not self._exhausted:
            asked = self._ask()
            if asked is None:
                self._exhausted = True
            elif asked.key in taken or asked.key in self._known.keys:
                repeated += 1
                if (costs := self._costs.get(asked.key)) is not None:
                    self._optimiser.tell(asked.handle, costs[0] if len(costs) == 1 else costs)
            else:
                repeated = 0
                taken.add(asked.key)
                self._waiting.append(asked)

    def _ask(self) -> _Asked | None:
        answer = self._optimiser.ask()
        if answer is None:
            return None
        self._gives_ids = isinstance(answer, tuple)
        handle, config = answer if isinstance(answer, tuple) else (answer, answer)
        self._problem.check_configuration(config)
        row = self._known.encoding.encode([config])
        return _Asked(handle, self._known.encoding.keys(row)[0], row[0])

    def _key(self, config: Mapping[str, Any]) -> bytes:
        return self._known.encoding.keys(self._known.encoding.encode([config]), snapped=True)[0]
