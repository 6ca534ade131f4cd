"""docs/filters.md says what patterns do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from streamflow.rules.patterns.compiling import compile_pattern
from streamflow.rules.patterns.traps import explain_traps

PAGE = (Path(__file__).parents[2] / "docs" / "filters.md").read_text(encoding="utf-8")
OPERATORS = re.findall(r"^\| [a-z, ]+ \| `(.+)` \| `(.+)` \| `(.+)` \|$", PAGE, re.MULTILINE)
TRAPS = re.findall(r"^\| `(\{.+\})` \| (?:matches|never|does not)", PAGE, re.MULTILINE)


def test_the_page_has_its_tables() -> None:
    assert (len(OPERATORS), len(TRAPS)) == (21, 11)


@pytest.mark.parametrize(("condition", "matching", "other"), OPERATORS)
def test_an_example_matches_the_one_and_not_the_other(condition: str, matching: str, other: str) -> None:
    matches = compile_pattern(f'{{"a": [{condition}]}}')
    assert matches({"a": json.loads(matching)})
    assert not matches({"a": json.loads(other)})


@pytest.mark.parametrize("pattern", TRAPS)
def test_a_trap_is_one(pattern: str) -> None:
    assert len(explain_traps(pattern)) == 1
