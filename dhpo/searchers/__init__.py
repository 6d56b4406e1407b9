"""Searchers: what proposes the next configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dhpo.errors import SettingError
from dhpo.searchers.asktell import AskTell
from dhpo.searchers.base import BoundSearcher, Searcher, proposal_rng
from dhpo.searchers.cbo import CBO
from dhpo.searchers.continued import Continued
from dhpo.searchers.design import DesignSearcher
from dhpo.searchers.evolution import RegularizedEvolution
from dhpo.searchers.narrowing import narrowed
from dhpo.searchers.prior import Prior, fit_prior, rows_from
from dhpo.searchers.random import RandomSearcher

_NAMED: dict[str, Callable[[], Searcher]] = {
    "cbo": CBO,
    "random": RandomSearcher,
    "evolution": RegularizedEvolution,
    **{design: lambda design=design: DesignSearcher(design) for design in ("sobol", "halton", "lhs", "grid")},  # type: ignore[misc]
}


def resolve(value: Any = None) -> Searcher:
    """Make a searcher of what a user gave: None (the default, :class:`CBO`), a name, or a searcher.

    Raises:
        SettingError: the name is unknown, or the object is no searcher.
    """
    if value is None:
        return CBO()
    if isinstance(value, str):
        if value.lower() not in _NAMED:
            raise SettingError(f"searcher={value!r} is unknown: write one of {', '.join(map(repr, _NAMED))}")
        return _NAMED[value.lower()]()
    if isinstance(value, type) or not (hasattr(value, "bind") and hasattr(value, "settings")):
        raise SettingError(
            f"searcher={value!r} is no searcher: give one such as CBO(), or one of {', '.join(map(repr, _NAMED))}"
        )
    searcher: Searcher = value
    return searcher


__all__ = [
    "CBO",
    "AskTell",
    "BoundSearcher",
    "Continued",
    "DesignSearcher",
    "Prior",
    "RandomSearcher",
    "RegularizedEvolution",
    "Searcher",
    "fit_prior",
    "narrowed",
    "proposal_rng",
    "resolve",
    "rows_from",
]
