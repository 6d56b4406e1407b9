"""A search in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class _Metric(NamedTuple):
    name: str
    help: str
    kind: str = "gauge"


_TRIALS = _Metric("dhpo_trials", "Trials by status.")
_BEST = _Metric("dhpo_best", "The best value of an objective so far.")
_RUNNING = _Metric("dhpo_search_running", "Whether a driver is at work and the search has not finished.")
#: The metric of each plain number of a summary.
_NUMBERS = {
    "reports": _Metric("dhpo_reports_total", "Reports of trials.", "counter"),
    "num_trials": _Metric("dhpo_trials_wanted", "The budget of trials."),
    "elapsed_s": _Metric("dhpo_elapsed_seconds", "The search's clock."),
    "eta_s": _Metric("dhpo_eta_seconds", "Time until the search ends, as far as that can be told."),
    "trials_per_hour": _Metric("dhpo_trials_per_hour", "Ended trials per hour, over the last run of the search."),
    "front_size": _Metric("dhpo_front_size", "Points on the Pareto front."),
    "hypervolume": _Metric("dhpo_hypervolume", "The hypervolume of the front, by a reference that all results give."),
}
_WORKERS = {
    "seen": _Metric("dhpo_workers_seen", "Workers that have run trials, or are connected."),
    "connected": _Metric("dhpo_workers_connected", "Workers that are connected."),
    "busy": _Metric("dhpo_workers_busy", "Workers that run a trial."),
    "losses": _Metric("dhpo_worker_losses_total", "Trials that were lost with their workers.", "counter"),
    "utilisation": _Metric("dhpo_worker_utilisation_ratio", "The share of the workers' time that trials ran in."),
    "wait_median_s": _Metric("dhpo_trial_wait_median_seconds", "The median wait of a trial for its worker."),
}


def exposition(summaries: Iterable[Mapping[str, Any]]) -> str:
    """The metrics of some searches; what is not known is left out."""
    samples: dict[_Metric, list[str]] = {}
    for summary in summaries:
        search = {"search": summary["search_id"]}
        for metric, labels, value in _samples(summary):
            if value is not None:
                text = ",".join(f'{name}="{_escaped(v)}"' for name, v in (search | labels).items())
                samples.setdefault(metric, []).append(f"{metric.name}{{{text}}} {float(value)!r}")
    lines = []
    for metric, values in samples.items():
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}", *values]
    return "".join(f"{line}\n" for line in lines)


def _samples(summary: Mapping[str, Any]) -> Iterable[tuple[_Metric, dict[str, str], Any]]:
    yield _RUNNING, {}, summary["state"] in ("running", "waiting")
    for status, count in summary["trials"].items():
        yield _TRIALS, {"status": status.lower()}, count
    for best in summary["best"]:
        yield _BEST, {"objective": best["objective"]}, best["value"]
    for key, metric in _NUMBERS.items():
        yield metric, {}, summary[key]
    for key, metric in _WORKERS.items():
        yield metric, {}, summary["workers"][key]


def _escaped(value: Any) -> str:
    return str(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
