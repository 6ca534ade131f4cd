"""Workers as processes over one Valkey server, killed and paused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chaos.short import check_faults

if TYPE_CHECKING:
    from pathlib import Path

# The limit counts the time in which a run waits for another one.
pytestmark = [pytest.mark.anyio, pytest.mark.integration, pytest.mark.timeout(600)]


async def test_nothing_is_lost_and_what_is_repeated_is_explained(tmp_path: Path) -> None:
    await check_faults("redis", tmp_path / "redis")
