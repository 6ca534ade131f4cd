"""What the tests of the AWS sinks use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gate import open_gate
from servers.ministack import ministack, ministack_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gate import Gate

__all__ = ["ministack", "ministack_server"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def gate(ministack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    """A gate before an empty MiniStack. The environment holds good keys, and the profile `wrong` others."""
    credentials = tmp_path / "credentials"
    credentials.write_text("[wrong]\naws_access_key_id = wrong\naws_secret_access_key = wrong\n", encoding="utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    async with open_gate(ministack) as opened:
        yield opened
