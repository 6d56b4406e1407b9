"""What ``docs/reliability.md`` promises, a test shows: each that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = [
    line
    for line in PAGE.partition("<!-- rows -->")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| fault")
]


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    # A state machine's test case is an attribute of the module.
    return names | {
        t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)
    }


def test_each_row_names_tests_that_are_there() -> None:
    assert len(ROWS) > 20
    for row in ROWS:
        *_, cell = row.strip("| ").split(" | ")
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)", cell)
        assert named, f"no test in: {row}"
        for file, name in named:
            assert name in names_in(ROOT / file), f"{file} has no {name}"


def test_every_fault_has_its_loss() -> None:
    for row in ROWS:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4, row
        assert all(cells), row
