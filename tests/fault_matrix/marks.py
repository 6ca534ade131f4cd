"""Which tests prove what of the matrix, read from their marks without importing or running anything."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

MARK = "fault"
FOLDERS = ("tests", "plugins")


def marked(root: Path) -> dict[str, list[str]]:
    """The tests of the repository with marks, by the number of the fault: `tests/unit/test_x.py::test_y`, sorted.

    Raises:
        ValueError: a mark has no number, or one that is no literal.
    """
    found: dict[str, set[str]] = {}
    for file in _files(root):
        text = file.read_text("utf-8")
        if f"mark.{MARK}" in text:
            for number, test in marks_of(text, file.relative_to(root).as_posix()):
                found.setdefault(number, set()).add(test)
    return {number: sorted(tests) for number, tests in found.items()}


def _files(root: Path) -> Iterable[Path]:
    for folder in FOLDERS:
        yield from sorted((root / folder).rglob("test_*.py"))


def marks_of(source: str, file: str) -> Iterator[tuple[str, str]]:
    """Pairs of number and test for every mark on a test function of a module, also inside classes."""
    for names, function in _functions(ast.parse(source).body, ()):
        for decorator in function.decorator_list:
            for number in _numbers(decorator, file):
                yield number, "::".join((file, *names, function.name))


def _functions(
    body: Sequence[ast.stmt], names: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], ast.FunctionDef | ast.AsyncFunctionDef]]:
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            yield from _functions(statement.body, (*names, statement.name))
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            yield names, statement


def _numbers(decorator: ast.expr, file: str) -> list[str]:
    match decorator:
        case ast.Call(func=ast.Attribute(value=ast.Attribute(attr="mark"), attr="fault"), args=[_, *_] as arguments):
            numbers = [each.value for each in arguments if isinstance(each, ast.Constant)]
            texts = [number for number in numbers if isinstance(number, str)]
            if len(texts) == len(arguments):
                return texts
        case (
            ast.Attribute(value=ast.Attribute(attr="mark"), attr="fault")
            | ast.Call(func=ast.Attribute(value=ast.Attribute(attr="mark"), attr="fault"))
        ):
            pass
        case _:
            return []
    raise ValueError(f'{file}:{decorator.lineno}: a mark names its faults as texts: @pytest.mark.fault("F1")')
