"""ConfigSpace without scipy.stats: imported quickly, and no different where the distributions are used."""

from __future__ import annotations

import ast
import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from dhpo import HpProblem
from dhpo._configspace import _DEFERRED, _Deferred, _StandIn

PACKAGE = Path(__file__).parents[2] / "dhpo"
SPACE = '{"a": (0.0, 1.0), "b": (1, 10), "c": (1, 1000, "log-uniform"), "d": ["x", "y"], "e": [1, 2]}'


def run(script: str) -> str:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def test_a_space_without_priors_needs_no_scipy() -> None:
    script = f"""
import copy, pickle, sys
from dhpo import HpProblem
problem = HpProblem({SPACE})
problem.sample(5, 0)
again = pickle.loads(pickle.dumps(copy.deepcopy(problem)))
print(again == problem, [name for name in sys.modules if name.partition(".")[0] == "scipy"])
"""
    assert run(script) == "True []"


@pytest.mark.parametrize("first", ["", "import ConfigSpace", "import scipy.stats"])
def test_it_works_whatever_was_imported_before(first: str) -> None:
    script = f"""
{first}
from dhpo import HpProblem
problem = HpProblem({{**{SPACE}, "n": {{"mu": 0.5, "sigma": 0.1}}, "m": {{"mu": 5, "sigma": 2}}}})
import scipy.stats
from scipy.stats import qmc, rankdata
print(len(problem.sample(5, 0)), type(scipy.stats).__name__, len(problem.space.sample_configuration(5)))
"""
    assert run(script) == "5 module 5"


def test_spaces_compare_as_before() -> None:
    form = {"c": (1, 1000, "log-uniform"), "n": {"mu": 0.5, "sigma": 0.1}}
    problem, other = HpProblem(form), HpProblem({**form, "n": {"mu": 0.5, "sigma": 0.2}})
    assert problem.space == pickle.loads(pickle.dumps(problem.space))
    assert problem.space == copy.deepcopy(problem.space)
    assert problem.space != other.space


def test_a_deferred_name_is_the_object() -> None:
    floor = _Deferred("math", "floor")
    assert floor(2.5).resolve() == 2
    assert pickle.loads(pickle.dumps(floor(2.5))).resolve() == 2
    number = _Deferred("numbers", "Number")
    assert isinstance(3, number)  # type: ignore[arg-type]
    assert isinstance(floor(2.5), number)  # type: ignore[arg-type]
    assert not isinstance("3", number)  # type: ignore[arg-type]
    assert number.__name__ == "Number"


def test_others_find_all_of_the_module_in_the_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    import scipy.stats

    stand_in = _StandIn("scipy.stats", [])
    monkeypatch.setitem(sys.modules, "scipy.stats", scipy.stats)
    assert stand_in.rankdata is scipy.stats.rankdata
    assert sys.modules["scipy.stats"] is scipy.stats
    assert stand_in.truncnorm.resolve() is scipy.stats.truncnorm


def test_config_space_takes_nothing_else_from_scipy() -> None:
    script = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("scipy."):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import dhpo._configspace
print("imported")
"""
    assert run(script) == "imported"
    assert set(_DEFERRED) == {"scipy.stats", "scipy.stats._distn_infrastructure"}


def test_nobody_else_imports_config_space() -> None:
    guilty = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == "ConfigSpace" for name in names):
                guilty.add(path.name)
    assert guilty == {"_configspace.py"}
