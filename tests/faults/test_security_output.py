"""What trials say is shown, not obeyed: error texts and names with terminal escape sequences in them."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fuzz_cli import call

import dhpo
from dhpo.cli.tables import cell, printable, table

OBEYED = set("\x1b\x07\x08\x7f\x9b\r\u202e\u2066")
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\x08\x7f\u202e\r"


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    made = printable(text)
    assert all(c in "\n\t" or not unicodedata.category(c).startswith(("Cc", "Cs")) for c in made)
    assert not set(made) & OBEYED
    made.encode()
    assert printable(made) == made
    assert "\n" not in cell(text)


def test_plain_text_is_left_alone() -> None:
    for text in ("", "a b\n\tc", "Größe × 3 → 4 …", "日本語", "🙂"):
        assert printable(text) == text
    assert table(["a\x1b"], [["b\x1b"]]) == "a\\x1b\nb\\x1b"


@pytest.fixture(name="run", scope="module")
def run_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search whose trials fail, are named, and configured by escape sequences."""
    directory = tmp_path_factory.mktemp("escapes") / "run\x1b[2J"

    def train(config: Any) -> Any:
        if config["n"] == 1:
            raise ValueError(f"no {ESCAPES} luck")
        return {"objective": 1.0, "metadata": {ESCAPES: ESCAPES}}

    search = dhpo.Search(
        {"n": [0, 1, 2], "c": [ESCAPES]}, train, cluster="serial", searcher="random", log_dir=directory, random_state=1
    )
    search.run(3, progress=False)
    return directory


@pytest.mark.parametrize("command", ["status", "best", "trials", "front"])
def test_commands_show_them(run: Path, command: str) -> None:
    code, told = call(command, str(run))
    assert code == 0
    assert not set(told) & OBEYED
    if command in ("status", "trials"):
        assert "\\x1b]0;owned\\x07" in told


def test_errors_show_them(run: Path) -> None:
    code, told = call("status", str(run.with_name("none\x1b[2J")))
    assert code == 1
    assert "none\\x1b[2J" in told
    assert "\x1b" not in told


def test_json_has_them_escaped(run: Path) -> None:
    code, told = call("trials", str(run), "--json")
    assert code == 0
    assert "\x1b" not in told
    assert any(ESCAPES.split("\r")[0] in (row["error"] or "") for row in json.loads(told))
