"""The rules of flake8-async that ruff does not have, run in one process. A finding is one line that says where and what.

Its command line parses every file a second time, losslessly, for rules that are not asked for here: minutes where the syntax
tree takes seconds. So only files with something that takes that parser to judge go through all of it.
"""

from __future__ import annotations

import ast
import re
from argparse import ArgumentParser
from functools import cache
from typing import TYPE_CHECKING

from flake8_async import Plugin
from flake8_async.runner import Flake8AsyncRunner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flake8_async.base import Options

CODES = (
    "ASYNC101",  # a generator yields inside a task group or cancel scope
    "ASYNC102",  # an await in `finally` without a shield and a deadline: cut short by the cancellation that led there
    "ASYNC103",  # `except BaseException` that may swallow a cancellation
    "ASYNC119",  # an async generator yields inside a context manager, whose end the garbage collector decides
    "ASYNC300",  # a task that nobody holds
)
# Cancelled cleanup leaves nothing behind where the process, and the server that it talked to, end with the test.
NOT_OF_TESTS = frozenset({"ASYNC102"})

_ASYNC = re.compile(r"\b(async (def|with|for)|await)\b")
_SCOPE = re.compile(r"\b(create_task_group|TaskGroup|CancelScope|move_on_a\w+|fail_a\w+|timeout(_at)?)\(")
_TASK = re.compile(r"\bcreate_task\(")
_NOQA = re.compile(r"#\s*noqa:\s*([A-Z0-9, ]+)")
# What may yield in a scope: pytest and contextlib resume it where they started it.
_RESUMED = frozenset({"contextmanager", "asynccontextmanager", "fixture"})


def findings(path: str, source: str) -> Iterator[str]:
    """What the rules say of one file, but for lines whose `noqa` names the rule."""
    if not _ASYNC.search(source) and not _SCOPE.search(source):
        return
    options = _options()
    tree = ast.parse(source)
    scoped = _SCOPE.search(source) and any(map(_yields_on_its_own, ast.walk(tree)))
    if scoped or _TASK.search(source):
        problems = list(Plugin.from_source(source).run())
    else:
        problems = list(Flake8AsyncRunner.run(tree, options))
    lines = source.splitlines()
    for problem in sorted(problems):
        if problem.code in CODES and problem.code not in _excused(lines[problem.line - 1]):
            yield f"{path}:{problem}"


@cache
def _options() -> Options:
    """They belong to the class: the first call sets them for all."""
    parser = ArgumentParser()
    Plugin.add_options(parser)
    Plugin.parse_options(parser.parse_args(["--anyio", "--enable", ",".join(CODES)]))
    return Plugin.from_source("").options


def _excused(line: str) -> set[str]:
    found = _NOQA.search(line)
    return set(re.split(r"[,\s]+", found[1])) if found else set()


def _yields_on_its_own(node: ast.AST) -> bool:
    """Whether it is a generator function that nobody turns into a context manager or a fixture."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    decorators = {name for each in node.decorator_list for name in re.findall(r"\w+", ast.unparse(each))}
    return not decorators & _RESUMED and any(isinstance(each, ast.Yield) for each in _own(node))


def _own(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function, without those of functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))
