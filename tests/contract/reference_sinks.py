"""Sinks in memory that keep the contract: what the contract suite of sinks is tested with, beside broken ones."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from pydantic import SecretStr

from streamflow.sdk import Capabilities, Record, Settings, SinkPlugin, payload, write_in_requests
from streamflow.testing.sink_contract import Seen, exact_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow.sdk import Batch, SinkContext, SinkDeclaration


class Target:
    """What a server would be: messages in order of arrival, and the record that each item has now."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.items: dict[str, Record] = {}
        self.images: dict[str, bytes] = {}
        """Of items whose image is kept in another form than the record's own."""


class MemorySettings(Settings):
    target: str = "default"
    """Name of the target."""
    token: SecretStr = SecretStr("s3cr3t-token")
    """What the target wants to see."""


LOG = Capabilities(
    order="key", idempotence="none", partial_failures=True, request_records_max=10, record_bytes_max=300_000
)
STATE = Capabilities(
    order="key",
    idempotence="versioned",
    idempotence_key="item key and sequence number",
    partial_failures=True,
    request_records_max=10,
    record_bytes_max=300_000,
)

_TARGETS: dict[str, Target] = {}


def target_of(settings: MemorySettings) -> Target:
    return _TARGETS.setdefault(settings.target, Target())


class LogWriter:
    def __init__(self, target: Target) -> None:
        self._target = target

    async def write(self, batch: Batch) -> None:
        await write_in_requests(batch, encode=_message, send=self._send, capabilities=LOG)

    async def _send(self, messages: Sequence[bytes]) -> None:
        await anyio.lowlevel.checkpoint()
        self._target.messages += messages


class StateWriter:
    def __init__(self, target: Target) -> None:
        self._target = target

    async def write(self, batch: Batch) -> None:
        await write_in_requests(batch, encode=_measured, send=self._send, capabilities=STATE)

    async def _send(self, records: Sequence[Record]) -> None:
        await anyio.lowlevel.checkpoint()
        for record in records:
            known = self._target.items.get(record.item_key)
            if known is None or int(known.sequence_number) < int(record.sequence_number):
                self._target.items[record.item_key] = record


def _message(record: Record) -> tuple[bytes, int]:
    text = payload(record, "lambda")
    return text, len(text)


def _measured(record: Record) -> tuple[Record, int]:
    return record, len(record.json)


@asynccontextmanager
async def _open_log(settings: MemorySettings, context: SinkContext) -> AsyncIterator[LogWriter]:
    await anyio.lowlevel.checkpoint()
    yield LogWriter(target_of(settings))


@asynccontextmanager
async def _open_state(settings: MemorySettings, context: SinkContext) -> AsyncIterator[StateWriter]:
    await anyio.lowlevel.checkpoint()
    yield StateWriter(target_of(settings))


memory_log = SinkPlugin(
    name="memory_log",
    api_version="1.0",
    summary="Messages in memory.",
    settings=MemorySettings,
    examples={"plain": {"target": "orders"}},
    open=_open_log,
    capabilities=LOG,
)
memory_state = SinkPlugin(
    name="memory_state",
    api_version="1.0",
    summary="Items in memory.",
    settings=MemorySettings,
    examples={"plain": {"target": "orders"}},
    open=_open_state,
    capabilities=STATE,
)


def seen_messages(sink: SinkDeclaration) -> list[Seen]:
    return [Seen.of_payload(text, "lambda") for text in _target(sink).messages]


def seen_items(sink: SinkDeclaration) -> list[Seen]:
    target = _target(sink)
    items = {key: Seen.of_payload(payload(record, "lambda"), "lambda") for key, record in target.items.items()}
    return [*(items | {key: Seen(image=exact_json(image)) for key, image in target.images.items()}).values()]


def _target(sink: SinkDeclaration) -> Target:
    assert isinstance(sink.settings, MemorySettings)
    return target_of(sink.settings)
