"""Data that the workers load themselves, once for a node."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dhpo.errors import DataError, SettingError
from dhpo.worker.loader import Loader
from dhpo.worker.mount import mount
from dhpo.worker.package import pack


def identity(config: Any) -> Any:
    return config


def big(rows: int = 2000) -> np.ndarray[Any, Any]:
    return np.arange(rows * 10, dtype=np.float64).reshape(rows, 10)


# Loaders.


def test_a_loader_reads_by_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"a": np.arange(2000.0), "b": np.arange(2000)})
    np.save(tmp_path / "x.npy", big())
    np.savez(tmp_path / "x.npz", X=big(), y=np.arange(3))
    frame.to_csv(tmp_path / "x.csv", index=False, sep=";")
    frame.to_parquet(tmp_path / "x.parquet")
    monkeypatch.chdir(tmp_path)

    packed = pack(
        identity,
        {
            "npy": Loader("x.npy"),
            "npz": Loader(tmp_path / "x.npz"),
            "csv": Loader("x.csv", sep=";"),
            "parquet": Loader("x.parquet", columns=["b"]),
            "plain": 7,
        },
        directory=None,
    )
    monkeypatch.chdir("/")
    with mount(packed.package, scratch=tmp_path) as mounted:
        np.testing.assert_array_equal(mounted.data["npy"], big())
        np.testing.assert_array_equal(mounted.data["npz"]["X"], big())
        assert mounted.data["npz"]["y"].tolist() == [0, 1, 2]
        pd.testing.assert_frame_equal(mounted.data["csv"], frame)
        pd.testing.assert_frame_equal(mounted.data["parquet"], frame[["b"]])
        assert mounted.data["plain"] == 7
        for array in (mounted.data["npy"], mounted.data["npz"]["X"], mounted.data["csv"]["a"].to_numpy()):
            assert not array.flags.writeable


def test_a_loader_loads_once_for_a_node(tmp_path: Path) -> None:
    log = tmp_path / "log"
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def load(rows: int, *, value: float) -> Any:
        with log.open("a") as file:
            file.write("loaded\n")
        return {"X": np.full(rows, value), "meta": "m"}

    package = pack(identity, Loader(load, 5000, value=3.0), directory=None).package
    first, second = mount(package, scratch=scratch), mount(package, scratch=scratch)

    assert log.read_text() == "loaded\n"
    assert second.data["X"].sum() == 15_000
    assert second.data["meta"] == "m"
    assert not first.data["X"].flags.writeable
    first.close()
    second.close()
    assert list(scratch.iterdir()) == []


def test_what_a_loader_returns_need_not_be_picklable(tmp_path: Path) -> None:
    package = pack(identity, Loader(lambda: [threading.Lock(), 5]), directory=None).package
    with mount(package, scratch=tmp_path) as first, mount(package, scratch=tmp_path) as second:
        assert first.data[1] == second.data[1] == 5
        assert first.data[0] is not second.data[0]


def test_a_loader_says_what_is_wrong(tmp_path: Path) -> None:
    for wrong in ("x.pkl", "x", tmp_path / "x.txt"):
        with pytest.raises(SettingError, match="give a callable"):
            Loader(wrong)
    with pytest.raises(SettingError, match="no further arguments"):
        Loader("x.npy", mmap_mode="r+")
    with pytest.raises(SettingError, match="a path or a callable, not 3"):
        Loader(3)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"Loader\('/not/there\.npy'\) does not find '/not/there\.npy'"):
        mount(pack(identity, Loader("/not/there.npy"), directory=None).package)
    with pytest.raises(DataError, match=r"failed on .*ValueError: no such set"):
        mount(pack(identity, Loader(fails), directory=None).package, scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def fails() -> None:
    raise ValueError("no such set")
