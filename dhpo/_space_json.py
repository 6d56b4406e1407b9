"""ConfigSpace's serialised spaces as plain JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dhpo._configspace import ConfigurationSpace
from dhpo.errors import SpaceError

_LISTS = ("choices", "sequence", "values")  # keys that hold a list of values
_VALUES = ("value", "default_value")  # keys that hold one value, which may be a tuple


def space_to_json(space: ConfigurationSpace) -> dict[str, Any]:
    """The space as plain JSON, the same whichever release of ConfigSpace wrote it.

    Raises:
        SpaceError: The space holds something that JSON cannot, for instance in a hyperparameter's ``meta``.
    """
    data = space.to_serialized_dict()
    del data["python_module_version"]
    return {key: _to_json(value) for key, value in data.items()}


def space_from_json(data: Mapping[str, Any]) -> ConfigurationSpace:
    """The space of :func:`space_to_json`; the data are left as they are, which ConfigSpace's reader would not."""
    return ConfigurationSpace.from_serialized_dict(_from_json(data))


def _to_json(node: Any) -> Any:
    """Plain JSON types: tuples as lists, numpy scalars as Python's."""
    if isinstance(node, Mapping):
        return {str(key): _to_json(value) for key, value in node.items()}
    if isinstance(node, np.generic):
        return _to_json(node.item())
    if isinstance(node, str):
        return str(node)
    if isinstance(node, Sequence):
        return [_to_json(value) for value in node]
    if node is None or isinstance(node, bool | int | float):
        return node
    raise SpaceError(
        f"the space holds {node!r} ({type(node).__name__}), which JSON cannot; use plain values, also in meta"
    )


def _from_json(node: Any) -> Any:
    """A copy in which lists that stand for single values are tuples again."""
    if isinstance(node, list):
        return [_from_json(value) for value in node]
    if not isinstance(node, Mapping):
        return node
    copied = {key: _from_json(value) for key, value in node.items()}
    copied.update({key: [tuples(value) for value in node[key]] for key in _LISTS if key in node})
    copied.update({key: tuples(node[key]) for key in _VALUES if key in node})
    return copied


def tuples(value: Any) -> Any:
    """A hyperparameter's value as the space has it: JSON has made lists of tuples."""
    return tuple(tuples(item) for item in value) if isinstance(value, list) else value
