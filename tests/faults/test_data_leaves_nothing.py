"""Killed drivers and workers, and full disks, leave no data behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from dhpo.errors import DataError
from dhpo.worker.mount import mount
from dhpo.worker.package import Package, pack

ROOT = Path(__file__).parents[2]

PACKER = """
    import pickle, sys
    from pathlib import Path
    import numpy as np
    from dhpo.worker.package import pack
    directory = Path(sys.argv[2]) if sys.argv[2] else None
    packed = pack(len, np.arange(100_000.0), directory=directory)
    Path(sys.argv[1]).write_bytes(pickle.dumps(packed.package))
    print("ready", flush=True)
    sys.stdin.readline()
"""

WORKER = """
    import os, pickle, sys
    from pathlib import Path
    from dhpo.worker.mount import mount
    package = pickle.loads(Path(sys.argv[1]).read_bytes())
    source = os.open(sys.argv[2], os.O_RDONLY)
    log = os.open(sys.argv[3], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    def fetch(offset, length):
        os.write(log, f"{length}\\n".encode())
        if sys.argv[5] == "stuck":
            print("fetching", flush=True)
            sys.stdin.readline()
        return os.pread(source, length, offset)
    if sys.argv[5] == "said":
        print("begins", flush=True)
    mounted = mount(package, fetch, scratch=Path(sys.argv[4]))
    print("mounted", flush=True)
    while sys.stdin.readline():
        print(float(mounted.data.sum()), flush=True)
    mounted.close()
"""


@contextmanager
def child(source: str, *arguments: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def out(process: subprocess.Popen[str]) -> str:
    stream: IO[str] | None = process.stdout
    assert stream is not None
    return stream.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> None:
    process.communicate()
    assert process.returncode == 0


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def memory_files() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith(("dhpo", "data-"))}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[list[object], Path, Path, int]]:
    """The arguments of workers on a node that sees no file, the log of what they fetch, their scratch, the size."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pack(len, np.arange(100_000.0), directory=tmp_path) as packed:
        seen = packed.package
        hidden = Package(seen.token, seen.code, seen.spans, seen.size, None, "another")
        (tmp_path / "package").write_bytes(pickle.dumps(hidden))
        yield [tmp_path / "package", seen.path, tmp_path / "log", scratch], tmp_path / "log", scratch, seen.size


def test_a_killed_driver_without_a_directory_leaves_nothing(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    before = memory_files()
    with child(PACKER, tmp_path / "package", "", TMPDIR=str(temporary)) as driver:
        assert out(driver) == "ready"
        package = pickle.loads((tmp_path / "package").read_bytes())
        assert os.stat(package.path).st_dev == temporary.stat().st_dev
        mounted = mount(package)
        kill(driver)

    assert list(temporary.iterdir()) == []
    assert memory_files() == before
    assert mounted.data.sum() == np.arange(100_000.0).sum()  # who has it keeps it
    mounted.close()


def test_what_a_killed_driver_left_in_its_directory_goes_with_the_next(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    kept = [run / "data-notes.bin", run / "journal.jsonl"]
    for path in kept:
        path.write_text("keep")
    with child(PACKER, tmp_path / "package", run) as driver:
        assert out(driver) == "ready"
        kill(driver)
    (left,) = set(run.iterdir()) - set(kept)
    assert left.name.startswith("data-")

    with pack(len, np.ones(5000), directory=run) as packed:
        assert set(run.iterdir()) == {*kept, Path(packed.package.path or "")}
    assert set(run.iterdir()) == set(kept)


def test_two_processes_of_a_node_fetch_once(node: tuple[list[Any], Path, Path, int]) -> None:
    arguments, log, scratch, size = node
    with child(WORKER, *arguments, "") as first, child(WORKER, *arguments, "") as second:
        for worker in (first, second):
            assert out(worker) == "mounted"
        for worker in (first, second):
            tell(worker)
            assert float(out(worker)) == np.arange(100_000.0).sum()
        end(first)
        end(second)

    assert sum(map(int, log.read_text().split())) == size
    assert list(scratch.iterdir()) == []


def test_the_data_outlives_the_process_that_fetched_it(node: tuple[list[Any], Path, Path, int]) -> None:
    arguments, log, scratch, size = node
    with child(WORKER, *arguments, "") as fetcher, child(WORKER, *arguments, "") as mapper:
        assert out(fetcher) == "mounted"
        assert out(mapper) == "mounted"
        kill(fetcher)
        with child(WORKER, *arguments, "") as late:
            assert out(late) == "mounted"
            tell(late)
            assert float(out(late)) == np.arange(100_000.0).sum()
            end(late)
        end(mapper)

    assert sum(map(int, log.read_text().split())) == size
    assert list(scratch.iterdir()) == []


def test_a_killed_worker_leaves_no_data_and_the_next_fetches_again(node: tuple[list[Any], Path, Path, int]) -> None:
    arguments, log, scratch, size = node
    with child(WORKER, *arguments, "") as worker:
        assert out(worker) == "mounted"
        kill(worker)
    (rendezvous,) = scratch.iterdir()
    assert rendezvous.stat().st_size < 64

    with child(WORKER, *arguments, "") as worker:
        assert out(worker) == "mounted"
        end(worker)

    assert sum(map(int, log.read_text().split())) == 2 * size
    assert list(scratch.iterdir()) == []


def test_a_worker_killed_while_it_fetches_lets_the_next_one_do_it(node: tuple[list[Any], Path, Path, int]) -> None:
    arguments, log, scratch, size = node
    with child(WORKER, *arguments, "stuck") as stuck:
        assert out(stuck) == "fetching"
        with child(WORKER, *arguments, "said") as waiting:
            assert out(waiting) == "begins"
            kill(stuck)
            assert out(waiting) == "mounted"
            end(waiting)

    assert sum(map(int, log.read_text().split())) == 2 * size  # the first had asked, and got nothing
    assert list(scratch.iterdir()) == []


def test_dead_rendezvous_of_other_searches_are_swept(node: tuple[list[Any], Path, Path, int], tmp_path: Path) -> None:
    arguments, _, scratch, _ = node
    with child(WORKER, *arguments, "") as worker:
        assert out(worker) == "mounted"
        kill(worker)
    (dead,) = scratch.iterdir()
    foreign = scratch / "dhpo-0-another-node"
    foreign.write_text("1 1\n")

    with pack(len, np.ones(5000), directory=None) as packed:
        seen = packed.package
        hidden = Package(seen.token, seen.code, seen.spans, seen.size, None, "another")
        with mount(hidden, packed.read, scratch=scratch):
            assert not dead.exists()
    assert list(scratch.iterdir()) == [foreign]


FULL = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from dhpo.errors import DataError
    from dhpo.worker.package import pack
    data = [np.ones(5000), np.ones((3000, 1000))[:, ::2]]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    try:
        pack(len, data, directory=Path(sys.argv[1]) if sys.argv[1] else None)
    except DataError as error:
        print(error)
"""


@pytest.mark.parametrize("named", [True, False])
def test_a_full_disk_is_said_and_the_partial_file_removed(named: bool, tmp_path: Path) -> None:
    with child(FULL, tmp_path if named else "", TMPDIR=str(tmp_path)) as driver:
        message = out(driver)
        end(driver)

    assert f"cannot be written in {str(tmp_path)!r}" in message
    assert "File too large; at least 12,0" in message
    assert "bytes are free" in message
    assert list(tmp_path.iterdir()) == []


def test_a_missing_run_directory_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not_there.*No such file or directory"):
        pack(len, np.ones(5000), directory=tmp_path / "not_there")
