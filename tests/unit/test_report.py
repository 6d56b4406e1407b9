"""The report is one file that needs nothing else, and shows hostile names as text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from dhpo.events import Event, SessionOpened, TrialCompleted, TrialFailed, TrialProposed, TrialReported
from dhpo.plots import drawable
from dhpo.report import make_report
from dhpo.report.markup import escaped
from dhpo.report.svg import inline_svg
from dhpo.results import Results
from dhpo.space import HpProblem

HOSTILE = '</svg><script>alert("$x^{")</script><img src=x onerror=alert(1)>'
VOID = {"meta", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """What a browser would make of it: the tags, what they refer to, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [
            value or "" for name, value in attrs if name in ("href", "src", "srcset", "action", "xlink:href")
        ]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def search(objectives: dict[str, str], trials: int, *, reports: bool = True, name: str = "x") -> Results:
    """Every fifth trial fails; names and errors are what the caller gives."""
    problem = HpProblem({name: (0.0, 1.0), "kind": ["a", name]})
    events: list[Event] = [SessionOpened(0.0, 0.0, "h", 1, "1")]
    for trial, config in enumerate(problem.sample(trials, 3)):
        events.append(TrialProposed(float(trial), trial, config, 0, "random", 0))
        start, end = float(trial), trial + 0.9
        if trial % 5 == 4:
            error = f"ValueError: {name} at {trial}"
            events.append(TrialFailed(end, trial, 1, error, "Traceback </pre>" + name, start, end, f"tcp://{name}:1"))
            continue
        values = {goal: config[name] * (i + 1) + trial / 100 for i, goal in enumerate(objectives)}
        for epoch in (1, 3) if reports else ():
            events.append(TrialReported(start + epoch / 9, trial, 1, epoch, float(epoch), values))
        events.append(TrialCompleted(end, trial, 1, None if reports else values, {}, False, start, end, "tcp://w:1"))
    stopper = {"stopper": "Hyperband", "time_attr": "epoch", "max_t": 3, "grace_period": 1, "reduction_factor": 3}
    settings = {"objectives": objectives, "problem": problem.to_json(), "note": name}
    return Results({**settings, "stopper": stopper if reports else None}, lambda: [events])


def sections(page: Page, html: str) -> set[str]:
    return set(re.findall(r'<section id="(\w+)"', html))


@pytest.mark.parametrize(("n_objectives", "reports"), [(1, True), (2, False), (3, True)])
def test_all_sections_are_there(n_objectives: int, reports: bool) -> None:
    objectives = dict(zip(("score", "seconds", "size"), ("MAX", "MIN", "MIN"), strict=True))
    results = search({k: objectives[k] for k in list(objectives)[:n_objectives]}, 15, reports=reports)
    made = make_report(results, "abc123", "mnist")
    page = Page(made.html)
    assert not page.open
    wanted = {"summary", "best", "figures", "importance", "failures", "workers", "settings"}
    wanted |= {"front"} if n_objectives > 1 else set()
    wanted |= {"rungs"} if reports else set()
    assert sections(page, made.html) == wanted
    assert page.tags.count("svg") == len(made.figures)
    assert "abc123" in page.text
    assert "prefers-color-scheme: dark" in made.html
    assert "could not be drawn" not in page.text


def test_nothing_is_fetched_and_nothing_runs() -> None:
    html = make_report(search({"score": "MAX", "seconds": "MIN"}, 15)).html
    page = Page(html)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not re.search(r"https?://|@import|url\((?!#)", html)
    assert "default-src 'none'" in html
    known = set(re.findall(r'\bid="([^"]+)"', html))
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= known


def test_hostile_names_are_text() -> None:
    made = make_report(search({HOSTILE: "MAX", "_x": "MIN"}, 15, name=HOSTILE), HOSTILE, HOSTILE)
    page = Page(made.html)
    assert not {"script", "img"} & set(page.tags)
    assert not page.open
    assert HOSTILE in page.text
    assert page.tags.count("svg") == len(made.figures)


def test_a_search_without_trials_has_a_report() -> None:
    made = make_report(search({"score": "MAX", "seconds": "MIN"}, 0))
    page = Page(made.html)
    assert not page.open
    assert "There are no results yet." in page.text
    assert {"summary", "best", "settings"} <= sections(page, made.html)


def test_failures_are_grouped_by_what_is_the_same() -> None:
    html = make_report(search({"score": "MAX"}, 40)).html
    begin = html.index('<section id="failures"')
    text = Page(html[begin : html.index("</section>", begin) + len("</section>")]).text
    assert "8 × ValueError: x at 4" in text
    assert "trials: 4, 9, 14, 19, 24, 29, 34, 39" in text


def test_many_points_are_drawn_as_pixels() -> None:
    results = search({"score": "MAX", "seconds": "MIN"}, 6000)
    figures = drawable(results)
    for name in ("front", "incumbent_0", "learning_curves_0", "workers", "slices_0"):
        svg = inline_svg(name, figures[name])
        assert len(svg) < 700_000, name
        assert "data:image/png" in svg, name


def test_escaping() -> None:
    assert escaped("<a>\x00\n b") == "&lt;a&gt;\ufffd b"
    assert escaped(1 / 3) == "0.333333"
    assert escaped(float("nan")) == escaped(None) == ""
    assert escaped("x" * 500).endswith("…")
