"""What a sweep says by its exit code."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from streamflow.testing.simulation import __main__ as command
from streamflow.testing.simulation.interrupted import INTERRUPTED
from streamflow.testing.simulation.running import Sweep
from streamflow.testing.simulation.sometimes import STATES

if TYPE_CHECKING:
    from collections.abc import Iterator


def swept(monkeypatch: pytest.MonkeyPatch, reached: Counter[str], *arguments: str) -> int:
    """The exit code of a sweep that came to these states."""

    def sweep(_work: Iterator[tuple[int, str]], **_more: Any) -> Sweep:
        return Sweep(runs=1, reached=reached)

    monkeypatch.setattr(command, "sweep", sweep)
    return command.main(arguments)


@pytest.mark.parametrize("missed", STATES)
def test_a_state_that_was_never_reached_fails_a_sweep_that_asks_for_all(
    monkeypatch: pytest.MonkeyPatch, missed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reached = Counter(state for state in STATES if state != missed)
    assert swept(monkeypatch, reached, "--reach-all") == 1
    assert f"never: {missed}" in capsys.readouterr().out
    assert swept(monkeypatch, reached) == 0
    assert swept(monkeypatch, Counter(STATES), "--reach-all") == 0


def test_one_seed_in_twenty_is_run_with_and_without_stops() -> None:
    work = command._work("standard", 1)
    worlds = Counter(world for _, world in (next(work) for _ in range(40)))
    assert worlds == {INTERRUPTED: 2, "standard": 38}
