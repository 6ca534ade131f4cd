"""The README tells the truth: its pipeline file is loaded, and its program runs, but for the address of the server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import orjson

from nats_streams import create_stream, read_stream
from pages import check_pipeline_files, run_program

if TYPE_CHECKING:
    import pytest

    from nats_streams import Read
    from servers.nats import NatsServer
    from streamflow.testing.pytest_plugin import LocalStreamsFactory

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_pipeline_file_declares_the_sink(tmp_path: Path) -> None:
    check_pipeline_files(README, tmp_path)


def test_the_program_publishes_the_changes_of_the_stream(
    running_server: NatsServer,
    local_streams_factory: LocalStreamsFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def create() -> None:
        await create_stream(running_server, "CDC", subjects=["cdc.>"])

    async def read() -> list[Read]:
        return await read_stream(running_server, "CDC")

    anyio.run(create)
    instead = {"nats://localhost:4222": running_server.url}
    run_program(README, local_streams_factory, tmp_path, monkeypatch, instead=instead)
    changes = [orjson.loads(message.payload) for message in anyio.run(read)]
    assert sorted((change["key"]["id"], change["op"]) for change in changes) == [
        ("o-0", "c"),
        ("o-1", "c"),
        ("o-1", "d"),
        ("o-2", "c"),
    ]
