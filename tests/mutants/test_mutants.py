"""The mutants can still be made, the hunt tells a broken promise from a kept one, and the page says what was found."""

from __future__ import annotations

import pytest

from mutants import page
from mutants.__main__ import SHARE_MIN
from mutants.hunt import Catch
from mutants.page import Report
from mutants.protocol import MUTANTS
from mutants.trying import PRODUCT, NoSuchTextError, Verdict, replaced, tried

_BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


@pytest.mark.parametrize("name", _BY_NAME)
def test_what_a_mutant_replaces_is_there_once_and_it_is_python(name: str) -> None:
    for edit in _BY_NAME[name].edits:
        text = replaced((PRODUCT / edit.path).read_text("utf-8"), edit.before, edit.after)
        compile(text, edit.path, "exec")


def test_text_that_is_not_there_is_told() -> None:
    with pytest.raises(NoSuchTextError, match="0 times"):
        replaced("a b", "c", "d")
    with pytest.raises(NoSuchTextError, match="2 times"):
        replaced("a a", "a", "d")


def test_there_are_about_forty() -> None:
    assert len(_BY_NAME) == len(MUTANTS) >= 40


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["unknown parents do not count", "stale start"])
def test_a_mutant_is_caught(name: str) -> None:
    verdict = tried(_BY_NAME[name], seconds=30)
    assert verdict.caught, verdict


def test_all_that_there_are_were_tried() -> None:
    assert [verdict.name for verdict in page.kept().verdicts] == list(_BY_NAME)


def test_hardly_any_is_missed() -> None:
    assert page.kept().share >= SHARE_MIN


def test_what_was_missed_is_named() -> None:
    missed = Verdict(name="sly", says="does as if", catch=Catch(runs=3))
    caught = Verdict(name="plain", says="does not", catch=Catch(invariants=("V1",), seed=7, world="small"))
    explored = Verdict(name="hasty", says="does first", catch=Catch(invariants=("model",), moves=8, world="a stop"))
    text = page.render(Report(seconds=60, verdicts=(missed, caught, explored)))
    assert "2 of 3 mutants were caught (67%)" in text
    assert "| hasty | does first | the model | 8 moves (a stop) |" in text
    assert "- **sly**: does as if" in text
    assert "| plain | does not | V1 | 7 (small) |" in text
