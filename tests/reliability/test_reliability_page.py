"""docs/reliability.md says what the kept figures say."""

from __future__ import annotations

import msgspec
import pytest

from reliability import sections
from reliability.figures import SECTIONS, SIMULATION, Simulated


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_is_what_is_kept(name: str) -> None:
    page = sections.PAGE.read_text("utf-8")
    assert sections.with_section(page, name, SECTIONS[name]()) == page, "run: PYTHONPATH=tests python -m reliability"


def test_the_kept_sweep_is_long_and_kept_every_promise() -> None:
    run = msgspec.json.decode(SIMULATION.read_bytes(), type=Simulated)
    assert (run.failed, run.standard_hours >= 300) == (0, True)


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="has not both"):
        sections.with_section("a page", "soak", "text")
