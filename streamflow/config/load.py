"""From what a command line names, `file.toml` or `module:app`, to an `App`; mistakes come all at once."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from streamflow.config.document import Document, HttpTable, known_keys
from streamflow.config.interpolation import interpolate
from streamflow.config.layers import unknown_layer
from streamflow.config.lines import KeyLines
from streamflow.config.problems import Problem, from_validation
from streamflow.config.sinks import holds_secret
from streamflow.errors import ConfigError
from streamflow.pipeline import App, Pipeline
from streamflow.sdk.settings import is_secret
from streamflow.targets import load_target, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

    from streamflow.config.lines import KeyPath

# Far beyond what any table of ours nests; deeper ones would end parsers and validators by their recursion.
_LEVELS_MAX = 50
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def load_app(target: str) -> App:
    """Load `file.toml`, or the `App` or `Pipeline` that `module:name` or `path/file.py:name` names.

    Modules are looked for in the current directory, and for a file also in the file's own. Importing runs their code.

    Raises:
        ConfigError: every mistake that was found, with file and line where it has one.
    """
    if target.endswith(".toml"):
        return load_file(Path(target), os.environ)
    if ":" not in target:
        raise ConfigError(
            f"{target!r} is neither a .toml file nor a target: write file.toml, module:app or path/file.py:app"
        )
    found = load_target(target, directory=Path.cwd())
    if isinstance(found, Pipeline):
        return App(pipelines=(found,))
    if not isinstance(found, App):
        raise ConfigError(f"{target} is a {type(found).__name__}: name an App or a Pipeline")
    return found


def load_file(file: Path, variables: Mapping[str, str]) -> App:
    """Load one pipeline file; `variables` fill its `${NAME}` places.

    Raises:
        ConfigError: as `load_app`.
    """
    name = shown(file)
    text = _read(file, name)
    parsed = _parse(text, name)
    filled, problems = interpolate(parsed, variables)
    assert isinstance(filled, dict)
    unset = {problem.path for problem in problems}
    try:
        document = Document.model_validate(filled, context={"directory": file.resolve().parent})
    except ValidationError as error:
        found = (_problem(detail, parsed) for detail in error.errors())
        problems += [problem for problem in found if problem.path not in unset]
    else:
        if not problems:
            return document.build()
    lines = KeyLines(text)
    problems.sort(key=lambda problem: lines.line(problem.path))
    raise ConfigError([problem.line(name, lines) for problem in problems])


def _read(file: Path, name: str) -> str:
    try:
        return file.read_text(encoding="utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not UTF-8, at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from None


def _parse(text: str, name: str) -> dict[str, Any]:
    too_deep = ConfigError(f"{name}: nested more than {_LEVELS_MAX} levels deep")
    try:
        parsed = tomllib.loads(text)
    except RecursionError:
        raise too_deep from None
    except tomllib.TOMLDecodeError as error:
        found = _TOML_PLACE.search(str(error))
        message = _TOML_PLACE.sub("", str(error))
        end = text.rstrip("\n")
        line, column = (found[1], found[2]) if found and found[1] else (end.count("\n") + 1, len(end) - end.rfind("\n"))
        raise ConfigError(f"{name}:{line}:{column}: {message}") from None
    except ValueError:
        # The only other one of the parser's: Python's own limit.
        raise ConfigError(f"{name}: a number with thousands of digits") from None
    if _deeper_than(parsed, _LEVELS_MAX):
        raise too_deep
    return parsed


def _deeper_than(value: object, levels: int) -> bool:
    """Level by level: what is too deep would end a recursion of ours, too."""
    level = [value]
    for _ in range(levels):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def _problem(detail: ErrorDetails, parsed: Mapping[str, Any]) -> Problem:
    location = detail["loc"]
    path = _path_in_file(location, parsed, required=detail["type"] == "missing")
    if detail["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        return unknown_layer(path, detail.get("ctx", {}).get("tag"))
    secret = any(holds_secret(_look_up(parsed, path[:depth]), str(path[depth])) for depth in range(len(path)))
    secret = secret or (path[:1] == ("http",) and is_secret(HttpTable, str(path[-1])))
    found = None if secret else _look_up(parsed, path)
    return from_validation(detail, path, found=found, known=known_keys(location[:-1], _look_up(parsed, path[:-1])))


def _path_in_file(location: tuple[int | str, ...], parsed: Mapping[str, Any], *, required: bool) -> KeyPath:
    """pydantic's location without what the file does not have: names of layer models, keys left out and defaulted."""
    path: list[int | str] = []
    for index, part in enumerate(location):
        names_model = index >= 2 and location[index - 2] == "middleware" and isinstance(location[index - 1], int)
        if not names_model and part != "[key]":
            path.append(part)
    if not required and path and _look_up(parsed, path) is None:
        path.pop()
    return tuple(path)


def _look_up(parsed: object, path: KeyPath | list[int | str]) -> object:
    for part in path:
        try:
            parsed = parsed[part]  # type: ignore[index]
        except (LookupError, TypeError):
            return None
    return parsed
