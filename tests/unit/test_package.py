"""Function and data are packed once: what is large is hoisted and stored once; what cannot be shipped says why."""

from __future__ import annotations

import functools
import os
import pickle
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dhpo.errors import DataError, RunFunctionError
from dhpo.worker.mount import Mounted, mount
from dhpo.worker.package import Package, Packed, pack

ROOT = Path(__file__).parents[2]


def identity(config: Any) -> Any:
    return config


def big(rows: int = 2000) -> np.ndarray[Any, Any]:
    return np.arange(rows * 10, dtype=np.float64).reshape(rows, 10)


def roundtrip(function: object, data: object = None) -> tuple[Packed, Mounted]:
    packed = pack(function, data, directory=None)
    return packed, mount(pickle.loads(pickle.dumps(packed.package)))


def lies_in_file(array: np.ndarray[Any, Any], package: Package) -> bool:
    """Whether the array's memory is a mapping of the package's file, not a copy of it."""
    address, inode = array.__array_interface__["data"][0], os.stat(package.path or "").st_ino
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        reach, _, _, _, found, *_ = line.split()
        low, high = (int(part, 16) for part in reach.split("-"))
        if low <= address < high:
            return int(found) == inode
    return False


def run_script(source: str, *arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Round trips.


@pytest.mark.parametrize("named", [False, True])
def test_data_comes_back_read_only_and_aligned(named: bool, tmp_path: Path) -> None:
    data = {"X": big(), "y": np.arange(3), "name": "ä", "labels": np.array(["a", None], dtype=object)}

    with pack(identity, data, directory=tmp_path if named else None) as packed:
        package = packed.package
        with mount(package) as mounted:
            assert mounted.function({"a": 1}) == {"a": 1}
            np.testing.assert_array_equal(mounted.data["X"], data["X"])
            np.testing.assert_array_equal(mounted.data["y"], data["y"])
            assert mounted.data["labels"].tolist() == ["a", None]
            assert lies_in_file(mounted.data["X"], package)
            with pytest.raises(ValueError, match="read-only"):
                mounted.data["X"][0, 0] = 1.0
        assert len(package.spans) == 1
        assert package.spans[0][0] % 64 == 0
        assert len(pickle.dumps(package)) < 2000


def test_what_has_no_large_buffer_makes_no_file(tmp_path: Path) -> None:
    with pack(identity, {"x": 1}, directory=tmp_path) as packed:
        assert (packed.package.size, packed.package.path, packed.package.spans) == (0, None, ())
        assert list(tmp_path.iterdir()) == []
        assert mount(packed.package).data == {"x": 1}
        with pytest.raises(DataError, match="no buffers"):
            packed.read(0, 1)


class Model:
    def __init__(self, weights: np.ndarray[Any, Any]) -> None:
        self.weights = weights

    def __call__(self, config: Any) -> float:
        return float(self.weights.sum()) + float(config)

    method = __call__


def scaled(weights: np.ndarray[Any, Any], config: Any) -> float:
    return float(weights.sum()) + float(config)


def closure(weights: np.ndarray[Any, Any]) -> Callable[[Any], float]:
    return lambda config: float(weights.sum()) + float(config)


def generator(weights: np.ndarray[Any, Any]) -> Callable[[Any], float]:
    def steps(config: Any) -> Iterator[float]:
        yield float(weights.sum())
        yield float(config)

    return lambda config: sum(steps(config))


@pytest.mark.parametrize(
    "make",
    [closure, generator, Model, lambda array: Model(array).method, lambda array: functools.partial(scaled, array)],
    ids=["closure", "generator", "callable object", "bound method", "partial"],
)
def test_every_kind_of_run_function_is_hoisted(make: Callable[[Any], Any]) -> None:
    packed, mounted = roundtrip(make(big()))

    assert mounted.function(1) == big().sum() + 1
    assert len(packed.package.spans) == 1
    assert len(packed.package.code) < 4000
    mounted.close()
    packed.close()


def test_a_script_ships_its_globals_and_closures_without_copies(tmp_path: Path) -> None:
    source = """
        import pickle, sys
        import numpy as np, pandas as pd
        from pathlib import Path
        from dhpo.worker.package import pack
        X = np.ones((1000, 100))
        frame = pd.DataFrame(X)[:600]
        def helper(): return X.sum() + frame.to_numpy().sum()
        def make():
            inner = 2 * X
            def run(config):
                return helper() + inner.sum() + config
            return run
        with pack(make(), directory=Path(sys.argv[1])) as packed:
            Path(sys.argv[2]).write_bytes(pickle.dumps(packed.package))
            child = __import__("subprocess").run([sys.executable, "-c", sys.argv[3], sys.argv[2]], check=True)
        print(packed.package.size, len(packed.package.code))
    """
    worker = """
import pickle, sys
from dhpo.worker.mount import mount
with open(sys.argv[1], "rb") as file:
    mounted = mount(pickle.load(file))
print(mounted.function(0.5))
"""
    value, sizes = run_script(source, tmp_path, tmp_path / "package", worker).splitlines()

    assert float(value) == 100_000 + 60_000 + 200_000 + 0.5
    size, code = map(int, sizes.split())
    assert 8 * 260_000 < size < 8 * 260_000 + 2000  # each once
    assert code < 5000


# What is stored, and how often.


def test_the_same_memory_is_stored_once() -> None:
    array = big()
    data = {"a": array, "same": array, "view": array[:], "flat": array.reshape(-1), "T": array.T}
    strided = {"odd": array[::2], "odd again": array[::2]}

    packed, mounted = roundtrip(identity, {**data, **strided})

    assert array.nbytes * 1.5 <= packed.package.size < array.nbytes * 1.5 + 1000
    assert mounted.data["a"] is mounted.data["same"]
    assert np.shares_memory(mounted.data["a"], mounted.data["T"])
    np.testing.assert_array_equal(mounted.data["T"], array.T)
    np.testing.assert_array_equal(mounted.data["odd again"], array[::2])
    packed.close()


def test_different_arrays_are_not_confused() -> None:
    array = big()
    _, mounted = roundtrip(identity, [array[:1000], array[1000:], array[:1000].copy() + 1, array[::-1]])

    for got, want in zip(mounted.data, [array[:1000], array[1000:], array[:1000] + 1, array[::-1]], strict=True):
        np.testing.assert_array_equal(got, want)


def test_frames_and_their_slices_share_pages() -> None:
    frame = pd.DataFrame(np.arange(60_000.0).reshape(3000, 20), columns=[f"c{i}" for i in range(20)])
    frame["when"] = pd.date_range("2020", periods=3000)
    frame["kind"] = pd.Categorical(["a", "b", "c"] * 1000)
    frame["count"] = pd.array(range(3000), dtype="Int64")
    train, test = frame[:2000], frame[2000:]

    packed, mounted = roundtrip(lambda config: test, {"train": train, "series": frame["c3"]})

    pd.testing.assert_frame_equal(mounted.data["train"], train)
    pd.testing.assert_frame_equal(mounted.function(0), test)
    pd.testing.assert_series_equal(mounted.data["series"], frame["c3"])
    for column in ("c0", "c19", "when"):
        assert lies_in_file(mounted.data["train"][column].to_numpy(), packed.package)
    assert lies_in_file(mounted.data["series"].to_numpy(), packed.package)
    assert len(packed.package.code) < 12_000
    packed.close()


def test_large_buffers_of_other_objects_are_hoisted() -> None:
    shared = pickle.PickleBuffer(bytes(range(256)) * 100)
    packed, mounted = roundtrip(identity, [shared, bytearray(b"x" * 10)])

    assert bytes(mounted.data[0]) == bytes(range(256)) * 100
    assert len(packed.package.spans) == 1
    packed.close()


# Errors.


def test_what_cannot_be_pickled_is_named() -> None:
    lock = threading.Lock()

    def captures(config: Any) -> Any:
        return lock

    for function, data, name in [
        (captures, None, "closure variable 'lock'"),
        (functools.partial(identity, [1, lock]), None, r"argument 0 > \[1\]"),
        (identity, {"fine": 1, "handle": lock}, r"data > \['handle'\]"),
        (Model(lock), None, "attribute 'weights'"),  # type: ignore[arg-type]
    ]:
        with pytest.raises(RunFunctionError, match=rf"{name} \(of type lock\) cannot be pickled.*TypeError"):
            pack(function, data, directory=None)


def test_a_global_that_cannot_be_pickled_is_named() -> None:
    source = """
        import threading
        from dhpo.errors import RunFunctionError
        from dhpo.worker.package import pack
        lock = threading.Lock()
        def helper(): return lock
        def run(config): return helper()
        try:
            pack(run, directory=None)
        except RunFunctionError as error:
            print(error)
    """
    assert "the run function > global 'helper' > global 'lock' (of type lock)" in run_script(source)


def test_a_failed_packing_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RunFunctionError):
        pack(identity, [big(), threading.Lock()], directory=tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_too_much_that_cannot_be_hoisted_is_named_with_the_remedy(tmp_path: Path) -> None:
    numbers, text = list(range(4_000_000)), "x" * 300_000

    def run(config: Any) -> Any:
        return numbers, text

    with pytest.raises(RunFunctionError) as caught:
        pack(run, {"array": big(), "blob": b"x" * 12_000_000}, directory=tmp_path)

    message = str(caught.value)
    numbered = re.search(r"the run function > closure variable 'numbers': (\d+)\.\d MB", message)
    assert numbered
    assert 15 < int(numbered[1]) < 25
    assert numbered.start() < message.index("data > ['blob']: 12.0 MB")
    assert "closure variable 'text': 0.3 MB" in message
    assert "Loader" in message
    assert "array'" not in message
    assert list(tmp_path.iterdir()) == []


def test_just_under_the_limit_is_shipped() -> None:
    packed, mounted = roundtrip(identity, b"x" * 9_900_000)

    assert len(mounted.data) == 9_900_000
    assert packed.package.size == 0


def test_a_module_that_is_missing_on_the_worker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("def run(config):\n    return config\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found]

    package = pack(only_here.run, directory=None).package
    monkeypatch.undo()
    for content, hint in [
        (None, "the module 'only_here' is missing"),
        ("", "attribute 'run'"),
        ("1 / 0", "ZeroDivision"),
    ]:
        sys.modules.pop("only_here", None)
        if content is not None:
            (tmp_path / "only_here.py").write_text(content)
            monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(RunFunctionError, match=hint) as caught:
            mount(package)
        assert sys.executable in str(caught.value)
        assert os.uname().nodename in str(caught.value)


def test_another_python_is_refused() -> None:
    package = pack(identity, directory=None).package
    other = pickle.dumps((3, 9)) + package.code[len(pickle.dumps(sys.version_info[:2])) :]

    with pytest.raises(RunFunctionError, match=r"Python 3\.9 and this worker Python 3\."):
        mount(Package(package.token, other, (), 0, None, package.host))
