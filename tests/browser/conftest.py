"""One browser for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from chromium import launched


@pytest.fixture(scope="module")  # its driver has an event loop running in this thread: no longer than needed
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    with launched() as browser:
        yield browser
