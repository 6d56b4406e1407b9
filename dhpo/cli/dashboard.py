"""``dhpo dashboard``: the live page of a search, over its journal."""

from __future__ import annotations

import asyncio
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from dhpo.cli.options import AsJson, Directory


def dashboard(
    directory: Directory,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, metavar="N", help="0 takes a free one.")] = 0,
    address: Annotated[
        str, typer.Option("--address", metavar="HOST", help="Where to listen; 0.0.0.0 lets other machines look.")
    ] = "127.0.0.1",
    browse: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Serve the live page of a search, running or finished, until Ctrl-C (needs dhpo[dashboard]).

    It reads the search's directory only. Whoever reaches the address can look, so by default that is this machine.

    \b
    Example:
      dhpo dashboard runs/search
      dhpo dashboard runs/search --port 8080 --open
    """
    try:
        asyncio.run(_serve(directory, address, port, browse, as_json))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


async def _serve(directory: Path, address: str, port: int, browse: bool, as_json: bool) -> None:
    from dhpo.cli.facts import facts_of
    from dhpo.cli.tables import print_json
    from dhpo.dashboard.serve import Dashboard

    served = Dashboard(directory, lambda view: facts_of(directory, view))
    await served.start(address, port)
    try:
        if as_json:
            print_json({"url": served.url})
        else:
            typer.echo(f"{served.url}  (Ctrl-C ends it)")
        if browse:
            webbrowser.open(served.url)
        await served.serve()
    finally:
        await served.close()
