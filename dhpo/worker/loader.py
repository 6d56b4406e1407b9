"""Data that the workers load themselves, once per node."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from dhpo.errors import DataError, SettingError

_PANDAS_READERS: Final = {".csv": "read_csv", ".csv.gz": "read_csv", ".parquet": "read_parquet"}
_NUMPY_SUFFIXES: Final = (".npy", ".npz")


class Loader:
    """Says how a worker gets the data, for data that the driver does not have or should not send.

    It is given as ``data=Loader(...)``, or as a value in ``data={...}``. One process of each node loads; the arrays
    and frames of the result are then shared, read-only, by all processes of the node.

    Args:
        source: The path of a file that every node sees, or a callable that runs on the worker and returns the data.
            What is read from a path depends on its suffix: ``.npy`` a memory-mapped array, ``.npz`` a dict of arrays,
            ``.parquet``, ``.csv`` and ``.csv.gz`` a pandas frame. A relative path counts from the directory in
            which the driver runs. Pickles are not read from paths, since they run code; give a callable for that.
        *args: Further arguments of the callable, or of pandas' reader.
        **kwargs: Likewise, by name.

    Raises:
        SettingError: The suffix is not known, or arguments are given for a numpy file.
    """

    def __init__(self, source: str | os.PathLike[str] | Callable[..., object], *args: object, **kwargs: object) -> None:
        self.source: str | Callable[..., object]
        if isinstance(source, (str, os.PathLike)):
            self.source = os.path.abspath(os.path.expanduser(os.fspath(source)))
            _check_suffix(self.source, bool(args or kwargs))
        elif callable(source):
            self.source = source
        else:
            raise SettingError(f"a Loader takes a path or a callable, not {source!r}")
        self.args = args
        self.kwargs = kwargs

    @property
    def maps(self) -> bool:
        """Whether loading only maps a file, which every process does for itself and shares even so."""
        return isinstance(self.source, str) and self.source.lower().endswith(".npy")

    def load(self) -> object:
        """Load the data in this process.

        Returns:
            The data.

        Raises:
            DataError: The file is not there, or reading it or calling the callable failed.
        """
        try:
            if isinstance(self.source, str):
                return _read(self.source, self.args, self.kwargs)
            return self.source(*self.args, **self.kwargs)
        except FileNotFoundError as error:
            missing = error.filename or (self.source if isinstance(self.source, str) else error)
            raise DataError(
                f"{self!r} does not find {str(missing)!r} on {os.uname().nodename}: put the file where every node "
                "sees it, or give the data itself"
            ) from error
        except Exception as error:  # anything that a reader or the user's function raises
            raise DataError(f"{self!r} failed on {os.uname().nodename}: {type(error).__name__}: {error}") from error

    def __repr__(self) -> str:
        source = repr(self.source) if isinstance(self.source, str) else getattr(self.source, "__qualname__", "callable")
        return f"Loader({source})"


def _suffix(path: str) -> str | None:
    known = (*_NUMPY_SUFFIXES, *_PANDAS_READERS)
    return next((suffix for suffix in known if path.lower().endswith(suffix)), None)


def _check_suffix(path: str, has_arguments: bool) -> None:
    suffix = _suffix(path)
    if suffix is None:
        known = ", ".join((*_NUMPY_SUFFIXES, *_PANDAS_READERS))
        raise SettingError(
            f"a Loader cannot tell how to read {path!r}: it reads {known}. For anything else give a callable, "
            "such as Loader(joblib.load, path)"
        )
    if suffix in _NUMPY_SUFFIXES and has_arguments:
        raise SettingError(
            f"a Loader of {path!r} takes no further arguments: they are for callables and pandas' readers"
        )


def _read(path: str, args: tuple[object, ...], kwargs: dict[str, Any]) -> object:
    suffix = _suffix(path)
    if suffix == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False)
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    import pandas as pd

    return getattr(pd, _PANDAS_READERS[suffix or ""])(path, *args, **kwargs)
