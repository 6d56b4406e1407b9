"""Naming what a run function captures, for the errors that say why it cannot be shipped."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping
from itertools import islice

from dhpo.worker._pickling import in_band_size

_DEPTH = 5  # how far into what is captured the culprit is looked for
_WIDTH = 100  # how many items of one container are looked at
_NOTABLE = 100_000  # bytes: what is smaller is not worth a line in an error


def find_unpicklable(roots: Mapping[str, object]) -> str | None:
    """Name the innermost captured object that cannot be pickled, as a path from one of the roots; None if all can."""
    for name, value in roots.items():
        if found := _culprit(name, value, _DEPTH):
            return found
    return None


def find_largest(roots: Mapping[str, object], count: int = 3) -> list[tuple[str, int]]:
    """The captured objects that take most of the pickle's small part, with their bytes, largest first."""
    sizes = [entry for name, value in roots.items() for entry in _heavy(name, value, _DEPTH)]
    return sorted(sizes, key=lambda entry: -entry[1])[:count]


def _culprit(name: str, value: object, depth: int) -> str | None:
    if _size(value) is not None:
        return None
    if depth:
        for part, child in islice(_parts(value), _WIDTH):
            if found := _culprit(f"{name} > {part}", child, depth - 1):
                return found
    return f"{name} (of type {type(value).__qualname__})"


def _heavy(name: str, value: object, depth: int) -> list[tuple[str, int]]:
    size = _size(value) or 0
    if size < _NOTABLE:
        return []
    # Only functions, and the mapping of the data, are opened: their parts have names that the user knows.
    if depth and isinstance(value, (types.FunctionType, types.MethodType, functools.partial, dict)):
        parts = [entry for part, child in _parts(value) for entry in _heavy(f"{name} > {part}", child, depth - 1)]
        if parts:
            return parts
    return [(name, size)]


def _size(value: object) -> int | None:
    """Bytes in the pickle's small part, or None where it cannot be pickled."""
    try:
        return in_band_size(value)
    except Exception:  # whatever the object's own __reduce__ raises
        return None


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, types.FunctionType):
        yield from _function_parts(value)
    elif isinstance(value, types.MethodType):
        yield "self", value.__self__
        yield from _function_parts(value.__func__) if isinstance(value.__func__, types.FunctionType) else ()
    elif isinstance(value, functools.partial):
        yield "function", value.func
        yield from ((f"argument {place}", item) for place, item in enumerate(value.args))
        yield from ((f"argument {name!r}", item) for name, item in value.keywords.items())
    elif isinstance(value, dict):
        yield from ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{place}]", item) for place, item in enumerate(value))
    elif hasattr(value, "__dict__") and not isinstance(value, (type, types.ModuleType)):
        yield from ((f"attribute {name!r}", item) for name, item in vars(value).items())


def _function_parts(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"closure variable {name!r}", cell.cell_contents
        except ValueError:  # a cell that is still empty
            continue
    for name in sorted(_names(function.__code__) & function.__globals__.keys()):
        yield f"global {name!r}", function.__globals__[name]
    yield from ((f"default {place}", item) for place, item in enumerate(function.__defaults__ or ()))
    yield from ((f"default {name!r}", item) for name, item in (function.__kwdefaults__ or {}).items())


def _names(code: types.CodeType) -> set[str]:
    """The global names that a function's code, or a function within it, may use."""
    inner = (_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*inner)
