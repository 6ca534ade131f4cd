"""Cancellation is safe wherever a tool can see that: the rules of flake8-async that ruff does not have."""

from __future__ import annotations

import pytest
from async_rules import CODES, NOT_OF_TESTS, findings
from test_house import python_files


def test_no_file_breaks_a_rule() -> None:
    found = [
        finding
        for path, source in python_files().items()
        for finding in findings(path, source)
        if not (_is_test(path) and any(code in finding for code in NOT_OF_TESTS))
    ]
    assert found == []


def _is_test(path: str) -> bool:
    return path.startswith("benchmarks/") or "tests" in path.split("/")


@pytest.mark.parametrize(
    ("code", "body"),
    [
        ("ASYNC101", "async def f():\n    async with anyio.create_task_group():\n        yield 1"),
        ("ASYNC101", "def f():\n    with anyio.CancelScope():\n        yield 1"),
        ("ASYNC102", "async def f():\n    try:\n        pass\n    finally:\n        await g()"),
        ("ASYNC103", "async def f():\n    try:\n        await g()\n    except BaseException:\n        pass"),
        ("ASYNC119", "async def f():\n    with open(g):\n        yield 1"),
        ("ASYNC300", "import asyncio\nasync def f():\n    asyncio.create_task(g())"),
    ],
)
def test_a_planted_violation_is_found(code: str, body: str) -> None:
    found = list(findings("planted.py", f"import anyio\n{body}\n"))
    assert [code in finding for finding in found].count(True) == 1, found


def test_every_rule_has_a_planted_violation() -> None:
    marks = test_a_planted_violation_is_found.pytestmark  # type: ignore[attr-defined]
    assert {code for code, _ in marks[0].args[1]} == set(CODES)


def test_a_context_manager_may_yield_in_a_scope() -> None:
    body = "async def f():\n    async with anyio.create_task_group():\n        yield 1\n"
    assert list(findings("innocent.py", f"import anyio\n@asynccontextmanager\n{body}")) == []


def test_a_line_may_be_excused_from_a_rule_that_it_names() -> None:
    body = "async def f():\n    try:\n        pass\n    finally:\n        await g()  # noqa: {} - there is a reason\n"
    assert list(findings("excused.py", "import anyio\n" + body.format("ASYNC102"))) == []
    assert len(list(findings("not_excused.py", "import anyio\n" + body.format("ASYNC103")))) == 1
