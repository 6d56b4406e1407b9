"""The run function and its data, as the driver holds them."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dhpo.function import UserFunction


class Weights(np.ndarray[Any, Any]):
    """An array that can be referred to weakly."""


def closing_over(array: Any) -> Callable[[Any], float]:
    def run(config: Any) -> float:
        return float(array.sum())

    return run


def test_the_driver_lets_go_of_what_was_packed(tmp_path: Path) -> None:
    array, data = np.ones(200_000).view(Weights), np.full(200_000, 2.0).view(Weights)
    alive = weakref.ref(array), weakref.ref(data)
    held = UserFunction(closing_over(array), {"X": data}, tmp_path)
    del array, data
    assert all(reference() is not None for reference in alive)
    held.packed()
    gc.collect()
    assert [reference() for reference in alive] == [None, None]
    function, mapped = held.here()
    assert function(None) == 200_000.0
    assert mapped["X"].sum() == 400_000.0


def test_unpacked_it_is_what_the_user_gave() -> None:
    function, data = closing_over(np.ones(3)), {"X": 1}
    held = UserFunction(function, data, None)
    assert held.here() == (function, data)
