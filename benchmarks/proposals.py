"""What proposals of the model cost, by how many observations the model has to learn from.

    python benchmarks/proposals.py [--n 100 1000 5000 10000 100000] [--objectives 1 2] [--rates 20 200] [--seconds 10]
        [--peers optuna smac dehb] [--peer-n 100 1000]

A space of 7 mixed hyperparameters. The first table is of the searcher alone, in batches of which all trials end before
the next: CPU and wall seconds per proposal, all refits included, and what the refits are of it. The second is of a
search's driver, where trials end at a given rate in the mean and the searcher computes in its own process: CPU seconds
of the driver's thread per proposal; the longest that one call held up the event loop; how late the event loop was in
all, beside a loop that only starts trials; the share of one core that the searcher takes in the background, and what
refits take of it, by the first table; and the share of free slots that had to wait for a proposal. Peers are asked for
one proposal after another, and for 100 at once without a result in between. ``--json`` writes all figures to a file.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import _peers
import numpy as np
from _common import parser, table, verdict
from threadpoolctl import threadpool_limits

from dhpo import CBO, HpProblem
from dhpo.objectives import Objectives
from dhpo.proposer import Place, Proposer
from dhpo.searchers.base import BoundSearcher
from dhpo.trial import Observation, Phase, Proposal

BATCHES = (1, 10, 100)
PENDING = 16  # trials that run beside, in the first table
TRIAL = 1.0  # mean seconds of a trial in the second table
WARM_UP = 4.0  # seconds: the process starts, and the first fit is made


def space() -> HpProblem:
    """Seven hyperparameters of all kinds."""
    return HpProblem(
        {
            "lr": (1e-5, 1e-1, "log-uniform"),
            "dropout": (0.0, 0.9),
            "width": (16, 1024, "log-uniform"),
            "depth": (1, 12),
            "batch": [16, 32, 64, 128, 256],
            "activation": ["relu", "gelu", "tanh", "swish"],
            "optimizer": ["sgd", "adam"],
        }
    )


def costs(config: Any, objectives: int) -> tuple[float, ...]:
    """A loss with its best configuration inside the space; as the second objective, a cost of computing."""
    loss = (np.log10(config["lr"]) + 3) ** 2 + (config["dropout"] - 0.3) ** 2 + 0.1 * (config["depth"] - 6) ** 2
    loss += 0.2 * (np.log2(config["width"]) - 8) ** 2 + 0.5 * (config["activation"] != "gelu")
    return (float(loss), float(config["width"] * config["depth"] / config["batch"]))[:objectives]


def ended(number: int, config: Any, objectives: int) -> Observation:
    return Observation(number, config, Phase.ENDED, None, costs(config, objectives))


def searcher(n: int, objectives: int) -> BoundSearcher:
    """The default searcher, after ``n`` trials and with some more that run."""
    problem = space()
    bound = CBO().bind(problem, Objectives.parse({f"y{i}": "MIN" for i in range(objectives)}), seed=0, max_t=None)
    encoding = problem.encoding
    configs = encoding.decode(encoding.sample(n + PENDING, np.random.default_rng(0)))
    bound.observe([Observation(k, config, Phase.PENDING) for k, config in enumerate(configs)])
    bound.observe([ended(k, config, objectives) for k, config in enumerate(configs[:n])])
    return bound


@dataclass(frozen=True)
class Alone:
    """Seconds per proposal of a searcher that is asked again and again."""

    n: int
    objectives: int
    batch: int
    cpu: float
    wall: float
    longest: float  # seconds, the longest turn
    refits: float  # CPU seconds per proposal, of ``cpu``


class Refits:
    """CPU seconds that a searcher takes to fit its model anew: the kernels, the surrogates, and the candidates."""

    PARTS = ("_kernels_for", "_surrogates", "_pool", "_beliefs")

    def __init__(self, bound: Any) -> None:
        self.seconds = 0.0
        for name in self.PARTS:
            setattr(bound._fitter, name, self._timed(getattr(bound._fitter, name)))

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timing(*arguments: Any) -> Any:
            began = time.process_time()
            try:
                return call(*arguments)
            finally:
                self.seconds += time.process_time() - began

        return timing


def alone(n: int, objectives: int, batch: int, proposals: int) -> Alone:
    """Ask for batches, each after the results of the last one."""
    bound, first, longest = searcher(n, objectives), n + PENDING, 0.0
    with threadpool_limits(limits=1, user_api="blas"):
        bound.propose([first, first + 1])
        refits = Refits(bound)
        cpu, wall = time.process_time(), time.perf_counter()
        turns = max(2, proposals // batch)
        for _ in range(turns):
            began = time.perf_counter()
            numbers = range(first, first + batch)
            made = bound.propose(numbers)
            bound.observe([Observation(k, p.config, Phase.PENDING) for k, p in zip(numbers, made, strict=True)])
            bound.observe([ended(k, p.config, objectives) for k, p in zip(numbers, made, strict=True)])
            longest = max(longest, time.perf_counter() - began)
            first += batch
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Alone(
        n, objectives, batch, cpu / turns / batch, wall / turns / batch, longest, refits.seconds / turns / batch
    )


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Slots:
    """Trials on slots, which end at random times; each end and each wake-up is followed by a look for proposals."""

    def __init__(self, proposer: Proposer | None, n: int, objectives: int, rate: float) -> None:
        self.proposer = proposer
        self.objectives = objectives
        self.loop = asyncio.get_running_loop()
        self.rng = np.random.default_rng(1)
        self.slots = max(2, round(rate * TRIAL))
        self.free_since = [self.loop.time()] * self.slots
        self.number = n + PENDING
        self.reset()

    def reset(self) -> None:
        """Count from now on."""
        self.cpu = 0.0  # seconds, of the calls to the proposer
        self.calls = [0.0]  # seconds, of each call
        self.waits: list[float] = []  # seconds, of each slot that was free
        self.proposals = 0

    def timed(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A call to the proposer, with what it takes of the loop's thread."""
        cpu, wall = time.thread_time(), time.perf_counter()
        result = call(*args, **kwargs)
        self.cpu += time.thread_time() - cpu
        self.calls.append(time.perf_counter() - wall)
        return result

    def fill(self) -> None:
        """Start what is ready."""
        wanted = len(self.free_since)
        if not wanted:
            return
        if self.proposer is None:
            made = [Proposal({}, "none")] * wanted
        else:
            made = self.timed(self.proposer.next, wanted, self.number, running=self.slots - wanted)
        now = self.loop.time()
        for proposal in made:
            self.waits.append(now - self.free_since.pop(0))
            if self.proposer is not None:
                self.timed(self.proposer.observe, Observation(self.number, proposal.config, Phase.PENDING))
            self.loop.call_later(TRIAL * self.rng.uniform(0.5, 1.5), self.end, self.number, proposal)
            self.number += 1
        self.proposals += len(made)

    def end(self, number: int, proposal: Proposal) -> None:
        """A trial ends."""
        self.free_since.append(self.loop.time())
        if self.proposer is not None:
            self.timed(self.proposer.observe, ended(number, proposal.config, self.objectives))
        self.fill()


