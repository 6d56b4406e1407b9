"""The page: all sections in one file."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from dhpo import journal
from dhpo.errors import DhpoError
from dhpo.importance import Effect
from dhpo.plots.data import effects_of, view_of
from dhpo.plots.gallery import Draw, drawable
from dhpo.report import sections
from dhpo.report.markup import escaped, note, section
from dhpo.report.svg import inline_svg
from dhpo.results import Results

_CAPTIONS = {
    "front": "All that was reported, and the Pareto front.",
    "hypervolume": "The hypervolume of the front over time.",
    "hypervolume_by_trials": "The hypervolume of the front by trials.",
    "incumbent": "The best value so far over time.",
    "incumbent_by_trials": "The best value so far by trials.",
    "learning_curves": "What each trial reported.",
    "rungs": "What became of trials at each rung; ρ is the rank correlation with the next rung.",
    "workers": "The latest runs of trials.",
    "utilisation": "Busy workers.",
    "importance": "Shares of the variance.",
    "parallel": "The best and the latest configurations.",
    "slices": "The surrogate around the best configuration: mean and standard deviation; points are trials.",
    "contour": "The surrogate over the two hyperparameters that matter most; the star is the best configuration.",
    "model_check": "Each value as predicted by a model that has not seen its configuration.",
}
#: In sections of their own.
_ELSEWHERE = ("rungs", "workers", "utilisation", "importance")
_LINKS = {
    "summary": "Summary", "best": "Best", "front": "Front", "figures": "Figures", "rungs": "Rungs",
    "importance": "Importance", "failures": "Failures", "workers": "Workers", "settings": "Settings",
}  # fmt: skip


class Report(NamedTuple):
    """A report."""

    html: str
    figures: list[str]  # the names of those that are in it


def write_report(directory: Path | str, path: Path | str | None = None) -> tuple[Path, Report]:
    """Write the report of a search, running or finished.

    Args:
        directory: of the search.
        path: the file; by default ``report.html`` in that directory.

    Returns:
        The file, and what is in it.

    Raises:
        JournalError: there is no journal, or it cannot be read.
        DhpoError: matplotlib is not installed.
    """
    header, _ = journal.read(directory)
    report = make_report(Results.load(directory), header.search_id, Path(directory).resolve().name)
    target = Path(directory) / "report.html" if path is None else Path(path)
    target.write_text(report.html, encoding="utf-8")
    return target, report


def make_report(results: Results, search_id: str = "", name: str = "") -> Report:
    """Make the report of a search.

    Nothing in it is fetched from elsewhere, and nothing that a search reported is taken for HTML. Of long tables and
    of many points only a part is in it, so that the file stays small for any number of trials.

    Args:
        results: of the search.
        search_id: of its journal.
        name: what people call it.

    Raises:
        DhpoError: matplotlib is not installed.
    """
    view = view_of(results)
    view.search_id = search_id
    figures: dict[str, str] = {}
    for figure, draw in drawable(results).items():
        figures[figure] = _figure(figure, draw, results)
    own = [markup for figure, markup in figures.items() if _kind(figure) not in _ELSEWHERE]
    parts = [
        sections.summary_section(view),
        sections.best_section(view),
        sections.front_section(view),
        section("figures", "Figures", '<div class="grid">', *own, "</div>") if own else "",
        sections.rungs_section(view, figures.get("rungs", "")),
        sections.importance_section(_effects(results), figures.get("importance", "")),
        sections.failures_section(view),
        sections.workers_section(view, figures.get("workers", ""), figures.get("utilisation", "")),
        sections.settings_section(view),
    ]
    links = "".join(f'<a href="#{place}">{title}</a>' for place, title in _LINKS.items()
                    if any(part.startswith(f'<section id="{place}"') for part in parts))  # fmt: skip
    files = resources.files("dhpo.report")
    template, style = (files.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css"))
    content = {"title": escaped(name or "search"), "style": style, "links": links, "content": "\n".join(parts)}
    page = re.sub(r"\{\{ (\w+) \}\}", lambda found: content[found[1]], template)
    return Report(page.encode("utf-8", "replace").decode(), list(figures))


def _kind(figure: str) -> str:
    return re.sub(r"_\d+$", "", figure)


def _figure(name: str, draw: Draw, results: Results) -> str:
    kind = _kind(name)
    caption = _CAPTIONS[kind]
    if name != kind:
        caption = f"{results.objectives.names[int(name.removeprefix(kind + '_'))]}: {caption}"
    try:
        svg = inline_svg(name, draw)
    except DhpoError as error:
        if isinstance(error.__cause__, ImportError):
            raise
        svg = note(f"It could not be drawn: {error}")
    return sections.figure_markup(kind, caption, svg)


def _effects(results: Results) -> dict[str, dict[str, Effect]]:
    if results.problem is None:
        return {}
    return {goal: effects_of(results, goal) for goal in results.objectives.names}
