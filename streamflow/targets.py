"""`module:name` and `path/file.py:name`: code that a declaration, a pipeline file or a command line names.

Importing runs the code. What goes wrong in it is told as file, line and text, without a traceback.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import streamflow
from streamflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

TARGET_PATTERN = r"^[^:\s][^:]*:[A-Za-z_][\w.]*$"
_FOREIGN = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {str(Path(streamflow.__file__).parent), "<frozen "}
)


def load_target(target: str, *, directory: Path) -> object:
    """Import what `target` names. Modules are looked for in `directory`, in the current one, and where Python looks.

    Raises:
        ConfigError: the target is malformed, cannot be imported, or does not have the name.
    """
    place, colon, name = target.rpartition(":")
    if not (colon and place and name):
        raise ConfigError(f"{target!r} is no target: write module:name or path/file.py:name")
    found: object = load_module(place, directory=directory)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            public = [known for known in dir(found) if not known.startswith("_")]
            raise ConfigError(f"{place} has no {name!r}{did_you_mean(part, public)}") from None
    return found


def load_module(place: str, *, directory: Path) -> ModuleType:
    """The module of a target: by name, or by the path of its file, relative to `directory`. Raises as `load_target`."""
    if place.endswith(".py"):
        return _load_file(directory / place)
    return _load_module(place, directory)


def _load_module(name: str, directory: Path) -> ModuleType:
    _search([directory.resolve(), Path.cwd()])
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ConfigError(_told(error, name, directory)) from error


def _load_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise ConfigError(f"there is no file {shown(file)}")
    file = file.resolve()
    directory, name = file.parent, file.stem
    while (directory / "__init__.py").is_file():  # a file inside a package keeps its relative imports
        directory, name = directory.parent, f"{directory.name}.{name}"
    module = _load_module(name, directory) if "." in name else _load_single(file)
    if not _is_from(module, file):
        taken_by = getattr(module, "__file__", None) or "Python"
        raise ConfigError(f"{shown(file)} cannot be imported: the name {name} is taken by {taken_by}; rename it")
    return module


def _load_single(file: Path) -> ModuleType:
    """The file's module under the file's own name; where another file has that, under its path.

    Lambda functions in folders of their own share names like `lambda_function.py`. A name of Python's is not shared:
    that module is returned, and is not from the file.
    """
    _search([file.parent, Path.cwd()])
    name = file.stem
    known = sys.modules.get(name)
    if known is not None and not _is_from(known, file) and name not in sys.stdlib_module_names:
        name = str(file)
        known = sys.modules.get(name)
    if known is not None:
        return known
    specification = importlib.util.spec_from_file_location(name, file)
    if specification is None or specification.loader is None:
        raise RuntimeError(f"Python knows no loader for {file}")
    module = sys.modules[name] = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception | SystemExit):
            raise ConfigError(_told(error, name, file.parent)) from error
        raise
    return module


def _is_from(module: ModuleType, file: Path) -> bool:
    loaded = getattr(module, "__file__", None)
    return loaded is not None and Path(loaded).resolve() == file


def _search(directories: list[Path]) -> None:
    """Let the code import its neighbours, and those of the process."""
    for directory in reversed(directories):
        if str(directory) not in sys.path:
            sys.path.insert(0, str(directory))


def _told(error: BaseException, name: str, directory: Path) -> list[str] | str:
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
        return f"no module named {error.name!r}: looked in {directory.resolve()} and where Python looks"
    where = code_line(error)
    if isinstance(error, ConfigError):
        return [f"{where}: {problem}" for problem in error.problems]
    text = error.msg if isinstance(error, SyntaxError) else str(error).partition("\n")[0]
    return f"{where}: {type(error).__name__}{': ' if text else ''}{text}"


def code_line(error: BaseException) -> str:
    """`file:line` of the mistake: the innermost line of the user's own code, or the innermost line at all."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shown(Path(error.filename))}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    own = [frame for frame in frames if not frame.filename.startswith(_FOREIGN)]
    frame = (own or frames)[-1]
    return f"{shown(Path(frame.filename))}:{frame.lineno}"


def shown(path: Path) -> str:
    """The path as short as it is clear: relative where it is below the current directory."""
    try:
        return str(path.resolve().relative_to(Path.cwd())) if path.is_absolute() else str(path)
    except ValueError:
        return str(path)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`, did you mean …?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {near[0]}?" if near else ""