async def lateness(seconds: float) -> np.ndarray[Any, Any]:
    """How much later than they should timers fire, in seconds."""
    late, loop = [], asyncio.get_running_loop()
    end = loop.time() + seconds
    while (now := loop.time()) < end:
        await asyncio.sleep(0.001)
        late.append(loop.time() - now - 0.001)
    return np.array(late)


@dataclass(frozen=True)
class Driven:
    """Figures of a driver whose trials end at a rate."""

    n: int
    objectives: int
    rate: float
    got: float  # proposals per second
    driver: float  # CPU seconds of the loop's thread per proposal
    longest_call: float  # seconds
    late: tuple[float, float, float]  # seconds: p50, p99, most
    late_idle: tuple[float, float, float]  # the same without a searcher
    background: float  # share of one core: the searcher's process, and its thread in the driver
    waited: float  # share of free slots that waited for more than a millisecond
    mean_wait: float  # seconds, over all


def quantiles(late: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    p50, p99 = np.percentile(late, [50, 99])
    return float(p50), float(p99), float(late.max())


async def driven(n: int, objectives: int, rate: float, seconds: float) -> Driven:
    """Run the slots for a while, without and with a searcher."""
    idle = Slots(None, n, objectives, rate)
    idle.fill()
    late_idle = quantiles(await lateness(min(seconds, 3.0)))
    idle.end = lambda number, proposal: None  # type: ignore[method-assign]
    await asyncio.sleep(0.2)
    loop = asyncio.get_running_loop()
    slots: Slots
    bound = searcher(n, objectives)
    proposer = Proposer(bound, lambda: loop.call_soon_threadsafe(slots.fill), Place.PROCESS, told=n)
    try:
        slots = Slots(proposer, n, objectives, rate)
        slots.fill()
        await asyncio.sleep(WARM_UP)
        slots.reset()
        child = proposer._process._child.pid if proposer._process is not None else None
        before = (time.process_time() - time.thread_time(), cpu_of(child) if child else 0.0)
        late = quantiles(await lateness(seconds))
        now = proposer._process._child.pid if proposer._process is not None else None
        after = (time.process_time() - time.thread_time(), cpu_of(now) if now else 0.0)
        background = sum(after) - sum(before)
        done, waits = slots.proposals, [*slots.waits]
        waits += [loop.time() - since for since in slots.free_since]
        return Driven(
            n, objectives, rate, done / seconds, slots.cpu / max(1, done), max(slots.calls), late, late_idle,
            background / seconds, sum(w > 1e-3 for w in waits) / max(1, len(waits)), float(np.mean(waits or [0.0])),
        )  # fmt: skip
    finally:
        slots.proposer = None
        slots.free_since = []
        slots.fill = lambda: None  # type: ignore[method-assign]
        proposer.close()


def ms(*seconds: float) -> str:
    return " / ".join(f"{1e3 * s:.2f}" for s in seconds)


def show_alone(found: list[Alone], objectives: int) -> None:
    rows = []
    for n in sorted({f.n for f in found}):
        by = {f.batch: f for f in found if f.n == n}
        hundred = 100 * by[100].wall
        longest = [ms(by[b].longest) for b in BATCHES]
        rows.append((f"{n:,}", *(f"{ms(by[b].cpu)} ({ms(by[b].wall)})" for b in BATCHES), ms(by[1].refits), *longest,
                     f"{hundred:.3f}", verdict(hundred, most=0.1)))  # fmt: skip
    header = ("n", *(f"batches of {b}: CPU (wall) ms each" for b in BATCHES), "refits of it",
              *(f"longest of {b}, ms" for b in BATCHES),
              "100 at once, s", "<= 0.1")  # fmt: skip
    table(f"The searcher alone, {objectives} objective(s)", header, rows)


def show_driven(found: list[Driven], objectives: int, refits: Mapping[int, float]) -> None:
    """``refits``: CPU seconds per proposal, by the number of observations."""
    shares = [refits[f.n] * f.got if f.n in refits else None for f in found]
    rows = [
        (
            f"{f.n:,}", f"{f.rate:g}", f"{f.got:.1f}", ms(f.driver), verdict(f.driver, most=0.002),
            ms(f.longest_call), verdict(f.longest_call, most=0.005), ms(*f.late), ms(*f.late_idle),
            f"{100 * f.background:.1f} %", *(("", "") if share is None else
            (f"{100 * share:.1f} %", verdict(share, most=0.1))), f"{100 * f.waited:.1f} %", ms(f.mean_wait),
        )
        for f, share in zip(found, shares, strict=True)
    ]  # fmt: skip
    header = ("n", "trials/s", "proposals/s", "driver, ms each", "<= 2", "longest call, ms", "<= 5",
              "loop late p50 / p99 / max, ms", "idle", "background", "refits of it", "<= 10 %",
              "waited", "mean wait, ms")  # fmt: skip
    table(f"A driver and its searcher's process, {objectives} objective(s)", header, rows)


def show_peers(peers: Sequence[str], sizes: Sequence[int], proposals: int) -> None:
    """What the peers take in the same space."""
    rows = []
    for n in sizes:
        for name, found in _peers.each(peers, "proposals", n, proposals):
            rows.append((f"{n:,}", name, f"{1e3 * found['each']:.1f}", f"{found['hundred']:.2f}"))
    table("Peers, 1 objective", ("n", "peer", "wall ms each", "100 at once, s"), rows)


def main() -> None:
    arguments = parser(__doc__, repeats=None)
    arguments.add_argument("--n", type=int, nargs="+", default=[100, 1_000, 5_000, 10_000, 100_000])
    arguments.add_argument("--objectives", type=int, nargs="+", choices=(1, 2), default=[1, 2])
    arguments.add_argument("--rates", type=float, nargs="*", default=[20.0, 200.0], help="trials per second")
    arguments.add_argument("--seconds", type=float, default=10.0, help="for which each rate is held")
    arguments.add_argument("--proposals", type=int, default=200, help="of the searcher alone, for each size of batches")
    arguments.add_argument("--json", type=Path, help="a file for all figures")
    arguments.add_argument("--peer-n", type=int, nargs="+", default=[100, 1_000], help="past observations of the peers")
    arguments.add_argument("--peer-proposals", type=int, default=5, help="of each peer, one by one")
    _peers.add_option(arguments, "proposals")
    args = arguments.parse_args()
    figures: dict[str, list[dict[str, Any]]] = {"alone": [], "driven": []}
    for objectives in args.objectives:
        singles: list[Alone] = []
        if args.proposals:
            singles = [alone(n, objectives, batch, args.proposals) for n in args.n for batch in BATCHES]
            show_alone(singles, objectives)
            figures["alone"] += map(asdict, singles)
        if args.rates:
            runs = [asyncio.run(driven(n, objectives, r, args.seconds)) for n in args.n for r in args.rates]
            show_driven(runs, objectives, {f.n: f.refits for f in singles if f.batch == 1})
            figures["driven"] += map(asdict, runs)
    if args.peers:
        show_peers(args.peers, args.peer_n, args.peer_proposals)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
