"""Run functions that return and report whatever there is, on real workers: the search and its journal go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from harness import rows_of

from dhpo import Results, Search
from dhpo.searchers.random import RandomSearcher
from dhpo.trial import Status

MOST_TEXT = 2000


class Hostile:
    """Raises, and what is no error at that, whatever is asked of it."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise SystemExit("hostile")

    __repr__ = __str__ = __float__ = __int__ = __len__ = __iter__ = __eq__ = __hash__ = _refuse  # type: ignore[assignment]
    __bool__ = __reduce_ex__ = __getattr__ = __index__ = __array__ = tolist = _refuse  # type: ignore[assignment]


class HostileError(Exception):
    def __str__(self) -> str:
        raise SystemExit("hostile")


class HostileText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise KeyboardInterrupt


class HostileMapping(dict[str, Any]):
    def items(self) -> Any:
        raise SystemExit("hostile")


class HostileNumber(float):
    __slots__ = ()

    def __float__(self) -> float:
        raise MemoryError


class Deep:
    def tolist(self) -> Any:
        return Other()


class Other:
    def tolist(self) -> Any:
        return Deep()


def _loop() -> Any:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def _ring() -> Any:
    return type("Ring", (), {"tolist": lambda self: _loop()})()


def _raised(make: Callable[[], BaseException]) -> Any:
    raise make()


def _pandas(make: Callable[[Any], Any]) -> Any:
    import pandas as pd

    return make(pd)


def _numpy(make: Callable[[Any], Any]) -> Any:
    import numpy as np

    return make(np)


def _generator() -> Any:
    yield 3  # no mapping


#: What a run function does with nothing but ``report``: what it returns is its result.
BAD: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda report: None,
    "hostile": lambda report: Hostile(),
    "hostile in a mapping": lambda report: {"objective": 1.0, "extra": Hostile()},
    "hostile key": lambda report: {Hostile: 1.0},
    "hostile mapping": lambda report: HostileMapping(objective=1.0),
    "hostile text": lambda report: HostileText("F"),
    "hostile number": lambda report: HostileNumber(1.0),
    "hostile error": lambda report: _raised(HostileError),
    "hostile report": lambda report: report(objective=Hostile()),
    "hostile report argument": lambda report: report(Hostile()),
    "an endless list": lambda report: _loop(),
    "an endless array": lambda report: _ring(),
    "an endless conversion": lambda report: Deep(),
    "text": lambda report: "fine",
    "a hundred million characters": lambda report: "x" * 100_000_000,
    "a long failure": lambda report: "F" + "x" * 50_000,
    "a long error": lambda report: _raised(lambda: ValueError("x" * 10_000_000)),
    "long metadata": lambda report: {"objective": 1.0, "log": "x" * 100_000_000},
    "much metadata": lambda report: {"objective": 1.0, "log": ["x" * 90_000] * 100},
    "many names": lambda report: report({"objective": 1.0, **{f"m{i}": 0.0 for i in range(20_000)}}),
    "long names": lambda report: report({"objective": 1.0, "m" * 200_000: 0.0}),
    "a wide nest": lambda report: {"objective": 1.0, "nest": [[[0.0] * 1000] * 1000] * 1000},
    "complex": lambda report: 1j,
    "a huge integer": lambda report: 10**5000,
    "a tuple": lambda report: (1.0, (2.0, 3.0)),
    "not a number": lambda report: float("nan"),
    "infinity": lambda report: report(objective=float("-inf")),
    "bytes": lambda report: b"1.0",
    "an array": lambda report: _numpy(lambda np: np.arange(3.0)),
    "an array of objects": lambda report: _numpy(lambda np: np.array([object()])),
    "complex in numpy": lambda report: _numpy(lambda np: np.complex128(1)),
    "a date": lambda report: _numpy(lambda np: np.datetime64("2020-01-01")),
    "a frame": lambda report: _pandas(lambda pd: pd.DataFrame({"a": [1.0]})),
    "missing": lambda report: _pandas(lambda pd: pd.NA),
    "decimal": lambda report: __import__("decimal").Decimal("1.5"),
    "a fraction": lambda report: __import__("fractions").Fraction(1, 2),
    "a type": lambda report: float,
    "a function": lambda report: report,
    "a generator": lambda report: _generator(),
    "an end": lambda report: _raised(SystemExit),
    "an interrupt": lambda report: _raised(KeyboardInterrupt),
    "a cancellation": lambda report: _raised(__import__("asyncio").CancelledError),
    "recursion": lambda report: _raised(RecursionError),
    "many errors": lambda report: _raised(lambda: ExceptionGroup("many", [ValueError("\x1b[2J")] * 1000)),
    "a resource of text": lambda report: report(objective=1.0, epoch=Hostile()),
}
GOOD: dict[str, tuple[Callable[[Any], Any], float]] = {
    "true": (lambda report: True, 1.0),
    "single precision": (lambda report: _numpy(lambda np: np.float32(0.5)), 0.5),
    "an array of one": (lambda report: _numpy(lambda np: np.array([[2.0]])), 2.0),
    "a series of one": (lambda report: _pandas(lambda pd: pd.Series([3.0])), 3.0),
    "a long integer": (lambda report: 10**30, 1e30),
    "odd metadata": (
        lambda report: {"objective": 4.0, "m": {None: [True, (1, 2), {3}], "\ud800": float("nan"), 5: "\x00\x1b[31m"}},
        4.0,
    ),
    "odd names": (lambda report: report({"objective": 5.0, "\ud800\n": "\udfff", "": None}), 5.0),
    "a boolean of numpy": (lambda report: _numpy(lambda np: np.bool_(True)), 1.0),
}


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_nothing_that_a_run_function_gives_stops_the_search(tmp_path: Path, client: Client, isolation: str) -> None:
    names = [*BAD, *GOOD]
    functions = {**BAD, **{name: function for name, (function, _) in GOOD.items()}}
    workers = set(client.scheduler_info(n_workers=-1)["workers"])

    def train(config: Any, report: Any) -> Any:
        return functions[names[config.n]](report)

    search = Search(
        {"n": list(range(len(names)))}, train, cluster=client, isolation=isolation, log_dir=tmp_path, max_failures=None,
        searcher=RandomSearcher(initial_points=[{"n": n} for n in range(len(names))]), random_state=1,
    )  # fmt: skip
    results = search.run(len(names), progress=False)
    statuses = results.statuses()
    assert set(client.scheduler_info(n_workers=-1)["workers"]) == workers  # none died
    rows = rows_of((tmp_path / "journal.jsonl").read_bytes())
    assert not [row for row in rows if row[0] == "lost"]
    which = {row[2]: names[row[3]["n"]] for row in rows if row[0] == "proposed"}
    assert {which[n] for n, status in statuses.items() if status is Status.FAILED} == set(BAD)
    values = {which[n]: v[0] for n, (_, (v, *_)) in results.values_by_trial().items() if which[n] in GOOD}
    assert values == {name: value for name, (_, value) in GOOD.items()}
    for row in rows:
        if row[0] == "failed":
            assert 0 < len(row[4]) <= MOST_TEXT
            assert len(row[5]) <= 20_000
    assert max(map(len, json.dumps(rows).split("],"))) < 200_000
    assert Results.load(tmp_path).statuses() == statuses
    assert len(results.failures()) == len(BAD)
