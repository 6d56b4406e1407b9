"""Draws the pictures of the loop, of rungs, of events and of a report: ``python docs/pictures.py``.

Their colours are for light and dark pages alike.
"""

from __future__ import annotations

from pathlib import Path

FIGURES = Path(__file__).parent / "figures"
BLUE, ORANGE, GREY, GREEN = "#3b7dd8", "#d9742b", "#7c8894", "#2e9e6b"

_HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}"
 font-family="system-ui, sans-serif" font-size="15">
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">
<path d="M0 0L10 5L0 10z" fill="{grey}"/></marker></defs>
"""


def head(width: int, height: int, label: str) -> str:
    return _HEAD.format(width=width, height=height, label=label, grey=GREY)


def text(x: float, y: float, words: str, colour: str = GREY, anchor: str = "middle", more: str = "") -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}"{more}>{words}</text>\n'


def box(x: float, y: float, width: float, height: float, name: str, colour: str) -> str:
    shape = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{colour}"/>\n'
    return shape + text(x + width / 2, y + height / 2 + 5, name, "#ffffff", more=' font-weight="600"')


def arrow(path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="{GREY}" stroke-width="2" marker-end="url(#tip)"/>\n'


def loop() -> str:
    """The searcher proposes, the workers report, the journal keeps, the stopper decides."""
    return "".join(
        [
            head(760, 300, "The searcher proposes configurations; the stopper and the searcher read the journal."),
            arrow("M115 115V50H496"),
            text(270, 40, "configurations"),
            arrow("M640 100V210"),
            text(632, 160, "reports, results", anchor="end"),
            arrow("M496 233H345V180"),
            text(420, 224, "reports at rungs"),
            arrow("M345 115V84H496"),
            text(420, 75, "go on / stop"),
            arrow("M496 262H115V180"),
            text(230, 253, "what is known"),
            box(40, 116, 150, 60, "searcher", BLUE),
            box(270, 116, 150, 60, "stopper", ORANGE),
            box(500, 30, 220, 70, "workers: trials run", GREEN),
            box(500, 215, 220, 60, "journal", GREY),
            "</svg>\n",
        ]
    )


#: The epoch at which each of nine trials ends.
ENDS = (27, 3, 1, 9, 1, 1, 3, 1, 1)


def rungs() -> str:
    """Nine trials, one line each: a third goes on at each rung."""
    places = {1: 180, 3: 350, 9: 520, 27: 690}
    bottom = 70 + 30 * len(ENDS)
    parts = [head(760, bottom + 30, "Nine trials; at each rung, epochs 1, 3 and 9, the weakest end.")]
    for epoch, x in places.items():
        parts.append(f'<path d="M{x} 50V{bottom - 10}" stroke="{GREY}" stroke-dasharray="4 4"/>\n')
        parts.append(text(x, 20, "complete" if epoch == 27 else "rung", more=' font-size="13"'))
        parts.append(text(x, 40, f"epoch {epoch}", more=' font-weight="600"'))
        if epoch < 27:
            come, go = sum(end >= epoch for end in ENDS), sum(end > epoch for end in ENDS)
            parts.append(text(x, bottom + 14, f"{come} come, {go} go on", more=' font-size="13"'))
    for number, end in enumerate(ENDS):
        y, x = 70 + 30 * number, places[end]
        colour = GREEN if end == 27 else BLUE
        parts.append(text(20, y + 5, f"trial {number}", anchor="start"))
        parts.append(f'<path d="M90 {y}H{x}" stroke="{colour}" stroke-width="4"/>\n')
        parts += [f'<circle cx="{at}" cy="{y}" r="6" fill="{colour}"/>\n' for e, at in places.items() if e < end]
        if end == 27:
            parts.append(f'<circle cx="{x}" cy="{y}" r="8" fill="{colour}"/>\n')
        else:
            cross = f"M{x - 7} {y - 7}l14 14m0 -14l-14 14"
            parts.append(f'<path d="{cross}" stroke="{ORANGE}" stroke-width="4" stroke-linecap="round"/>\n')
    return "".join([*parts, "</svg>\n"])


SMALL = ' font-size="13"'


def events() -> str:
    """From the space to the views, by way of events."""
    return "".join(
        [
            head(880, 320, "Whatever happens becomes events; the journal and the study are made of them."),
            arrow("M120 60H186"),
            arrow("M320 50H636"),
            text(478, 42, "proposes trials"),
            arrow("M680 90V136"),
            text(690, 119, "reports, results, losses", anchor="start"),
            arrow("M640 170H534"),
            arrow("M465 140V78H636"),
            text(543, 71, "start, continue, pause, stop", more=SMALL),
            arrow("M400 170H255V94"),
            text(325, 162, "observations"),
            arrow("M730 200V236"),
            arrow("M640 270H534"),
            arrow("M400 270H294"),
            box(20, 30, 100, 60, "space", GREY),
            box(190, 30, 130, 60, "searcher", BLUE),
            box(640, 30, 180, 60, "executor", GREEN),
            box(640, 140, 180, 60, "events", ORANGE),
            box(400, 140, 130, 60, "study", BLUE),
            box(640, 240, 180, 60, "journal", GREY),
            box(400, 240, 130, 60, "results", GREY),
            box(60, 240, 230, 60, "frames, front, plots, CSV", GREY),
            "</svg>\n",
        ]
    )


def report() -> str:
    """A report from the trial to the loop, and its answer back."""
    parts = [head(880, 330, "A report goes from the trial by the relay to the loop; the decision comes back.")]
    actors = (("trial (worker)", 130, GREEN), ("relay (scheduler)", 440, ORANGE), ("loop (driver)", 750, BLUE))
    for name, x, colour in actors:
        parts.append(f'<path d="M{x} 70V320" stroke="{GREY}" stroke-dasharray="4 4"/>\n')
        parts.append(box(x - 90, 20, 180, 50, name, colour))
    messages = (
        (115, 130, 434, "records, gathered for 0.1 s or more"),
        (165, 440, 744, "numbered records, in answer to a long poll"),
        (255, 750, 446, "decisions; “have up to number n”"),
        (305, 440, 136, "the decision, where it stands at a rung"),
    )
    for y, start, end, words in messages:
        parts.append(arrow(f"M{start} {y}H{end}"))
        parts.append(text((start + end) / 2, y - 8, words, more=SMALL))
    parts.append(arrow("M750 190h40v25h-36"))
    parts.append(text(738, 207, "journal, then study", anchor="end", more=SMALL))
    return "".join([*parts, "</svg>\n"])


if __name__ == "__main__":
    FIGURES.mkdir(exist_ok=True)
    for draw in (loop, rungs, events, report):
        (FIGURES / f"{draw.__name__}.svg").write_text(draw(), encoding="utf-8")
