"""Arrays of every layout come back equal, and memory-mapped files are not copied."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo.errors import DataError
from dhpo.worker._pickling import SMALLEST, hoist
from dhpo.worker.mount import Mounted, mount
from dhpo.worker.package import Packed, pack


def identity(config: Any) -> Any:
    return config


def big(rows: int = 2000) -> np.ndarray[Any, Any]:
    return np.arange(rows * 10, dtype=np.float64).reshape(rows, 10)


def roundtrip(function: object, data: object = None) -> tuple[Packed, Mounted]:
    packed = pack(function, data, directory=None)
    return packed, mount(pickle.loads(pickle.dumps(packed.package)))


@st.composite
def layouts(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Arrays of all memory layouts: orders, transpositions, slices, steps, both directions."""
    kind = draw(st.sampled_from(["f8", ">i4", "?", "c16", "M8[ms]", "S7", "U3", [("a", "i4"), ("b", "f8")]]))
    dtype = np.dtype(kind)
    shape = draw(st.lists(st.integers(2, 9), min_size=1, max_size=4))
    shape[0] *= 700
    raw = np.arange(int(np.prod(shape)) * dtype.itemsize, dtype=np.uint64).astype(np.uint8) % 2
    array = raw.view(dtype).reshape(shape, order=draw(st.sampled_from("CF")))
    steps = draw(st.lists(st.sampled_from([1, 1, 2, -1]), min_size=len(shape), max_size=len(shape)))
    begin = draw(st.integers(0, 1))
    array = array[tuple(slice(None, None, step) if step < 0 else slice(begin, None, step) for step in steps)]
    return array.transpose(draw(st.permutations(range(array.ndim))))


@settings(deadline=None, max_examples=60)
@given(layouts())
def test_every_layout_comes_back_equal(array: np.ndarray[Any, Any]) -> None:
    buffers: list[bytes] = []

    def place(pieces: Iterable[memoryview]) -> tuple[int, int]:
        buffers.append(b"".join(pieces))
        return len(buffers) - 1, len(buffers[-1])

    hoisted = hoist([array, array], place)
    first, second = pickle.loads(hoisted.code, buffers=[buffers[place] for place, _ in hoisted.spans])

    assert first is second
    assert (first.dtype, first.shape) == (array.dtype, array.shape)
    assert first.tobytes() == array.tobytes()
    assert len(buffers) == (array.nbytes >= SMALLEST)
    assert hoisted.code_size == len(hoisted.code) < SMALLEST + 1000


class Temporary:
    """Gives the pickler an array that nobody else holds, so that its memory could be used again."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return identity, (np.full(5000, self.value),)


def test_temporary_arrays_are_not_confused() -> None:
    _, mounted = roundtrip(identity, [Temporary(value) for value in range(20)])

    assert [array[0] for array in mounted.data] == list(range(20))


@pytest.mark.parametrize("view", [np.s_[:], np.s_[1500:], np.s_[:, 3:5], np.s_[::-2, ::3]], ids=str)
@pytest.mark.parametrize("plain", [False, True])
def test_memory_mapped_files_go_by_their_path(view: Any, plain: bool, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", big())
    array = np.load(tmp_path / "x.npy", mmap_mode="r")[view]

    packed, mounted = roundtrip(identity, np.asarray(array) if plain else array)

    np.testing.assert_array_equal(mounted.data, big()[view])
    assert packed.package.size == 0
    assert not mounted.data.flags.writeable


def test_a_written_memory_map_is_flushed_and_a_private_one_is_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", big())
    written, private = (np.load(tmp_path / "x.npy", mmap_mode=mode) for mode in ("r+", "c"))
    private[0, 0] = -2.0
    written[0, 1] = -1.0

    packed, mounted = roundtrip(identity, {"written": written, "private": private})

    assert mounted.data["written"][0, 1] == -1.0
    assert mounted.data["private"][0, 0] == -2.0
    assert len(packed.package.spans) == 1
    packed.close()


def test_a_small_memory_map_and_one_whose_file_is_gone_are_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", big())
    array = np.load(tmp_path / "x.npy", mmap_mode="r")
    (tmp_path / "x.npy").unlink()

    packed, mounted = roundtrip(identity, {"all": array, "few": array[:2]})

    np.testing.assert_array_equal(mounted.data["all"], big())
    np.testing.assert_array_equal(mounted.data["few"], big()[:2])
    assert len(packed.package.spans) == 1
    packed.close()


def test_a_memory_mapped_file_that_the_worker_does_not_see_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", big())
    packed = pack(identity, np.load(tmp_path / "x.npy", mmap_mode="r"), directory=None)
    (tmp_path / "x.npy").unlink()

    with pytest.raises(DataError, match=r"x\.npy.*np\.array"):
        mount(packed.package)
