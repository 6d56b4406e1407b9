"""Sphinx builds the pages of this folder as a site: ``make docs``."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from dhpo import __version__

project = "dhpo"
author = "the authors of dhpo"
project_copyright = author
release = version = __version__
language = "en_GB"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]

html_theme = "furo"
html_title = f"dhpo {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
copybutton_exclude = ".linenos, .gp, .go"

# The pages are read on their own as well: their links and anchors are those of plain Markdown.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 100

# Whatever a docstring or a signature names of dhpo must exist (see settle); other packages are not looked into.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!dhpo\.).*")]

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+(?:\w+/)*\w+\.md)\)")


def link_outside(app: Any, docname: str, source: list[str]) -> None:
    """A link to a page that is not in this folder, such as the README, hands out its file."""

    def link(match: re.Match[str]) -> str:
        target = (app.srcdir / docname).parent / match[2]
        inside = target.resolve().is_relative_to(app.srcdir)
        return match[0] if inside else f"{{download}}`{match[1]} <{match[2]}>`"

    source[0] = _OUTSIDE.sub(link, source[0])


def found(name: str) -> Any:
    """The object of a dotted name; None where there is none."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            value: Any = import_module(".".join(parts[:n]))
        except ImportError:
            continue
        for part in parts[n:]:
            fields = getattr(value, "__annotations__", {})
            value = getattr(value, part, fields.get(part))
        return value
    return None


def settle(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """A name that has no entry here: link to the entry of the same object, or leave it unlinked if it exists."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    module, owner = node.get("py:module"), node.get("py:class")
    scopes = [f"{module}.{owner}.{target}", f"{module}.{target}", target]
    value = next((value for name in scopes if (value := found(name)) is not None), None)
    if value is None:
        return None
    domain = env.domains["py"]
    last = target.rpartition(".")[2]
    for name in domain.objects:
        if name.rpartition(".")[2] == last and name != target and found(name) is value:
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, contnode)
    return contnode


def setup(app: Any) -> None:
    """Add what is above to Sphinx."""
    app.connect("source-read", link_outside)
    app.connect("missing-reference", settle)
