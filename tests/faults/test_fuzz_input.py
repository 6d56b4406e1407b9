"""Tables, configuration files and problem definitions with anything in them: used, or refused with a message."""

from __future__ import annotations

import datetime
import warnings
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhpo import CBO, HpProblem, Search
from dhpo.clusters.pbs import PBS
from dhpo.clusters.slurm import Slurm
from dhpo.errors import DhpoError

SPACE = {"x": (0.0, 1.0), "n": (1, 100), "c": ["a", "b", None]}
#: What a cell of a table, or a value in a configuration file, may hold by accident.
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(
        ["F_oom", "F", "0.5", "1e400", "nan", "inf", "a", "", "-", "(1, 2)", "=cmd()", "\x1b[2J", "٣", "1_0"]
    ),
    st.sampled_from(
        [Decimal(1), 1j, b"x", pd.NaT, pd.NA, np.float32(0.5), datetime.date(2020, 1, 1), object(), (), [1.0]]
    ),
)
COLUMNS = ("p:x", "p:n", "p:c", "objective", "objective_0", "objective_1", "job_status", "m:resource", "m:", "p:", "")
CELLS = st.text(st.sampled_from('0123456789.,;-eE"\n\r\t\x00 aFnN\ufeff\x1b'), max_size=80)


def make_search() -> Search:
    return Search(SPACE, lambda c: c.x, cluster="serial", searcher=CBO(), random_state=1)


def take_in(results: Any) -> int:
    """Give results to all that reads such; how many readers took them. Any error but dhpo's own comes through."""
    taken, messages = 0, []
    for reader in ("add_results", "fit_generative_model", "fit_surrogate", "fit_search_space"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                getattr(make_search(), reader)(results)
                taken += 1
            except DhpoError as error:
                messages.append(str(error))
    assert all(0 < len(message) < 20_000 for message in messages)
    return taken


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(COLUMNS), max_size=6).flatmap(
        lambda names: st.tuples(
            st.just(names), st.lists(st.lists(ODD, min_size=len(names), max_size=len(names)), max_size=14)
        )
    )
)
def test_frames_of_anything(table: tuple[list[str], list[list[Any]]]) -> None:
    names, rows = table
    take_in(pd.DataFrame(rows, columns=names, dtype=object))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.one_of(ODD, st.tuples(ODD, ODD), st.tuples(st.dictionaries(st.text(max_size=2), ODD, max_size=3), ODD)))
)
def test_pairs_of_anything(pairs: list[Any]) -> None:
    take_in(pairs)


@settings(deadline=None, max_examples=60)
@given(st.one_of(CELLS, CELLS.map(lambda cells: "p:x,p:n,p:c,objective\n" + cells)))
def test_files_of_anything(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.csv"
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    take_in(path)


def test_a_file_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    for name, content in {"bytes.csv": bytes(range(256)) * 8, "zeros.csv": bytes(4096), "empty.csv": b""}.items():
        (tmp_path / name).write_bytes(content)
        assert take_in(tmp_path / name) == 0
    (tmp_path / "folder.csv").mkdir()
    for missing in ("folder.csv", "none.csv", "a\0b.csv", "journal.pkl"):
        assert take_in(f"{tmp_path}/{missing}") == 0


def test_good_tables_are_taken(tmp_path: Path) -> None:
    """What this file looks for would be found: the same readers take what is right."""
    frame = pd.DataFrame({"p:x": np.linspace(0, 1, 12), "p:n": range(1, 13), "p:c": "a", "objective": np.arange(12.0)})
    frame.to_csv(tmp_path / "good.csv", index=False)
    assert take_in(frame) == take_in(tmp_path / "good.csv") == 4


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(
        st.one_of(st.text(max_size=4), ODD.filter(lambda value: getattr(value, "__hash__", None) is not None)),
        st.one_of(ODD, st.lists(ODD, max_size=4), st.lists(ODD, max_size=4).map(tuple)),
        max_size=4,
    )
)
def test_problems_of_anything(definition: dict[Any, Any]) -> None:
    with suppress(DhpoError):
        HpProblem(definition).sample(2, np.random.default_rng(1))


CONFIGURED = (
    "n-workers", "queue", "account", "cores", "job-cpu", "memory", "walltime", "interface", "python", "log-directory",
    "job-extra-directives", "job-script-prologue", "job-directives-skip", "local-directory", "worker-extra-args",
    "resource-spec", "name", "shebang",
)  # fmt: skip
YAML = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 10**6), st.floats(), st.text(max_size=5), st.just("02:00:00")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@pytest.fixture(name="batch", params=[("slurm", Slurm), ("pbs", PBS)], ids=["slurm", "pbs"], scope="module")
def batch_fixture(request: pytest.FixtureRequest) -> tuple[str, Any]:
    return request.param  # type: ignore[no-any-return]


@settings(deadline=None, max_examples=150)
@given(values=st.dictionaries(st.sampled_from(CONFIGURED), YAML, max_size=4))
def test_configuration_files_of_anything(batch: tuple[str, Any], values: dict[str, Any]) -> None:
    section, make = batch
    with dask.config.set({f"jobqueue.{section}": {"n-workers": 2, **values}}):
        try:
            job = make().settings
        except DhpoError:
            return
        assert job.n_workers >= 1
        assert job.num_cpus >= 1
        assert all(isinstance(line, str) for line in (*job.job_directives, *job.prologue))
        assert str(job)


@pytest.mark.parametrize("section", ["slurm", "pbs"])
def test_a_section_that_is_no_mapping(section: str) -> None:
    for value in (3, "text", ["a"], None):
        with dask.config.set({f"jobqueue.{section}": value}), pytest.raises(DhpoError):
            {"slurm": Slurm, "pbs": PBS}[section]()
