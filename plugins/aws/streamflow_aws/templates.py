"""Texts with places in them: values are put there, and never parsed again.

A place is `{name}`, and `{{` a plain `{`; where texts may well be JSON it is `${name}`, and `$${` a plain `${`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

_PLACES = {
    "{": re.compile(r"\{(\{)|\{([^{}\s]+)\}|\{"),
    "${": re.compile(r"\$(\$\{)|\$\{([^${}\s]+)\}|\$\{"),
}


@dataclass(frozen=True, slots=True)
class Template:
    """Texts and names in turn, a text at both ends; made by `parse`."""

    texts: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def only(self) -> str | None:
        """The name, where the template is one place and nothing else: it may stand for a value that is no text."""
        return self.names[0] if len(self.names) == 1 and not any(self.texts) else None

    def text(self, value: Callable[[str], str]) -> str:
        """With what `value` says for each name."""
        filled = [self.texts[0]]
        for name, text in zip(self.names, self.texts[1:], strict=True):
            filled += (value(name), text)
        return "".join(filled)


def parse(text: str, *, opening: Literal["{", "${"]) -> Template:
    """Raises `ValueError`: a place is not closed, or has no name."""
    texts, names, start = [""], [], 0
    for found in _PLACES[opening].finditer(text):
        texts[-1] += text[start : found.start()]
        start = found.end()
        if found[1]:
            texts[-1] += found[1]
        elif found[2]:
            names.append(found[2])
            texts.append("")
        else:
            raise ValueError(
                f"{opening} without a name and its }}: write {opening}name}}, or {opening[0]}{opening} for a plain {opening}"
            )
    texts[-1] += text[start:]
    return Template(tuple(texts), tuple(names))
