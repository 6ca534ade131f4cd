"""TOML that people read on: keys, values and comments for a pipeline file that is written by a program.

What is written here reads back unchanged through `streamflow.config.load`, whatever is in the text.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping

from streamflow.sdk.declarations import SinkDeclaration

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_COMMENT_WIDTH = 118
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def key(text: str) -> str:
    """A part of a key, bare where it can be."""
    return text if _BARE.fullmatch(text) else _escaped(text)


def string(text: str) -> str:
    """A string: literal where quotes or backslashes are in it, as in filter patterns, and escaped only where it must be.

    A lone surrogate, which no file can hold, becomes its JSON escape.
    """
    text = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("${", "$${")
    if text.isprintable() and not re.search(r'["\\]', text):
        return f'"{text}"'
    if text.isprintable() and "'" not in text:
        return f"'{text}'"
    if re.sub(r"[\n\t]", "", text).isprintable() and "'''" not in text:
        return f"'''\n{text}'''"
    return _escaped(text)


def value(found: object) -> str:
    """A boolean, a number or a string."""
    return str(found).lower() if isinstance(found, bool | int | float) else string(str(found))


def inline(found: object) -> str:
    """Any value of a table in one line: what `value` writes, arrays, tables, and declared sinks as the tables they are."""
    if isinstance(found, SinkDeclaration):
        return inline({"type": found.name, **found.settings.model_dump(exclude_unset=True)})
    if isinstance(found, Mapping):
        return "{ " + ", ".join(f"{key(name)} = {inline(each)}" for name, each in found.items()) + " }"
    if isinstance(found, list | tuple):
        return "[" + ", ".join(inline(each) for each in found) + "]"
    return value(found)


def comment(text: str) -> list[str]:
    """Lines of a comment; nothing in the text can end it."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    lines = textwrap.wrap(plain, _COMMENT_WIDTH, break_long_words=False, break_on_hyphens=False)
    return [f"# {line}" for line in lines]


def _escaped(text: str) -> str:
    return '"' + "".join(_character(character) for character in text) + '"'


def _character(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) <= 0xFFFF else f"\\U{ord(character):08x}"
