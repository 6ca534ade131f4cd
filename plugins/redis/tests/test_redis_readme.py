"""The README tells the truth: its pipeline file is loaded, and its program runs as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from pages import check_pipeline_files, run_program

if TYPE_CHECKING:
    import pytest
    import redis

    from servers.valkey import ValkeyServer
    from streamflow.testing.pytest_plugin import LocalStreamsFactory

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_pipeline_file_declares_the_sink(tmp_path: Path) -> None:
    check_pipeline_files(README, tmp_path)


def test_the_program_keeps_the_items_of_the_stream(
    valkey_server: ValkeyServer,
    client: redis.Redis,
    local_streams_factory: LocalStreamsFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORDERS_URL", valkey_server.url())
    run_program(README, local_streams_factory, tmp_path, monkeypatch, instead={})
    assert [client.exists(f"order:o-{number}") for number in range(3)] == [1, 0, 1]
    assert orjson.loads(client.get("order:o-2") or b"") == {"id": "o-2", "total": 12.50}
