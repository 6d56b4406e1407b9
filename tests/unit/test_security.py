from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from dhpo.clusters import security
from dhpo.clusters.security import command_line, credentials_of, environment, security_from, temporary_security
from dhpo.errors import ClusterError

ROOT = Path(__file__).parents[2]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(name="folder", scope="module")
def folder_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("credentials") / "run" / "scheduler.tls"
    temporary_security(folder)
    return folder


def test_only_their_owner_reads_the_credentials(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b.tls"
    before = os.umask(0)
    try:
        temporary_security(folder)
    finally:
        os.umask(before)
    assert mode(folder) == 0o700
    assert {path.name: mode(path) for path in folder.iterdir()} == {
        "ca.pem": 0o600,
        "cert.pem": 0o600,
        "key.pem": 0o600,
    }
    assert "PRIVATE KEY" in (folder / "key.pem").read_text()
    assert "PRIVATE KEY" not in (folder / "cert.pem").read_text() + (folder / "ca.pem").read_text()


def test_credentials_are_made_anew_each_time_and_an_open_folder_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    (folder / "key.pem").write_text("an old one")
    (folder / "key.pem").chmod(0o644)
    temporary_security(folder)
    first = (folder / "key.pem").read_text()
    temporary_security(folder)
    assert mode(folder) == 0o700
    assert mode(folder / "key.pem") == 0o600
    assert "PRIVATE KEY" in first
    assert first != (folder / "key.pem").read_text()
    assert len(list(folder.iterdir())) == 3


def test_security_demands_encryption_and_names_the_files(folder: Path) -> None:
    made = security_from(folder)
    assert made.require_encryption is True
    for role in ("client", "scheduler", "worker"):
        assert made.get_tls_config_for_role(role) == {
            "ca_file": str(folder / "ca.pem"),
            "cert": str(folder / "cert.pem"),
            "key": str(folder / "key.pem"),
            "ciphers": None,
        }


@pytest.mark.parametrize("missing", ["ca.pem", "cert.pem", "key.pem"])
def test_what_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    temporary_security(tmp_path / "c")
    (tmp_path / "c" / missing).unlink()
    with pytest.raises(ClusterError, match=missing):
        security_from(tmp_path / "c")


def test_a_key_that_others_can_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    temporary_security(tmp_path)
    (tmp_path / "key.pem").chmod(0o640)
    with caplog.at_level(logging.WARNING):
        security_from(tmp_path)
    assert "mode 640" in caplog.text


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ClusterError, match="cannot be written to"):
        temporary_security(tmp_path / "file" / "folder")


@pytest.mark.parametrize(
    ("scheduler_file", "credentials"),
    [
        ("runs/scheduler-7.json", "runs/scheduler-7.tls"),
        ("/x/scheduler", "/x/scheduler.tls"),
        ("a.json.json", "a.json.tls"),
    ],
)
def test_the_credentials_lie_beside_the_scheduler_file(scheduler_file: str, credentials: str) -> None:
    assert credentials_of(scheduler_file) == Path(credentials)


def test_the_module_is_a_program_for_job_scripts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert security.main([str(tmp_path / "made")]) == 0
    assert mode(tmp_path / "made" / "key.pem") == 0o600
    assert security.main([]) == 2
    assert security.main(["--help"]) == 2
    assert "usage:" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert security.main([str(tmp_path / "file" / "x")]) == 1
    assert "cannot be written to" in capsys.readouterr().err


@contextmanager
def dask(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "dask", *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, **quiet, cwd=ROOT, env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture(name="cluster", scope="module")
def cluster_fixture(folder: Path) -> Iterator[str]:
    """The address of a scheduler and a worker of their own processes, as job scripts start them."""
    scheduler_file = folder.with_name("scheduler.json")
    common = ("--scheduler-file", str(scheduler_file), "--interface", "lo", "--no-dashboard")
    own = ("--nthreads", "1", "--local-directory", str(folder.parent / "scratch"))
    with (
        dask("scheduler", *common, "--port", "0", **environment(credentials_of(scheduler_file))),
        dask("worker", *common, *own, *command_line(credentials_of(scheduler_file))),
    ):

        async def address() -> str:
            async def wait() -> str:
                while not scheduler_file.exists():
                    await asyncio.sleep(0.05)
                return str(json.loads(scheduler_file.read_text())["address"])

            return await asyncio.wait_for(wait(), 120)

        yield asyncio.run(address())


def ask(address: str, made: Any, seconds: float = 90) -> int:
    async def main() -> int:
        client = Client(address, security=made, asynchronous=True, timeout=seconds, set_as_default=False)
        async with client:
            return int(await asyncio.wait_for(client.submit(lambda: 6 * 7, pure=False), seconds))

    return asyncio.run(main())


def test_who_has_the_credentials_gets_in(cluster: str, folder: Path) -> None:
    assert cluster.startswith("tls://")
    assert ask(cluster, security_from(folder)) == 42


def test_who_has_none_is_refused(cluster: str, folder: Path) -> None:
    host, port = cluster.removeprefix("tls://").split(":")
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.check_hostname = False
    with (
        socket.create_connection((host, int(port)), timeout=30) as plain,
        pytest.raises(OSError, match=r"CERTIFICATE_REQUIRED|certificate required|reset"),
        context.wrap_socket(plain) as sealed,
    ):
        sealed.recv(1)
    with pytest.raises(OSError, match="tcp://"):
        ask(cluster.replace("tls://", "tcp://"), None, 3)


def test_who_has_others_is_refused(cluster: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"does not match|VERIFY_FAILED|verify failed"):
        ask(cluster, temporary_security(tmp_path / "others"), 3)
