"""Stoppers: what decides, while trials run, which of them go on."""

from __future__ import annotations

from dhpo.stopping.base import BoundStopper, NeverStop, Stopper
from dhpo.stopping.combine import AnyOf
from dhpo.stopping.hyperband import Hyperband
from dhpo.stopping.median import MedianStopper
from dhpo.stopping.patience import Patience

__all__ = ["AnyOf", "BoundStopper", "Hyperband", "MedianStopper", "NeverStop", "Patience", "Stopper"]
