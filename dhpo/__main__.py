"""``python -m dhpo``: the command line."""

from __future__ import annotations

from dhpo.cli import main

if __name__ == "__main__":
    main()
