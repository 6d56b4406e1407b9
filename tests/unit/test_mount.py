"""Mounting: shared read-only pages, one fetch for a node, and files that outlive nobody."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import pickle
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhpo.errors import DataError
from dhpo.worker import package as package_module
from dhpo.worker._node import node_identity
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


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Callable[[object], tuple[Package, Packed, Path]]]:
    """A package as another node receives it, without a way to the file, and a scratch directory of that node."""
    opened: list[Packed] = []
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def make(data: object) -> tuple[Package, Packed, Path]:
        packed = pack(identity, data, directory=None)
        opened.append(packed)
        seen = packed.package
        return Package(seen.token, seen.code, seen.spans, seen.size, None, "another"), packed, scratch

    yield make
    for packed in opened:
        packed.close()


# Life of the file and of mappings.


def test_a_named_file_is_private_and_ends_with_the_packing(tmp_path: Path) -> None:
    packed = pack(identity, big(), directory=tmp_path)
    (path,) = tmp_path.iterdir()

    assert str(path) == packed.package.path
    assert path.name == f"data-{packed.package.token}.bin"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_size == packed.package.size
    packed.close()
    packed.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="closed"):
        packed.read(0, 1)


def test_a_forked_child_does_not_remove_the_file(tmp_path: Path) -> None:
    source = """
        import os, sys
        import numpy as np
        from pathlib import Path
        from dhpo.worker.package import pack
        packed = pack(len, np.ones(9999), directory=Path(sys.argv[1]))
        child = os.fork()
        if child == 0:
            sys.exit(0)
        os.waitpid(child, 0)
        print(os.path.exists(packed.package.path))
    """
    assert run_script(source, tmp_path) == "True\n"
    assert list(tmp_path.iterdir()) == []


def test_mappings_outlive_packing_and_mount() -> None:
    packed, mounted = roundtrip(identity, big())
    array = mounted.data

    packed.close()
    mounted.close()
    mounted.close()

    np.testing.assert_array_equal(array, big())
    assert mounted.data is None
    with pytest.raises(DataError, match="its driver has ended"):
        mount(packed.package)


def test_closing_an_unused_mount_unmaps_the_file(tmp_path: Path) -> None:
    def mapped(path: str | None) -> bool:
        return str(path) in Path("/proc/self/maps").read_text(encoding="utf-8")

    with pack(identity, big(), directory=tmp_path) as packed:
        mounted = mount(packed.package)
        assert mapped(packed.package.path)
        mounted.close()
        assert not mapped(packed.package.path)


@pytest.mark.parametrize("damage", ["truncated", "another's", "replaced by a directory"])
def test_a_file_that_is_not_the_packers_is_not_mapped(damage: str, tmp_path: Path) -> None:
    with pack(identity, big(), directory=tmp_path) as packed:
        path = Path(packed.package.path or "")
        content = path.read_bytes()
        if damage == "truncated":
            path.write_bytes(content[:-64])
        elif damage == "another's":
            path.write_bytes(content.replace(packed.package.token.encode(), b"0" * 32))
        else:
            path.unlink()
            path.mkdir()
        with pytest.raises(DataError, match="cannot be opened"):
            mount(packed.package)
        with mount(packed.package, lambda offset, length: content[offset : offset + length]) as mounted:
            np.testing.assert_array_equal(mounted.data, big())
        if path.is_dir():
            path.rmdir()


def test_calls_cost_no_copies() -> None:
    packed, mounted = roundtrip(lambda config: big_global, None)

    first, second = mounted.function(1), mounted.function(2)

    assert first is second
    assert not first.flags.writeable
    packed.close()


big_global = big()


def test_the_temporary_file_has_a_name_only_where_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pack(identity, big(), directory=None) as packed:
        assert list(tmp_path.iterdir()) == []
        assert (packed.package.path or "").startswith(f"/proc/{os.getpid()}/fd/")
    monkeypatch.setattr(package_module, "has_descriptor_paths", lambda: False)
    with pack(identity, big(), directory=None) as packed:
        assert [str(path) for path in tmp_path.iterdir()] == [packed.package.path]
    assert list(tmp_path.iterdir()) == []


# Nodes that do not see the file.


def test_a_node_that_sees_no_file_fetches_it_once(elsewhere: Callable[[object], tuple[Package, Packed, Path]]) -> None:
    data = {"X": np.arange(2_500_000.0)}
    package, packed, scratch = elsewhere(data)
    asked: list[tuple[int, int]] = []

    def fetch(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return packed.read(offset, length)

    first, second = mount(package, fetch, scratch=scratch), mount(package, fetch, scratch=scratch)

    np.testing.assert_array_equal(first.data["X"], data["X"])
    np.testing.assert_array_equal(second.data["X"], data["X"])
    assert sum(length for _, length in asked) == package.size
    assert max(length for _, length in asked) == 16 * 2**20
    assert len(list(scratch.iterdir())) == 1  # the rendezvous, a few bytes
    first.close()
    third = mount(package, fetch, scratch=scratch)
    np.testing.assert_array_equal(third.data["X"], data["X"])
    assert sum(length for _, length in asked) == package.size
    second.close()
    third.close()
    assert list(scratch.iterdir()) == []
    mount(package, fetch, scratch=scratch).close()
    assert sum(length for _, length in asked) == 2 * package.size


def test_threads_that_mount_together_fetch_once(elsewhere: Callable[[object], tuple[Package, Packed, Path]]) -> None:
    package, packed, scratch = elsewhere(big())
    fetched: list[int] = []
    together = threading.Barrier(4)
    mounted: list[Mounted] = []

    def fetch(offset: int, length: int) -> bytes:
        fetched.append(length)
        return packed.read(offset, length)

    def work() -> None:
        together.wait()
        mounted.append(mount(package, fetch, scratch=scratch))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(mounted) == 4
    assert sum(fetched) == package.size
    for one in mounted:
        one.close()
    assert list(scratch.iterdir()) == []


def test_a_failed_fetch_leaves_nothing_and_is_tried_again(
    elsewhere: Callable[[object], tuple[Package, Packed, Path]],
) -> None:
    package, packed, scratch = elsewhere(big())

    def broken(offset: int, length: int) -> bytes:
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        mount(package, broken, scratch=scratch)
    with pytest.raises(DataError, match="sent 7 bytes instead of"):
        mount(package, lambda offset, length: b"1234567", scratch=scratch)
    with pytest.raises(DataError, match="incomplete"):
        mount(package, lambda offset, length: bytes(length), scratch=scratch)
    assert list(scratch.iterdir()) == []
    with mount(package, packed.read, scratch=scratch) as mounted:
        np.testing.assert_array_equal(mounted.data, big())


def test_a_mount_that_is_dropped_without_closing_clears_up(
    elsewhere: Callable[[object], tuple[Package, Packed, Path]],
) -> None:
    package, packed, scratch = elsewhere(big())
    mounted = mount(package, packed.read, scratch=scratch)
    (rendezvous,) = scratch.iterdir()

    del mounted
    gc.collect()
    assert list(scratch.iterdir()) == []

    mounted = mount(package, packed.read, scratch=scratch)
    with rendezvous.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        del mounted
        gc.collect()  # must not wait for the lock
    assert [path.name for path in scratch.iterdir()] == [rendezvous.name]
    with mount(package, packed.read, scratch=scratch) as mounted:
        np.testing.assert_array_equal(mounted.data, big())
    assert list(scratch.iterdir()) == []


def test_a_missing_scratch_directory_is_named(elsewhere: Callable[[object], tuple[Package, Packed, Path]]) -> None:
    package, packed, scratch = elsewhere(big())

    with pytest.raises(DataError, match="not_there"):
        mount(package, packed.read, scratch=scratch / "not_there")


def test_the_node_identity_names_boot_and_process_space() -> None:
    assert node_identity() == run_script("from dhpo.worker._node import node_identity; print(node_identity())").strip()
    assert os.readlink("/proc/self/ns/pid") in node_identity()


# Pages.

MEASURE = """
import pickle, sys
from dhpo.worker.mount import mount
with open(sys.argv[1], "rb") as file:
    mounted = mount(pickle.load(file))
