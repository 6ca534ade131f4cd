"""Where each key of a TOML document stands: a second look at a text that `tomllib` has already accepted.

The scanner relies on the text being valid TOML; what it returns for other texts means nothing.
"""

from __future__ import annotations

import re
import tomllib
from typing import TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys from the top of the document; an int is an index into an array."""

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY_PART = re.compile(r'[ \t]*([A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\')[ \t]*')
_SCALAR = re.compile(
    r'"""(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|[^,\]}#\n]+"
)


class KeyLines:
    """Line numbers, from 1, by key path."""

    def __init__(self, text: str) -> None:
        self._lines = _Scan(text).lines

    def line(self, path: KeyPath) -> int:
        """The line of the key, or of the nearest table around it that is written down; 1 where none is."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return 1


class _Scan:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self._counts: dict[KeyPath, int] = {}  # arrays of tables: how many elements so far
        self._line, self._line_at = 1, 0
        self._document()

    def _document(self) -> None:
        table: KeyPath = ()
        while self._skip_space():
            if self.text[self.at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        array = self.text.startswith("[[", self.at)
        line = self._here()
        self.at += 2 if array else 1
        keys = self._keys()
        self.at += 2 if array else 1
        table: KeyPath = ()
        for key in keys[:-1]:
            table = self._last_element((*table, key))
        if array:
            table = (*table, keys[-1])
            self.lines.setdefault(table, line)
            self._counts[table] = self._counts.get(table, 0) + 1
            table = (*table, self._counts[table] - 1)
        else:
            table = self._last_element((*table, keys[-1]))
        self.lines[table] = line
        return table

    def _last_element(self, path: KeyPath) -> KeyPath:
        return (*path, self._counts[path] - 1) if path in self._counts else path

    def _pair(self, table: KeyPath) -> None:
        line = self._here()
        keys = self._keys()
        self.at += 1  # =
        for length in range(1, len(keys) + 1):
            self.lines.setdefault((*table, *keys[:length]), line)
        self._value((*table, *keys))

    def _value(self, path: KeyPath) -> None:
        self._skip_space()
        match self.text[self.at]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case _:
                self.at = self._match(_SCALAR).end()

    def _array(self, path: KeyPath) -> None:
        self.at += 1
        index = 0
        while self._skip_space() and self.text[self.at] != "]":
            self.lines[*path, index] = self._here()
            self._value((*path, index))
            index += 1
            self._skip_comma()
        self.at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.at += 1
        while self._skip_space() and self.text[self.at] != "}":
            self._pair(path)
            self._skip_comma()
        self.at += 1

    def _skip_comma(self) -> None:
        self._skip_space()
        if self.text[self.at] == ",":
            self.at += 1

    def _keys(self) -> list[str]:
        keys = [self._key()]
        while self.text[self.at] == ".":
            self.at += 1
            keys.append(self._key())
        return keys

    def _key(self) -> str:
        found = self._match(_KEY_PART)
        self.at = found.end()
        key = found[1]
        if key[0] in "\"'":
            unquoted: str = tomllib.loads(f"key = {key}")["key"]
            return unquoted
        return key

    def _skip_space(self) -> bool:
        """Pass over white space, line ends and comments; False at the end of the text."""
        self.at = self._match(_SPACE).end()
        return self.at < len(self.text)

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str]:
        found = pattern.match(self.text, self.at)
        assert found is not None, f"not TOML at offset {self.at}"
        return found

    def _here(self) -> int:
        self._line += self.text.count("\n", self._line_at, self.at)
        self._line_at = self.at
        return self._line
