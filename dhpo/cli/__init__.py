"""The command line: ``dhpo run``, ``resume``, ``submit``, ``status``, and what shows, exports and draws results."""

from __future__ import annotations

import sys

from dhpo.errors import DhpoError


def main() -> None:
    """Run the command line and end the process.

    The exit code is 0 when all went well (also after a clean stop by a signal), 1 where dhpo or the system refused
    something, 2 for a wrong command line, 130 after a second Ctrl-C.
    """
    from dhpo.cli.app import app
    from dhpo.cli.tables import say

    arguments = [argument for argument in sys.argv[1:] if argument != "--traceback"]
    wants_traceback = "--traceback" in sys.argv  # before the command or behind it; a loaded file changes sys.argv
    try:
        app(args=arguments, prog_name="dhpo")
    except (DhpoError, OSError) as error:
        if wants_traceback:
            raise
        say(f"dhpo: {error}", err=True)
        sys.exit(1)
