"""`${VARIABLE}` and `${VARIABLE:-default}` in string values; `$${` stands for a plain `${`.

Values are put into the parsed document and never parsed again: no value of a variable can add a key or a table.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from streamflow.config.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamflow.config.lines import KeyPath

_PLACE = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}|\$\{([^}\n]*)\}?")


def interpolate(value: object, variables: Mapping[str, str], path: KeyPath = ()) -> tuple[object, list[Problem]]:
    """A copy of `value` with every string in it filled in, and a problem for each variable that is not set.

    A default also stands in for a variable that is set but empty, as in a shell.
    """
    problems: list[Problem] = []

    def fill(inner: object, at: KeyPath) -> object:
        match inner:
            case dict():
                return {key: fill(item, (*at, key)) for key, item in inner.items()}
            case list():
                return [fill(item, (*at, index)) for index, item in enumerate(inner)]
            case str() if "${" in inner:
                return _PLACE.sub(lambda found: _text(found, at), inner)
            case _:
                return inner

    def _text(found: re.Match[str], at: KeyPath) -> str:
        plain, name, has_default, default, wrong = found.groups()
        if plain:
            return "${"
        if wrong is not None:
            problems.append(
                Problem(
                    at, f"${{{wrong}… is no variable: write ${{NAME}} or ${{NAME:-default}}, or $${{ for a plain ${{"
                )
            )
            return ""
        if (has_default and variables.get(name, "") != "") or (not has_default and name in variables):
            return variables[name]
        if not has_default:
            problems.append(
                Problem(at, f"the environment variable {name} is not set: set it or write ${{{name}:-default}}")
            )
        return default or ""

    return fill(value, path), problems
