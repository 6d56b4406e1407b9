"""Several searches on the command line: ``DIR`` or ``LABEL=DIR``; those of one label are runs of one search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dhpo.results import Results

Directories = Annotated[
    list[str],
    typer.Argument(
        metavar="[LABEL=]DIR...",
        help="The directories of searches; those with the same LABEL are repeated runs of one.",
    ),
]


def load_searches(given: list[str]) -> dict[str, list[Results]]:
    """The results by their labels; a directory without one is labelled by its name.

    Raises:
        JournalError: a directory has no journal.
    """
    from dhpo.results import Results

    found: dict[str, list[Results]] = {}
    for text in given:
        label, equals, path = text.partition("=")
        if not equals or not label or Path(text).is_dir():
            path, label = text, Path(text).resolve().name
            if label in found:  # two searches that happen to have the same name
                label = text
        found.setdefault(label, []).append(Results.load(path))
    return found
