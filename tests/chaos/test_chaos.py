"""Workers as processes over the stores of the core, killed, paused and restarted. The plugins' stores have tests of theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chaos.short import check_faults, check_rolling_restart, check_scaling

if TYPE_CHECKING:
    from pathlib import Path

# The limit counts the time in which a run waits for another one.
pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.timeout(600)]


@pytest.mark.fault("F28", "F29")
async def test_nothing_is_lost_and_what_is_repeated_is_explained(tmp_path: Path) -> None:
    """One after the other, as they would wait for each other anyway."""
    await check_faults("sqlite", tmp_path / "sqlite")
    await check_rolling_restart("sqlite", tmp_path / "restart")
    await check_scaling("sqlite", tmp_path / "scale")
    await check_faults("dynamodb", tmp_path / "dynamodb")
