"""What a live view of a search shows beyond its events."""

from __future__ import annotations

import time
from pathlib import Path

from dhpo.budget import parse_duration
from dhpo.cli.record import RunRecord
from dhpo.cli.status import is_held
from dhpo.dashboard.view import Facts, View
from dhpo.journal import FILE_NAME


def facts_of(directory: Path, view: View) -> Facts:
    """Whether a driver is at work, the present, and the budget of `dhpo run`."""
    directory = directory if directory.is_dir() else directory.parent
    record = RunRecord.read(directory)
    running = is_held(directory / FILE_NAME)
    seconds = None if record is None else parse_duration(record.time_out)
    return Facts(
        running=running,
        now=time.time() - view.opened.epoch if running and view.opened is not None else None,
        num_trials=None if record is None else record.num_trials,
        time_limit=None if seconds is None or view.opened is None else view.opened.time + seconds,
    )
