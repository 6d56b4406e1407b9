"""The rung levels of a search, from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dhpo.errors import SettingError
from dhpo.stopping.hyperband import Hyperband


class Rungs:
    """The rung levels that a stopper's settings say.

    Args:
        stopper: the settings of the stopper, as in a journal's header.
        constants: the constants of the space, which may tell the largest resource.
    """

    def __init__(self, stopper: Mapping[str, Any] | None, constants: Mapping[str, Any]) -> None:
        settings = _hyperband(stopper or {})
        self.levels: tuple[float, ...] = ()
        self.n_brackets = 1
        if settings is None:
            return
        attribute = settings["time_attr"]
        names = ("max_t", f"max_{attribute}", f"max_{attribute}s", f"{attribute}s", "epochs", "max_epochs")
        largest = next((constants[name] for name in names if name in constants), None)
        fields = {name: settings[name] for name in Hyperband.__dataclass_fields__ if name in settings}
        try:
            bound = Hyperband(**fields).bind(1, max_t=largest, seed=0)
        except (SettingError, TypeError):  # the largest resource is not known, or the settings are of another version
            return
        self.levels = bound.milestones(0)
        self.n_brackets = 1 if not settings.get("rung_system_per_bracket", True) else bound.n_brackets

    def of(self, bracket: int) -> tuple[float, ...]:
        """The levels of a bracket."""
        return self.levels[bracket:]


def _hyperband(settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The settings of the stopper that has rungs, if one does."""
    if settings.get("stopper") == "Hyperband":
        return settings
    members = settings.get("stoppers") or ()
    return next((found for member in members if (found := _hyperband(member)) is not None), None)
