"""Stoppers: what decides, while trials run, which of them go on."""

from __future__ import annotations

from dhpo.stopping.base import BoundStopper, NeverStop, Stopper
from dhpo.stopping.hyperband import Hyperband

__all__ = ["BoundStopper", "Hyperband", "NeverStop", "Stopper"]
