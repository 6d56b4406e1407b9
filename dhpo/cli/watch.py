"""``dhpo watch``: a search on the terminal, as it goes on."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from dhpo.cli.options import AsJson, Directory

if TYPE_CHECKING:
    from dhpo.cli.follow import Follower

#: After a look that took long (in processor time) so many times longer is waited, but no more seconds than this.
_REST, _LONGEST = 4.0, 10.0

Pause = Callable[[float], bool]  # wait so many seconds; tell whether to leave


def watch(
    directory: Directory,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, max=3600.0, metavar="SECONDS", help="Between two looks.")
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Watch a search until it is finished: q or Ctrl-C leaves it to itself.

    A search that has not begun yet is waited for, one that was interrupted may be resumed meanwhile. Where the output
    is no terminal, a line is printed for each change; with --json, a JSON object.

    \b
    Example:
      dhpo watch runs/search
      dhpo watch runs/search --json | jq --unbuffered .best
    """
    from dhpo.cli.follow import Follower

    search = Follower(directory)
    try:
        if as_json or not sys.stdout.isatty():
            _print(search, interval, as_json)
        else:
            _show(search, interval)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _looks(search: Follower, interval: float, pause: Pause) -> Iterator[bool]:
    """Look again and again until the search is finished, or it is to be left; tell each time whether it has changed."""
    while True:
        began = time.process_time()
        yield search.look()
        rest = min(_REST * (time.process_time() - began), _LONGEST)
        if search.is_over or pause(max(interval, rest)):
            return


def _print(search: Follower, interval: float, as_json: bool) -> None:
    """A line for each change."""
    from dhpo.cli.screen import one_line
    from dhpo.cli.tables import duration, print_json, say

    told = ""
    if not search.look() and not search.has_begun:
        say(f"{search.directory}: no search has begun there yet; waiting", err=True)
    for changed in _looks(search, interval, _sleep):
        if not search.has_begun:
            continue
        if as_json and (changed or not told):
            print_json(search.as_dict(), one_line=True)
            told = "once"
        elif not as_json and (line := one_line(search)) != told:
            say(f"{duration(search.view.now)}  {line}")
            told = line


def _show(search: Follower, interval: float) -> None:
    """A screen that is drawn anew at each look; its last state stays on the terminal."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from dhpo.cli.screen import ASCII, UNICODE, screen

    console = Console(markup=False, highlight=False, emoji=False)
    marks = UNICODE if console.encoding.lower().startswith("utf") else ASCII

    def drawn(height: int) -> Text:
        lines = screen(search, height, marks)[:height]
        text = Text(no_wrap=True, overflow="ellipsis")
        for number, line in enumerate(lines):
            text.append("\n" if number else "").append(line.text, line.style)
        return text

    with _keys() as pause, Live(console=console, screen=True, auto_refresh=False) as live:
        for _ in _looks(search, interval, pause):
            live.update(drawn(console.size.height), refresh=True)
    console.print(drawn(console.size.height - 1))


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@contextmanager
def _keys() -> Iterator[Pause]:
    """Have single keys told: a pause that ends early, and says so, when q is pressed."""
    if not sys.stdin.isatty():
        yield _sleep
        return
    import termios
    import tty

    def pause(seconds: float) -> bool:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([sys.stdin], [], [], left)[0] and sys.stdin.read(1) in ("q", "Q", ""):
                return True
        return False

    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield pause
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
