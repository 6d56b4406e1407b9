"""The layers of the code: imports go down or sideways, never up and never in a circle; what is pure stays pure.

``docs/architecture.md`` shows the same table to people.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "dhpo"

#: Every module by floor. A package stands for all that is in it; a private module ``_x.py`` of ``dhpo`` itself is named
#: with the module that it serves.
FLOORS: dict[int, tuple[str, ...]] = {
    7: ("dhpo", "__main__", "cli", "compat", "sklearn", "plots", "report", "export"),
    6: (
        "search", "warm_start", "driver", "control", "_desk", "manual", "loop", "session", "_replay", "_sieve",
        "callbacks", "_background", "_cv_trials", "_cv_results", "progress", "function", "dashboard", "compare",
        "results", "_frame", "_front", "_points", "_rows", "_progress", "_ending", "_trials", "results_csv",
    ),
    5: (
        "script_trial", "_script_arguments", "_script_process",
        "executors", "clusters", "worker", "proposer", "searcher_process",
        "journal", "_header", "_codec", "_lines", "_scan", "_blocks", "_packing", "_cache", "_reading", "_tail",
        "_collector",
    ),
    4: ("study", "_trial_state", "budget", "known", "walltime", "importance", "response"),
    3: ("searchers", "stopping"),
    2: (
        "pareto", "scalarization", "ranks",
        "space", "_space_json", "_space_values", "_configspace", "encoding", "_columns", "_conditions",
    ),
    1: ("_html", "trial", "objectives", "events"),
    0: ("errors", "_version"),
}  # fmt: skip

#: From here on up modules may use Dask, files, clocks, threads and processes.
FIRST_IMPURE = 5
IMPURE = {
    "asyncio", "concurrent", "dask", "distributed", "fcntl", "io", "logging", "multiprocessing", "os", "pathlib",
    "random", "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time", "uuid",
}  # fmt: skip
#: An earlier search's results may be given by the path of a file.
EXCEPTIONS = {("dhpo.searchers.prior", "os")}

HEAVY = ("distributed", "dask", "sklearn", "scipy", "pandas", "numpy", "matplotlib", "ConfigSpace", "bokeh", "tqdm")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def row_of(module: str) -> str:
    """What the table calls a module by: "dhpo" itself, or the first name below it."""
    return module.split(".")[1] if "." in module else module


def floor_of(module: str) -> int:
    return next((floor for floor, rows in FLOORS.items() if row_of(module) in rows), max(FLOORS))


def imported(tree: ast.AST, modules: Mapping[str, object]) -> Iterator[str]:
    """The modules that a module imports anywhere in it, also within functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            assert not node.level, f"line {node.lineno}: import by the full name"
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in modules else base


def imports(module: str) -> set[str]:
    return set(imported(ast.parse(MODULES[module].read_text(encoding="utf-8")), MODULES))


IMPORTS = {module: imports(module) for module in MODULES}


def own(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] == "dhpo"}


def test_the_table_names_every_module_once() -> None:
    rows = [row for floor in FLOORS.values() for row in floor]
    assert len(rows) == len(set(rows))
    assert set(rows) == {row_of(module) for module in MODULES}


def test_the_document_shows_the_same_table() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", text, flags=re.MULTILINE)
    shown: dict[int, set[str]] = {}
    for floor, cell in rows:
        names = {name.removesuffix("/").removesuffix(".py") for name in re.findall(r"`dhpo/([^`]+)`", cell)}
        shown.setdefault(int(floor), set()).update("dhpo" if name == "__init__" else name for name in names)
    public = {
        floor: {row for row in rows if row == "__main__" or not row.startswith("_")} for floor, rows in FLOORS.items()
    }
    assert shown == public


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_or_sideways(module: str) -> None:
    upwards = {name for name in own(IMPORTS[module]) if floor_of(name) > floor_of(module)}
    assert not upwards, f"{module} (floor {floor_of(module)}) imports {upwards} from above"


def test_no_circles() -> None:
    # The package itself only hands out what is below it, on demand: nothing may import from it.
    sorter = TopologicalSorter({module: own(names) for module, names in IMPORTS.items()})
    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


@pytest.mark.parametrize("module", [module for module in MODULES if floor_of(module) < FIRST_IMPURE])
def test_the_core_is_pure(module: str) -> None:
    used = {name.split(".")[0] for name in IMPORTS[module]}
    assert {(module, name) for name in used & IMPURE} <= EXCEPTIONS
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if isinstance(call, ast.Name) and call.id in ("open", "print", "input")]


@pytest.mark.parametrize("module", [module for module in MODULES if floor_of(module) < FIRST_IMPURE])
def test_the_core_has_no_generator_of_its_own(module: str) -> None:
    """What is random comes from a seed that was handed in: no unseeded and no global generator."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if re.fullmatch(r"np\.random\.\w+", name):
            assert name.rpartition(".")[2] in ("default_rng", "SeedSequence", "RandomState"), (
                f"line {node.lineno}: {name}"
            )
            assert node.args, f"line {node.lineno}: give {name} a seed"


def test_importing_dhpo_loads_nothing_heavy() -> None:
    program = f"import sys, dhpo; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_public_names_exist_and_are_documented() -> None:
    import dhpo

    for name in dhpo.__all__:
        value = getattr(dhpo, name)
        assert name.startswith("__") or value.__doc__, name


def test_what_this_file_looks_for_would_be_found() -> None:
    tree = ast.parse("import os.path\ndef f():\n    from dhpo import loop\n    from dhpo.study import Study\n")
    assert set(imported(tree, MODULES)) == {"os.path", "dhpo.loop", "dhpo.study"}
