from __future__ import annotations

from multiprocessing import spawn

import pytest

from dhpo.clusters._spawn import without_main_script

WORKER = "Dask Worker process (from Nanny)"
ORIGINAL = spawn.get_preparation_data


@pytest.fixture(autouse=True)
def with_script(monkeypatch):
    """As if the main module were a script, which the tests' own may not be."""
    import __main__

    monkeypatch.setattr(__main__, "__spec__", None)
    monkeypatch.setattr(__main__, "__file__", "/somewhere/script.py", raising=False)


def main_of(name):
    return spawn.get_preparation_data(name).get("init_main_from_path")


def test_only_dasks_workers_start_without_the_script():
    assert main_of(WORKER) == "/somewhere/script.py"
    with without_main_script():
        assert main_of(WORKER) is None
        assert spawn.get_preparation_data(WORKER)["sys_path"]
        assert main_of("Process-1") == "/somewhere/script.py"
    assert main_of(WORKER) == "/somewhere/script.py"


def test_the_last_to_leave_restores_python():
    with without_main_script():
        with without_main_script():
            pass
        assert main_of(WORKER) is None
    assert spawn.get_preparation_data is ORIGINAL


def test_an_error_restores_python():
    with pytest.raises(RuntimeError), without_main_script():
        raise RuntimeError
    assert spawn.get_preparation_data is ORIGINAL
