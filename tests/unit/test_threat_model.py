"""The threat model names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`([a-z/_]+/test_\w+\.py)(?:::(test_\w+))?`", PAGE)))


def test_every_kind_of_attacker_has_tests() -> None:
    parts = PAGE.partition("## Not trusted")[2].partition("## Not defended")[0].split("\n### ")[1:]
    assert len(parts) == 6
    assert [part.partition("\n")[0] for part in parts if "test_" not in part] == []


@pytest.mark.parametrize(("file", "test"), NAMED, ids=str)
def test_what_is_named_is_there(file: str, test: str) -> None:
    (found,) = [folder / file for folder in (ROOT / "tests", ROOT / "plugins") if (folder / file).is_file()]
    assert not test or re.search(rf"^(async )?def {test}\(", found.read_text("utf-8"), re.MULTILINE)
