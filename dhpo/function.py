"""The user's run function and its data, as the driver holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dhpo.worker.loader import Loader

if TYPE_CHECKING:
    from dhpo.worker.package import Packed


class UserFunction:
    """Holds a run function and its data until they are packed; from then on the data is the package's.

    Args:
        function: the run function.
        data: its data, or a :class:`dhpo.Loader`.
        directory: the search's directory, where the package's file may lie.
    """

    def __init__(self, function: Callable[..., Any], data: Any, directory: Path | None) -> None:
        self._function: Callable[..., Any] | None = function
        self._data = data
        self.directory = directory
        self._packed: Packed | None = None

    def here(self) -> tuple[Callable[..., Any], Any]:
        """The function and its data, for trials in this process."""
        if self._packed is not None:
            from dhpo.worker.mount import mount

            mounted = mount(self._packed.package, self._packed.read)
            return mounted.function, mounted.data
        assert self._function is not None
        data = self._data.load() if isinstance(self._data, Loader) else self._data
        return self._function, data

    def packed(self) -> Packed:
        """Pack the two, once. The driver lets go of them, and so of large arrays that the function closes over."""
        if self._packed is None:
            from dhpo.worker.package import pack

            self._packed = pack(self._function, self._data, directory=self.directory)
            self._function = self._data = None
        self._packed.show()
        return self._packed

    def rest(self) -> None:
        """Leave nothing in the search's directory until the next run."""
        if self._packed is not None:
            self._packed.hide()
