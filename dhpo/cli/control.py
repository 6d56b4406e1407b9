"""``dhpo stop``, ``pause`` and ``unpause``: requests to the driver of a running search."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dhpo.cli.options import MOST, AsJson, Directory
from dhpo.errors import DhpoError

if TYPE_CHECKING:
    from dhpo.control import Request

Timeout = Annotated[
    float,
    typer.Option(
        "--timeout", min=0.0, max=86400.0, metavar="SECONDS", help="How long to wait for the driver's answer."
    ),
]


def stop(
    directory: Directory,
    now: Annotated[bool, typer.Option("--now", help="Wait for no trial's next report.")] = False,
    trial: Annotated[
        list[int] | None,
        typer.Option("--trial", min=0, max=MOST, metavar="N", help="End this trial instead, and let the search go on."),
    ] = None,
    timeout: Timeout = 60.0,
    as_json: AsJson = False,
) -> None:
    """End a running search cleanly, or one of its trials.

    The search ends as by SIGTERM: its trials leave at their next reports, within seconds, and it can go on later. With
    --now it ends as by Ctrl-C. A trial that is cancelled does not come back: it has the result of its last report.

    \b
    Example:
      dhpo stop runs/search
      dhpo stop runs/search --trial 17
    """
    from dhpo.control import Action, Request

    if trial and now:
        raise typer.BadParameter("--now ends the search, --trial ends a trial: give one of them")
    requests = [Request(Action.STOP_NOW if now else Action.STOP)]
    if trial:
        requests = [Request(Action.CANCEL, number) for number in dict.fromkeys(trial)]
    _ask(directory, requests, timeout, as_json)


def pause(directory: Directory, timeout: Timeout = 60.0, as_json: AsJson = False) -> None:
    """Let a running search start no more trials.

    Those that run go on, and workers without a trial are given back. The search stays paused, also when it is stopped
    and run again, until `dhpo unpause`. Its --time-out goes on.

    \b
    Example:
      dhpo pause runs/search
    """
    from dhpo.control import Action, Request

    _ask(directory, [Request(Action.PAUSE)], timeout, as_json)


def unpause(directory: Directory, timeout: Timeout = 60.0, as_json: AsJson = False) -> None:
    """Let a paused search go on.

    \b
    Example:
      dhpo unpause runs/search
    """
    from dhpo import control
    from dhpo.cli.tables import print_json, say

    if _is_driven(directory):
        _ask(directory, [control.Request(control.Action.UNPAUSE)], timeout, as_json)
        return
    was_paused = control.unpause(directory)
    text = "it is paused no longer, and starts trials when it is run again" if was_paused else "it was not paused"
    if as_json:
        print_json([{"done": True, "text": text, "trial": None}])
    else:
        say(f"{directory}: {text}")


def _is_driven(directory: Path) -> bool:
    """Whether a driver may be at work there.

    Raises:
        DhpoError: there is no search.
    """
    import os

    from dhpo import journal
    from dhpo.cli.status import is_held
    from dhpo.control import driver_of

    path = directory / journal.FILE_NAME
    if not path.exists():
        raise DhpoError(f"{directory} holds no search: there is no {path}. Give the log_dir of one")
    place = driver_of(directory)
    if is_held(path):
        if place is None:
            raise DhpoError(
                f"what has the search in {directory} open takes no requests: its driver is starting or ending (try "
                "again in a moment), or it is driven by ask() and tell()"
            )
        return True
    # The lock of another machine's process may be invisible here.
    return place is not None and place.host != os.uname().nodename


def _ask(directory: Path, requests: list[Request], timeout: float, as_json: bool) -> None:
    from dhpo.cli.tables import print_json, say
    from dhpo.control import send

    if not _is_driven(directory):
        raise DhpoError(
            f"no driver is running in {directory}: `dhpo status {directory}` tells how the search stands, and "
            f"`dhpo resume {directory}` goes on with it"
        )
    answers = [send(directory, request, timeout) for request in requests]
    if as_json:
        print_json([a._asdict() | {"trial": r.trial} for r, a in zip(requests, answers, strict=True)])
    for answer in answers:
        if not as_json or not answer.done:
            say(f"{directory}: {answer.text}" if answer.done else f"dhpo: {answer.text}", err=not answer.done)
    if not all(answer.done for answer in answers):
        raise typer.Exit(1)
