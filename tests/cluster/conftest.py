"""What holds for every test on a cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slurm import clear_queues


@pytest.fixture(autouse=True)
def _queues_are_empty() -> Iterator[None]:
    yield
    clear_queues()
