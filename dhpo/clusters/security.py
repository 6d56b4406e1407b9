"""TLS between the driver, the Dask scheduler and the workers.

Whoever can talk to a Dask scheduler can run programs as the user who started it. So on a network of several machines
all connections are encrypted, and refused without credentials. These are made anew for each cluster and handed on as
files that only their owner can read: a certificate, its private key, and the certificate once more as the authority
that signed it. Who can read the key may run code as its owner; who cannot does not get past the first byte.

``python -m dhpo.clusters.security FOLDER`` makes them for job scripts.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from pathlib import Path

from distributed.security import Security

from dhpo.errors import ClusterError

#: The files of a folder of credentials: the authority's certificate, the certificate of every part, and its key.
FILES = {"ca": "ca.pem", "cert": "cert.pem", "key": "key.pem"}

logger = logging.getLogger(__name__)


def temporary_security(folder: Path) -> Security:
    """Make credentials for one cluster, valid for a year, and write them into a folder.

    Args:
        folder: where to; it is made, for its owner only. Credentials that are there are replaced.

    Returns:
        what ``distributed`` takes as ``security=``, and reads the files.

    Raises:
        ClusterError: the folder cannot be written to.
    """
    made = Security.temporary()
    contents = {"ca": made.tls_ca_file, "cert": made.tls_client_cert, "key": made.tls_client_key}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        for name, text in contents.items():
            _write_privately(folder / FILES[name], text)
    except OSError as error:
        raise ClusterError(
            f"the credentials of the cluster cannot be written to {folder}: {error.strerror}. "
            "Choose a directory of your own that the nodes see"
        ) from error
    return security_from(folder)


def security_from(folder: Path) -> Security:
    """What ``distributed`` takes as ``security=``, from a folder of :func:`temporary_security`.

    Raises:
        ClusterError: the folder lacks a file, or this process may not read one.
    """
    ca, cert, key = (str(folder.absolute() / name) for name in FILES.values())
    for path in (ca, cert, key):
        if not os.access(path, os.R_OK):
            raise ClusterError(
                f"{path} cannot be read: the credentials of a Dask cluster are its owner's, and are removed at its end"
            )
    mode = stat.S_IMODE(os.stat(key).st_mode)
    if mode & 0o077:
        logger.warning(
            "%s has mode %03o: whoever reads it can run programs as you. chmod 600 it, or choose a file system that "
            "keeps modes",
            key,
            mode,
        )
    roles = {f"tls_{role}_cert": cert for role in ("client", "scheduler", "worker")}
    roles |= {f"tls_{role}_key": key for role in ("client", "scheduler", "worker")}
    return Security(require_encryption=True, tls_ca_file=ca, **roles)


def command_line(folder: Path) -> list[str]:
    """The same for ``dask worker``, which then speaks TLS and nothing else.

    ``dask scheduler`` takes these options, too, but does not take ``--interface`` beside them: :func:`environment`.
    """
    files = [word for name, file in FILES.items() for word in (_OPTIONS[name], str(folder.absolute() / file))]
    return ["--protocol", "tls", *files]


def environment(folder: Path) -> dict[str, str]:
    """The same as environment variables, for processes of any role: a scheduler, a worker, or a client."""
    ca, cert, key = (str(folder.absolute() / file) for file in FILES.values())
    variables = {"REQUIRE_ENCRYPTION": "True", "TLS__CA_FILE": ca}
    for role in ("CLIENT", "SCHEDULER", "WORKER"):
        variables |= {f"TLS__{role}__CERT": cert, f"TLS__{role}__KEY": key}
    return {f"DASK_DISTRIBUTED__COMM__{name}": value for name, value in variables.items()}


def credentials_of(scheduler_file: str | os.PathLike[str]) -> Path:
    """The folder of credentials that belongs to a scheduler file: ``x.json`` has ``x.tls`` beside it, if any."""
    path = Path(scheduler_file)
    return path.with_name(f"{path.name.removesuffix('.json')}.tls")


_OPTIONS = {"ca": "--tls-ca-file", "cert": "--tls-cert", "key": "--tls-key"}


def _write_privately(path: Path, text: str) -> None:
    """Write a file that never was readable by others, in one step."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
    os.replace(new, path)


def main(arguments: list[str]) -> int:
    """Make credentials in the folder that the only argument names."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: python -m dhpo.clusters.security FOLDER", file=sys.stderr)
        return 2
    try:
        temporary_security(Path(arguments[0]))
    except ClusterError as error:
        print(f"dhpo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
