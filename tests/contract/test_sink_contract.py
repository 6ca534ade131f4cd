"""The contract suite of sinks: sinks that keep the contract pass, in memory and over a server that is killed."""

from __future__ import annotations

import secrets  # noqa: TID251 - names that no other run has
from typing import TYPE_CHECKING

import pytest
from journal_sink import JournalProcess, journal
from reference_sinks import memory_log, memory_state, seen_items, seen_messages

from streamflow.testing.proxies import FaultProxy, open_fault_proxy
from streamflow.testing.sink_contract import Seen, SinkContract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from streamflow.sdk import SinkDeclaration


class TestMemoryLog(SinkContract):
    kind = "log"
    server = "memory"

    @pytest.fixture
    def sink(self) -> SinkDeclaration:
        return memory_log(target=secrets.token_hex(4))

    async def read_back(self, sink: SinkDeclaration) -> list[Seen]:
        return seen_messages(sink)


class TestMemoryState(SinkContract):
    kind = "state"
    server = "memory"

    @pytest.fixture
    def sink(self) -> SinkDeclaration:
        return memory_state(target=secrets.token_hex(4))

    async def read_back(self, sink: SinkDeclaration) -> list[Seen]:
        return seen_items(sink)


class JournalContract(SinkContract):
    """Every hook there is."""

    server = "in-repo journal server"

    @pytest.fixture
    def process(self, tmp_path: Path) -> Iterator[JournalProcess]:
        self.process_under_test = process = JournalProcess(tmp_path)
        process.start()
        yield process
        process.kill()

    @pytest.fixture
    async def proxy(self, process: JournalProcess) -> AsyncIterator[FaultProxy]:
        async with open_fault_proxy("127.0.0.1", process.port) as proxy:
            yield proxy

    @pytest.fixture
    def sink(self, process: JournalProcess, proxy: FaultProxy) -> SinkDeclaration:
        return journal(port=proxy.port, mode=self.mode, token_file=process.token_file)

    @pytest.fixture
    def wrong_credentials(self, proxy: FaultProxy) -> SinkDeclaration:
        return journal(port=proxy.port, mode=self.mode, token="wr0ng-token")

    @pytest.fixture
    def missing_target(self, process: JournalProcess, proxy: FaultProxy) -> SinkDeclaration:
        return journal(port=proxy.port, mode=self.mode, token_file=process.token_file, table="other")

    async def kill(self) -> None:
        self.process_under_test.kill()

    async def restart(self) -> None:
        self.process_under_test.start()

    async def rotate_credentials(self) -> None:
        self.process_under_test.token_file.write_text("second-t0ken")

    async def read_back(self, sink: SinkDeclaration) -> list[Seen]:
        return list(self.process_under_test.seen())


class TestJournalLog(JournalContract):
    kind = "log"
    mode = "log"


class TestJournalState(JournalContract):
    kind = "state"
    mode = "state"


class TestJournalTransactional(JournalContract):
    kind = "state"
    mode = "transactional"
