"""Any text in a column of PostgreSQL, which holds no NUL, and none that UTF-8 cannot say.

A backslash is doubled; NUL is `\\0`, and a lone surrogate `\\ud800`. Texts without these stay as they are, for people.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(r"\\(?:([\\0])|u([0-9a-f]{4}))|\\")


def stored(text: str) -> str:
    """As it is stored: different for different texts."""
    if "\\" in text or "\0" in text:
        text = text.replace("\\", "\\\\").replace("\0", "\\0")
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def original(text: str) -> str:
    """What was stored. Raises `ValueError` for a text that `stored` has not made."""
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(escape: re.Match[str]) -> str:
    sign, code = escape.groups()
    if sign is None and code is None:
        raise ValueError("it has a backslash that begins nothing")
    if code is not None:
        return chr(int(code, 16))
    return "\0" if sign == "0" else "\\"
