"""What the documents show is run.

Every Python block is a program, run by itself in an empty directory. An invisible comment on the line before a block
changes that: ``<!-- continues -->`` adds it to the block before it, ``<!-- runs after PATH -->`` puts the file of that
path before it, ``<!-- needs MODULE -->`` only compiles it where that module is not installed, and
``<!-- shown only -->`` always does, for a program of another library.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import dhpo

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "jobscripts" / "README.md",
    *(ROOT / "docs").rglob("*.md"),
]

_BLOCK = re.compile(r"^(?:<!-- ([^\n]*) -->\n)?( *)```(python|console)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


#: The module, if any, without which a program is only compiled.
NEEDS: dict[str, str] = {}


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    comment: str
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path, language: str) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _BLOCK.finditer(text):
        if match[3] == language:
            line = text.count("\n", 0, match.start(4)) + 1
            yield Block(page, line, match[1] or "", language, textwrap.dedent(match[4]))


def programs() -> Iterator[tuple[str, str]]:
    """The name and the text of each program."""
    for page in sorted(PAGES):
        current: tuple[str, str] | None = None
        for block in blocks(page, "python"):
            if block.comment == "shown only":
                continue
            if block.comment == "continues":
                assert current, f"{block.name} continues nothing"
                current = (current[0], f"{current[1]}\n{block.text}")
                continue
            if current:
                yield current
            before = ""
            if block.comment.startswith("runs after "):
                before = (ROOT / block.comment.removeprefix("runs after ")).read_text(encoding="utf-8")
            current = (block.name, before + block.text)
            NEEDS[block.name] = block.comment.removeprefix("needs ") if block.comment.startswith("needs ") else ""
        if current:
            yield current


PROGRAMS = dict(programs())
COMMANDS = [
    (f"{block.name} {line}", line.removeprefix("$ "))
    for page in sorted(PAGES)
    for block in blocks(page, "console")
    for line in block.text.splitlines()
    if re.match(r"\$ (dhpo|make) ", line)
]


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, tmp_path: Path) -> None:
    if (module := NEEDS.get(name)) and importlib.util.find_spec(module) is None:
        compile(PROGRAMS[name], name, "exec")
        return
    (tmp_path / "program.py").write_text(PROGRAMS[name], encoding="utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "MPLBACKEND": "Agg",
        "DASK_CONFIG": str(tmp_path / "dask"),  # dask-jobqueue writes its defaults there
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("DHPO_SCHEDULER_FILE", None)
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{name}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    ("name", "text"),
    [(b.name, b.text) for page in sorted(PAGES) for b in blocks(page, "python") if b.comment == "shown only"],
)
def test_what_is_only_shown_is_python(name: str, text: str) -> None:
    compile(text, name, "exec")
    assert not re.search(r"^\s*(from|import) dhpo", text, re.MULTILINE), f"{name}: dhpo's own programs are run"


def test_the_site_is_built_without_warnings(tmp_path: Path) -> None:
    """As ``make docs`` builds it: every link, role and name that leads nowhere fails it."""
    if not os.environ.get("CI"):
        pytest.importorskip("sphinx", reason="pip install 'dhpo[docs]'")
    site = tmp_path / "site"
    options = ["-W", "--keep-going", "-n", "-q", "-b", "html", "-d", tmp_path / "trees"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ROOT / "docs", site],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs")).with_suffix(".html").exists()


def test_the_reference_has_every_public_name() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    missing = [name for name in dhpo.__all__ if name[0] != "_" and not re.search(rf"\bdhpo\.{name}\b", pages)]
    assert not missing


@cache
def usage(*command: str) -> str | None:
    """What ``dhpo … --help`` says; None where there is no such command."""
    program = "import sys; sys.argv[0] = 'dhpo'; from dhpo.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *command, "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None


@pytest.mark.parametrize(("name", "line"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_command(name: str, line: str) -> None:
    program, *words = shlex.split(line, comments=True)
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"^{word}:", makefile, re.MULTILINE) for word in words if "=" not in word)
        return
    command = words[:1] if words and not words[0].startswith("-") else []
    text = usage(*command)
    assert text is not None, f"{name}: there is no such command"
    for word in words[len(command) :]:
        if word.startswith("-") and word != "--":
            option = word.partition("=")[0]
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), f"{name}: there is no {option}"


SUBMISSIONS = [(name, line) for name, line in COMMANDS if line.startswith("dhpo submit ") and ".py" in line]
SCRIPTS = [
    (f"{block.name} {name}", name)
    for page in sorted(PAGES)
    for block in blocks(page, "console")
    for name in re.findall(r"^\$ (?:sbatch|qsub) .*?([\w/]+\.sh)$", block.text, re.MULTILINE)
]


@pytest.mark.parametrize("line", [line for _, line in SUBMISSIONS], ids=[name for name, _ in SUBMISSIONS])
def test_submission(line: str, tmp_path: Path) -> None:
    for word in shlex.split(line, comments=True):
        if word.endswith(".py"):
            (tmp_path / word).write_text("search = None\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(line, comments=True), "--dry-run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    checked = subprocess.run(["bash", "-n"], input=done.stdout, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(("name", "script"), SCRIPTS, ids=[name for name, _ in SCRIPTS])
def test_script(name: str, script: str) -> None:
    assert (ROOT / "jobscripts" / Path(script).name).exists(), f"{name}: there is no such script"


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_links(page: Path) -> None:
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if re.match(r"\w+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link} names no heading"


def test_programs_and_commands_were_found() -> None:
    readme = [block.line for block in blocks(ROOT / "README.md", "python")]
    assert len(readme) == (ROOT / "README.md").read_text(encoding="utf-8").count("```python")
    assert any(" dhpo status" in f" {line}" for _, line in COMMANDS)
    assert SUBMISSIONS
    assert SCRIPTS
