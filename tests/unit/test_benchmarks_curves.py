"""The curves of the documentation: what they are computed from, and that they are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import curves
from streamflow.rules.pacing import PollPace

if TYPE_CHECKING:
    from pathlib import Path

LAMBDAS_PACE = PollPace(interval_s=0.25, idle_interval_s=0.25)
BUDGET = PollPace(interval_s=0.25, polling="cost", idle_polls_per_s_max=50)


def test_polls_and_dollars_are_those_of_the_cost_command() -> None:
    assert curves.polls_per_s(LAMBDAS_PACE, 1_000) == 4_000
    assert curves.usd_per_month(LAMBDAS_PACE, 1_000) == pytest.approx(2_102, rel=0.001)
    assert curves.polls_per_s(BUDGET, 1_000) <= 50
    assert curves.polls_per_s(BUDGET, 10_000) <= 50


def test_both_files_are_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(curves, "IMAGES", tmp_path / "images")
    curves.draw({1: 2.7, 100: 2.8, 2_000: 3.0})
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"polling.png", "shards.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "images").iterdir())