array = mounted.data["X"]
total = float(array.sum())
print("ready", flush=True)
sys.stdin.readline()
address, pss = array.__array_interface__["data"][0], {}
for line in open("/proc/self/smaps"):
    word = line.split()
    if "-" in word[0] and not word[0].endswith(":"):
        low, high = (int(part, 16) for part in word[0].split("-"))
    elif word[0] == "Pss:" and low <= address < high:
        pss["mapping"] = int(word[1]) * 1024
    elif word[0] == "Anonymous:":
        pss["private"] = pss.get("private", 0) + int(word[1]) * 1024
import json
print(json.dumps(pss), flush=True)
sys.stdin.readline()
"""


def test_two_processes_pay_for_the_pages_once(tmp_path: Path) -> None:
    size = 64 * 2**20
    with pack(len, {"X": np.ones(size // 8)}, directory=None) as packed:
        (tmp_path / "package").write_bytes(pickle.dumps(packed.package))
        command = [sys.executable, "-c", MEASURE, str(tmp_path / "package")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
        children = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            for _ in range(2)
        ]
        answers = []
        for child in children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("\n")
            child.stdin.flush()
            answers.append(json.loads(child.stdout.readline()))
        for child in children:
            child.communicate("\n")

    assert size * 0.95 < sum(answer["mapping"] for answer in answers) < size * 1.1
    assert all(answer["private"] < size for answer in answers)
