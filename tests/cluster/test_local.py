from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dhpo import Search
from dhpo.clusters.local import Local


def dies_once(config: Any) -> dict[str, Any]:
    import numpy as np

    marker = Path(os.environ["DHPO_TEST_DIRECTORY"], "died")
    if not marker.exists():
        marker.touch()
        os._exit(1)
    return {"objective": config["x"], "parent": os.getppid(), "pid": os.getpid(), "draw": float(np.random.random())}  # noqa: NPY002


def test_workers_are_forked_by_one_server_and_again_when_they_die(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("DHPO_TEST_DIRECTORY", str(tmp_path))
    search = Search({"x": (0.0, 1.0)}, dies_once, cluster=Local(2), searcher="random", log_dir=tmp_path / "search")
    before = {k: v for k, v in os.environ.items() if not k.startswith("__DASK")}
    frame = search.run(12, progress=False).to_frame()
    assert (tmp_path / "died").exists()
    assert len(frame) == 12
    assert frame["objective"].notna().all()
    assert frame["m:parent"].nunique() == 1
    assert frame["m:parent"].iloc[0] != os.getpid()
    assert frame["m:draw"].nunique() == 12
    assert {k: v for k, v in os.environ.items() if not k.startswith("__DASK")} == before
    assert not any(Path(f"/proc/{pid}").exists() for pid in {*frame["m:pid"], *frame["m:parent"]})
