"""ConfigSpace, imported without ``scipy.stats``.

ConfigSpace imports ``scipy.stats`` for the distributions of normal and beta hyperparameters, which few spaces have:
half a second and 45 MB in every process that imports dhpo. Here the names that it takes from there are looked up when
they are first used. Where ConfigSpace or ``scipy.stats`` has been imported before, nothing is changed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_DEFERRED = {
    "scipy.stats": ("beta", "truncnorm", "uniform"),
    "scipy.stats._distn_infrastructure": ("rv_continuous_frozen",),
}


class _Deferred:
    """A name of a module, or what calling it returns, found when it is first used."""

    __slots__ = ("_call", "_found", "_module", "_name")  # and no __dict__, so that even this is the object's own

    def __init__(self, module: str, name: str, call: tuple[tuple[Any, ...], dict[str, Any]] | None = None) -> None:
        self._module = module
        self._name = name
        self._call = call
        self._found: list[Any] = []

    def resolve(self) -> Any:
        """The object itself."""
        if not self._found:
            found = getattr(import_module(self._module), self._name)
            self._found.append(found if self._call is None else found(*self._call[0], **self._call[1]))
        return self._found[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.resolve(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._call is not None:
            return self.resolve()(*args, **kwargs)
        return _Deferred(self._module, self._name, (args, kwargs))

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance.resolve() if isinstance(instance, _Deferred) else instance, self.resolve())

    def __deepcopy__(self, memo: dict[int, Any]) -> _Deferred:
        return self  # it stands for distributions, which do not change

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Deferred, (self._module, self._name, self._call))


class _StandIn(ModuleType):
    """In a module's place during the import of ConfigSpace; other threads find in it all that the module has."""

    def __init__(self, name: str, path: list[str]) -> None:
        super().__init__(name)
        self.__path__ = path

    def __getattr__(self, name: str) -> Any:
        if name in _DEFERRED[self.__name__]:
            return _Deferred(self.__name__, name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def _without_scipy_stats() -> Iterator[None]:
    spec = find_spec("scipy")
    if spec is None or "ConfigSpace" in sys.modules or any(name in sys.modules for name in _DEFERRED):
        yield
        return
    path = [f"{place}/stats" for place in spec.submodule_search_locations or ()]
    stand_ins = {name: _StandIn(name, path) for name in _DEFERRED}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


with _without_scipy_stats():
    import ConfigSpace as cs
    from ConfigSpace import ConfigurationSpace, forbidden
    from ConfigSpace.hyperparameters import (
        BetaFloatHyperparameter,
        BetaIntegerHyperparameter,
        CategoricalHyperparameter,
        Constant,
        Hyperparameter,
        NormalFloatHyperparameter,
        NormalIntegerHyperparameter,
        OrdinalHyperparameter,
        UniformFloatHyperparameter,
        UniformIntegerHyperparameter,
    )

__all__ = [
    "BetaFloatHyperparameter",
    "BetaIntegerHyperparameter",
    "CategoricalHyperparameter",
    "ConfigurationSpace",
    "Constant",
    "Hyperparameter",
    "NormalFloatHyperparameter",
    "NormalIntegerHyperparameter",
    "OrdinalHyperparameter",
    "UniformFloatHyperparameter",
    "UniformIntegerHyperparameter",
    "cs",
    "forbidden",
]
