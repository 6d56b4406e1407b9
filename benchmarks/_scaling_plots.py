"""The figures of ``docs/scaling.md``, of the runs that ``scaling.py`` wrote down."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

_SERVERS = ("scheduler", "driver", "searcher")


def draw(out: Path, figures: Path, mean_run: float) -> None:
    """Draw what there are runs for."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "dhpo"
    import matplotlib.pyplot as plt

    figures.mkdir(parents=True, exist_ok=True)
    for what, one in {"workers": _servers, "quality": _quality, "durations": _durations, "reports": _reports}.items():
        if not (rows := _rows(out, what)):
            continue
        figure, axes = plt.subplots(figsize=(6, 3.4))
        name = one(axes, rows, mean_run)
        axes.legend(fontsize=8)
        figure.tight_layout()
        figure.savefig(figures / f"scaling-{name}.svg", metadata={"Date": None})
        plt.close(figure)


def _rows(out: Path, what: str) -> list[dict[str, Any]]:
    """The last run of each name."""
    path = out / f"{what}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return list({row["name"]: row for row in map(json.loads, lines)}.values())


def _servers(axes: Any, rows: list[dict[str, Any]], mean_run: float) -> str:
    rows.sort(key=lambda row: row["workers"])
    for server in _SERVERS:
        axes.loglog([r["workers"] for r in rows], [100 * r[server]["share"] for r in rows], "o-", label=server)
    axes.axhline(100, color="grey", linestyle=":")
    axes.set(xlabel="workers", ylabel="busy, % of the time")
    return "servers"


def _quality(axes: Any, rows: list[dict[str, Any]], mean_run: float) -> str:
    """The mean regret over time, of one objective, on the curves that all numbers of workers have."""
    rows = [row for row in rows if row["objectives"] == 1]
    curves = [{row["curves"] for row in rows if row["workers"] == workers} for workers in {r["workers"] for r in rows}]
    common = set.intersection(*curves)
    groups: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["curves"] in common:
            groups[row["workers"], row["proposes"]].append(row)
    colours = {workers: f"C{i}" for i, workers in enumerate(sorted({workers for workers, _ in groups}))}
    for (workers, searcher), group in sorted(groups.items()):
        times = np.geomspace(60.0, 3600.0 * min(row["hours"] for row in group), 200)
        steps = [[_last(row["regrets"], time) for time in times] for row in group]
        style = "-" if searcher == "cbo" else ":"
        label = f"{workers:,} workers" if searcher == "cbo" else None
        axes.loglog(times / 3600, np.mean(steps, axis=0), style, color=colours[workers], label=label)
    axes.set(xlabel="hours", ylabel="regret (dotted: random search)")
    return "quality"


def _last(regrets: list[list[float]], time: float) -> float:
    return next((regret for when, _, regret in reversed(regrets) if when <= time), float("nan"))


def _durations(axes: Any, rows: list[dict[str, Any]], mean_run: float) -> str:
    rows.sort(key=lambda row: row["trials"] / row["elapsed"])
    lengths = [mean_run * float(r["name"].split()[1]) for r in rows]
    axes.semilogx(lengths, [r["utilisation"] for r in rows], "ko-", label="utilisation")
    for server in _SERVERS:
        axes.semilogx(lengths, [r[server]["share"] for r in rows], "o--", label=f"{server}, busy")
    axes.axhline(0.95, color="grey", linestyle=":")
    axes.set(xlabel="mean duration of a run, seconds", ylim=(0, 1.05))
    return "durations"


def _reports(axes: Any, rows: list[dict[str, Any]], mean_run: float) -> str:
    for gathers, label in ((True, "gathered for 20 s"), (False, "for 0.1 s")):
        chosen = sorted((float(r["name"].split()[0]), r) for r in rows if (float(r["name"].split()[1]) > 0) is gathers)
        rates = [rate for rate, _ in chosen]
        axes.loglog(rates, [100 * r["scheduler"]["share"] for _, r in chosen], "o-", label=f"scheduler, {label}")
        axes.loglog(rates, [100 * r["driver"]["share"] for _, r in chosen], "o--", label=f"driver, {label}")
    axes.axhline(100, color="grey", linestyle=":")
    axes.set(xlabel="reports per second of each of 10,000 workers", ylabel="busy, % of the time")
    return "reports"
