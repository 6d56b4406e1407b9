"""Loading the Search object of a user's file."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import cloudpickle

from dhpo.errors import DhpoError

if TYPE_CHECKING:
    from dhpo.search import Search

#: The name of the Search object where none is given.
DEFAULT_NAME = "search"


def split_target(target: str) -> tuple[Path, str]:
    """Read ``FILE.py`` or ``FILE.py:NAME``."""
    file, colon, name = target.rpartition(":")
    if colon and name.isidentifier() and not Path(target).exists():
        return Path(file), name
    return Path(target), DEFAULT_NAME


def load_search(file: Path, name: str) -> Search:
    """Run a Python file as a module, and take the Search object out of it.

    What the file defines reaches the workers by value, as what a script's ``__main__`` defines does: they need not be
    able to import it, and do not run it again. Its directory comes first in ``sys.path``, as for ``python FILE.py``.

    Raises:
        DhpoError: there is no such file, it fails, or it has no Search object of this name.
    """
    from dhpo.search import Search

    if not file.is_file():
        raise DhpoError(f"there is no file {file}: give the Python file that makes the Search object")
    namespace = vars(_load(file.resolve()))
    found = namespace.get(name)
    if isinstance(found, Search):
        return found
    others = [other for other, value in namespace.items() if isinstance(value, Search)]
    if name in namespace:
        problem = f"{name!r} in {file} is a {type(found).__name__}, no dhpo.Search object"
    else:
        problem = f"{file} defines no {name!r}"
    remedy = f"give {file}:{others[0]}" if others else f"write {DEFAULT_NAME} = dhpo.Search(problem, function) in it"
    raise DhpoError(f"{problem}: {remedy}")


def _load(file: Path) -> ModuleType:
    name = file.stem if file.stem.isidentifier() and file.stem not in sys.modules else f"dhpo_script_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise DhpoError(f"{file} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    cloudpickle.register_pickle_by_value(module)
    sys.path.insert(0, str(file.parent))
    sys.argv = [str(file)]
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        at = _line_in(file, error)
        kind = "" if isinstance(error, DhpoError) else f"{type(error).__name__}: "
        raise DhpoError(f"{file}{f', line {at}' if at else ''}: {kind}{error}") from error
    return module


def _line_in(file: Path, error: BaseException) -> int | None:
    """The line of the file at which an error arose."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == str(file)), None)
