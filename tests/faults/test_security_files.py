"""What a search reads is data, never code; what it writes stays in its directory, and is its owner's."""

from __future__ import annotations

import ast
import os
import pickle
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pandas as pd
import pytest

import dhpo
from dhpo import Results, Search
from dhpo import journal as journals
from dhpo.cli.status import read_status
from dhpo.cli.views import status_text
from dhpo.errors import DhpoError

PACKAGE = Path(dhpo.__file__).parent
#: Who reads or writes pickles, and of whom: always what this driver or its own worker has made for this run.
PICKLES = {
    "worker/_pickling.py",  # packs the run function
    "worker/package.py",  # likewise, with its data
    "worker/mount.py",  # unpacks both, on the worker
    "worker/station.py",  # reads the trial that the driver sends
    "executors/_tasks.py",  # sends it
    "searcher_process.py",  # talks to the searcher's own child process by its pipes
    "cli/script.py",  # has what a script defines travel by value
}
READERS = {"load", "loads", "Unpickler", "read_pickle", "eval", "exec", "unsafe_load", "literal_eval"}


class Planted:
    """A pickle that tells when it is read."""

    read: list[str] = []  # noqa: RUF012

    def __reduce__(self) -> Any:
        return (Planted.read.append, ("read",))


@pytest.fixture(name="unread")
def unread_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever reads a pickle now fails."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a pickle was read")

    for module in (pickle, cloudpickle):
        for name in ("load", "loads"):
            monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    monkeypatch.setattr(pd, "read_pickle", refuse)
    Planted.read.clear()
    yield
    assert Planted.read == []


def make_search(directory: Path | None = None) -> Search:
    return Search(
        {"x": (0.0, 1.0)}, lambda c: c.x, cluster="serial", searcher="random", random_state=1, log_dir=directory
    )


def test_only_what_travels_between_a_search_and_its_workers_is_pickled() -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if name.split(".")[0] in ("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml")
    }
    assert users == PICKLES


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_else_turns_bytes_into_code(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    names = {ast.unparse(call.func) for call in calls}
    assert not names & {"eval", "exec", "pd.read_pickle", "yaml.load", "yaml.unsafe_load", "marshal.loads"}
    for call in calls:
        if ast.unparse(call.func).endswith("np.load"):
            assert any(k.arg == "allow_pickle" and ast.unparse(k.value) == "False" for k in call.keywords)
        if ast.unparse(call.func).startswith("pickle.load"):
            assert str(path.relative_to(PACKAGE)) in PICKLES


def test_no_pickle_is_read_with_a_search_or_its_results(tmp_path: Path, unread: None) -> None:
    """Planted in whatever the directory holds, and in the tables of an earlier search."""
    run = tmp_path / "run"
    make_search(run).run(12, progress=False)
    planted = pickle.dumps(Planted())
    for name in ("results.pkl", "journal.pkl", "snapshot", "cache", "journal.jsonl.cache", ".journal.jsonl.snapshot"):
        (run / name).write_bytes(planted)
    results = make_search(run).run(14, progress=False)
    for way, name in (("to_csv", "out.csv"), ("to_json", "out.json")):
        getattr(results, way)(tmp_path / name)
    assert len(Results.load(run).to_frame()) == 14
    assert "14" in status_text(read_status(run))
    for source in (run, run / "results.csv", tmp_path / "out.csv", results):
        search = dhpo.Search({"x": (0.0, 1.0)}, lambda c: c.x, cluster="serial", searcher=dhpo.CBO(), random_state=1)
        search.fit_generative_model(source)
        assert len(search.add_results(source)) == 14
    for name in ("plain.pkl", "named.csv"):
        (tmp_path / name).write_bytes(planted)
        with pytest.raises(DhpoError):
            make_search().add_results(tmp_path / name)
    journal = (run / "journal.jsonl").read_bytes()
    (run / "journal.jsonl").write_bytes(planted)
    with pytest.raises(DhpoError):
        Results.load(run)
    (run / "journal.jsonl").write_bytes(journal)
    assert len(Results.load(run)) == 14


def test_arrays_of_objects_are_not_loaded(tmp_path: Path) -> None:
    Planted.read.clear()
    np.save(tmp_path / "data.npy", np.array([Planted()], dtype=object), allow_pickle=True)
    search = Search(
        {"x": (0.0, 1.0)}, lambda config, data: len(data), data=dhpo.Loader(tmp_path / "data.npy"), cluster="serial",
        searcher="random",
    )  # fmt: skip
    with pytest.raises(DhpoError):
        search.run(1, progress=False)
    assert Planted.read == []


ODD_NAMES = ["../outside", "/tmp/outside", "a/../../b", "..", "line\nbreak", "\x1b[2J", "\u202e", "con", "x" * 300]


def test_names_that_trials_choose_are_no_paths(tmp_path: Path) -> None:
    """Metrics, metadata and worker names go into the journal and tables; no file is named by them."""

    def train(config: Any, report: Any) -> Any:
        (report.checkpoint_dir / "model").write_text("m")
        report({"objective": 1.0, **dict.fromkeys(ODD_NAMES, 1.0)})
        return {"objective": 1.0, "metadata": dict.fromkeys(ODD_NAMES, "../../outside")}

    run = tmp_path / "parent" / "run"
    search = Search({"x": (0.0, 1.0)}, train, cluster="serial", searcher="random", log_dir=run)
    results = search.run(3, progress=False)
    assert len(results.to_frame()) == 3
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    trials = {f"parent/run/checkpoints/trial-{n}/model" for n in range(3)}
    assert trials < found
    assert all(name.startswith("parent/run/") for name in found)
    assert set(os.listdir(tmp_path)) == {"parent"}
    # The directory is its owner's, and so is all that is in it.
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert stat.S_IMODE((run / journals.FILE_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE((run / "checkpoints" / "trial-0").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["nul\0byte", "x" * 300, "line\nbreak", "\x1b[2J", "../up", "\udcff"])
def test_odd_directories_are_used_as_they_are_or_refused(tmp_path: Path, name: str) -> None:
    """A directory is the user's own choice; what cannot be one is an error of dhpo's."""
    (tmp_path / "here").mkdir()
    try:
        search = make_search(tmp_path / "here" / name)
        assert len(search.run(2, progress=False)) == 2
    except DhpoError as error:
        message = str(error)
        assert message
        assert os.listdir(tmp_path / "here") == []
        return
    assert search.directory == (tmp_path / "here" / name).resolve()
    assert (search.directory / journals.FILE_NAME).is_file()
