"""The sections of docs/reliability.md that are made from kept figures, each between two marks of its name."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "reliability.md"


def with_section(page: str, name: str, text: str) -> str:
    """The page with this text between the marks of the section.

    Raises:
        ValueError: the page does not have the two marks.
    """
    begin, end = f"<!-- begin of the generated {name} -->", f"<!-- end of the generated {name} -->"
    before, begun, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not (begun and ended):
        raise ValueError(f"the page has not both {begin} and {end}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def write_section(name: str, text: str) -> None:
    PAGE.write_text(with_section(PAGE.read_text("utf-8"), name, text), encoding="utf-8")
