"""Telling a person that nothing has worked."""

from __future__ import annotations

import warnings

from dhpo.results import Results


def warn_if_all_failed(results: Results) -> None:
    """Warn with the last error when every trial failed: a mistake in the run function, most likely."""
    failures = results.failures()
    if len(failures) and len(failures) == len(results):
        last = failures["error"].iloc[-1]
        warnings.warn(f"all {len(failures)} trials failed, the last one with: {last}", UserWarning, stacklevel=3)
