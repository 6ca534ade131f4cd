"""Sinks that break the contract, each in one way: a declaration of each by the name of its fault."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import threading
import time
from contextlib import asynccontextmanager, suppress
from socket import socket
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
import anyio.lowlevel
import orjson
from journal_sink import Connections, JournalSettings, JournalWriter, TransactionalJournalWriter, journal
from msgspec.structs import replace
from pydantic import ConfigDict
from reference_sinks import (
    LOG,
    STATE,
    LogWriter,
    MemorySettings,
    StateWriter,
    Target,
    memory_log,
    memory_state,
    target_of,
)

from streamflow.sdk import (
    Capabilities,
    ConfigError,
    FencedError,
    RecordFailure,
    RecordsFailedError,
    Settings,
    SinkPlugin,
    payload,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from streamflow.sdk import Batch, Position, Record, Shard, SinkContext, SinkDeclaration, Writer

# --- in memory: what a writer does wrong -------------------------------------------------------------------------------


class Backwards(LogWriter):
    async def write(self, batch: Batch) -> None:
        for record in reversed(batch.records):
            self._target.messages.append(payload(record, "lambda"))


class KeepsTheFirst(StateWriter):
    async def _send(self, records: Sequence[Record]) -> None:
        for record in records:
            self._target.items.setdefault(record.item_key, record)


class KeepsTheLastWritten(StateWriter):
    async def _send(self, records: Sequence[Record]) -> None:
        self._target.items.update({record.item_key: record for record in records})


class ComparesText(StateWriter):
    async def _send(self, records: Sequence[Record]) -> None:
        for record in records:
            known = self._target.items.get(record.item_key)
            if known is None or known.sequence_number < record.sequence_number:
                self._target.items[record.item_key] = record


class HasNoTombstones(StateWriter):
    async def _send(self, records: Sequence[Record]) -> None:
        await super()._send(records)
        for record in records:
            if record.event_name == "REMOVE":
                del self._target.items[record.item_key]


class NeverDeletes(StateWriter):
    async def _send(self, records: Sequence[Record]) -> None:
        await super()._send([record for record in records if record.event_name != "REMOVE"])


class StaysDeleted(StateWriter):
    async def _send(self, records: Sequence[Record]) -> None:
        for record in records:
            known = self._target.items.get(record.item_key)
            if known is None or known.event_name != "REMOVE":
                await super()._send([record])


class SwallowsRefusals(LogWriter):
    async def write(self, batch: Batch) -> None:
        try:
            await super().write(batch)
        except RecordsFailedError:
            return


class RefusesTheWholeBatch(LogWriter):
    async def write(self, batch: Batch) -> None:
        try:
            await super().write(batch)
        except RecordsFailedError:
            raise RecordsFailedError([RecordFailure(record, "refused", "something") for record in batch]) from None


class OvertakesWhatWasRefused(LogWriter):
    async def write(self, batch: Batch) -> None:
        first, *others = batch
        self._target.messages += [payload(record, "lambda") for record in others]
        raise RecordsFailedError([RecordFailure(first, "refused", "too large")])


class ShowsItsToken(LogWriter):
    def __repr__(self) -> str:
        return "<LogWriter with s3cr3t-token>"


class LogsItsToken(LogWriter):
    async def write(self, batch: Batch) -> None:
        logging.getLogger("broken").warning("writing with s3cr3t-token")
        await super().write(batch)


class BlocksTheLoop(LogWriter):
    async def write(self, batch: Batch) -> None:
        time.sleep(0.06)  # noqa: ASYNC251, TID251 - the fault
        await super().write(batch)


class WritesLater(LogWriter):
    """Returns, and writes when somebody writes again."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._waiting: list[Batch] = []

    async def write(self, batch: Batch) -> None:
        for earlier in self._waiting:
            await super().write(earlier)
        self._waiting = [batch]


class SettlesSlowly(LogWriter):
    """No fault: what is written shows a little later."""

    async def _send(self, messages: Sequence[bytes]) -> None:
        TASKS.append(asyncio.create_task(self._show(messages)))  # noqa: TID251 - the target's own doing
        await anyio.lowlevel.checkpoint()

    async def _show(self, messages: Sequence[bytes]) -> None:
        await anyio.sleep(0.2)
        self._target.messages += messages


class TakesTheFirstTen(LogWriter):
    async def write(self, batch: Batch) -> None:
        await super().write(batch.select(batch.records[:10]))


class RemembersBatches(LogWriter):
    """Other batches of the same records are unknown to it."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._known: set[Any] = vars(target).setdefault("known", set())

    async def write(self, batch: Batch) -> None:
        if (batch.first, len(batch)) not in self._known:
            self._known.add((batch.first, len(batch)))
            await super().write(batch)


class RemembersFirstRecords(LogWriter):
    """A batch that begins with a record it knows is a batch that it has."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._known: set[Position] = set()

    async def write(self, batch: Batch) -> None:
        if batch.first not in self._known:
            self._known.add(batch.first)
            await super().write(batch)


class CountsBeforeItWrites(LogWriter):
    """What was begun is known to it, whether it was written or not."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._begun: set[str] = set()

    async def write(self, batch: Batch) -> None:
        new = [record for record in batch if record.event_id not in self._begun]
        self._begun |= {record.event_id for record in new}
        await anyio.lowlevel.checkpoint()
        if new:
            await super().write(batch.select(new))


class HasOneBatchForAll(LogWriter):
    async def write(self, batch: Batch) -> None:
        self._batch = batch
        await anyio.lowlevel.checkpoint()
        await super().write(self._batch)


class LosesDigits(StateWriter):
    async def _send(self, records: Sequence[Record]) -> None:
        await super()._send(records)
        for record in records:
            text = json.dumps(json.loads(orjson.dumps(record.json_image("new")), parse_int=float, parse_float=float))
            self._target.images[record.item_key] = text.encode()


class FailsForEver(LogWriter):
    async def write(self, batch: Batch) -> None:
        raise OSError("no")


class Hangs(LogWriter):
    """From its second batch on."""

    _written = 0

    async def write(self, batch: Batch) -> None:
        self._written += 1
        if self._written > 1:
            await anyio.sleep(math.inf)
        await super().write(batch)


# --- in memory: what opening does wrong --------------------------------------------------------------------------------


async def _for_ever() -> None:
    await anyio.sleep(math.inf)


@asynccontextmanager
async def leaks_a_task(settings: MemorySettings, context: SinkContext) -> AsyncIterator[Writer]:
    await anyio.lowlevel.checkpoint()
    TASKS.append(asyncio.create_task(_for_ever()))  # noqa: TID251 - the fault
    yield LogWriter(target_of(settings))


@asynccontextmanager
async def leaks_a_thread(settings: MemorySettings, context: SinkContext) -> AsyncIterator[Writer]:
    await anyio.lowlevel.checkpoint()
    threading.Thread(target=LEFT_BEHIND_ENDS.wait, daemon=True).start()  # noqa: TID251 - beside the test
    yield LogWriter(target_of(settings))


@asynccontextmanager
async def leaks_a_socket(settings: MemorySettings, context: SinkContext) -> AsyncIterator[Writer]:
    await anyio.lowlevel.checkpoint()
    SOCKETS.append(socket())
    yield LogWriter(target_of(settings))


@asynccontextmanager
async def opens_once(settings: MemorySettings, context: SinkContext) -> AsyncIterator[Writer]:
    await anyio.lowlevel.checkpoint()
    target = target_of(settings)
    if vars(target).setdefault("opened", False):
        raise OSError("it is open")
    vars(target)["opened"] = True
    yield LogWriter(target)


TASKS: list[Any] = []
SOCKETS: list[socket] = []
STREAMS: list[anyio.abc.SocketStream] = []
LEFT_BEHIND_ENDS = threading.Event()


def memory_log_by(writer: Callable[[Target], Writer], capabilities: Capabilities = LOG) -> SinkDeclaration:
    return _declared(memory_log, _opening(writer), capabilities)


def memory_state_by(writer: Callable[[Target], Writer], capabilities: Capabilities = STATE) -> SinkDeclaration:
    return _declared(memory_state, _opening(writer), capabilities)


def memory_log_opened_by(
    opening: Callable[[MemorySettings, SinkContext], AbstractAsyncContextManager[Writer]],
) -> SinkDeclaration:
    return _declared(memory_log, opening, LOG)


def _opening(
    writer: Callable[[Target], Writer],
) -> Callable[[MemorySettings, SinkContext], AbstractAsyncContextManager[Writer]]:
    @asynccontextmanager
    async def open_it(settings: MemorySettings, context: SinkContext) -> AsyncIterator[Writer]:
        await anyio.lowlevel.checkpoint()
        yield writer(target_of(settings))

    return open_it


def _declared(
    plugin: SinkPlugin[MemorySettings],
    opening: Callable[[MemorySettings, SinkContext], AbstractAsyncContextManager[Writer]],
    capabilities: Capabilities,
) -> SinkDeclaration:
    broken = SinkPlugin(
        name=plugin.name,
        api_version="1.0",
        summary="Broken.",
        settings=MemorySettings,
        examples=plugin.examples,
        open=opening,
        capabilities=capabilities,
    )
    return broken(target=f"broken-{next(_NUMBERS)}")


_NUMBERS = iter(range(10**9))

# --- declarations ------------------------------------------------------------------------------------------------------


class TakesAnything(MemorySettings):
    model_config = ConfigDict(extra="allow")


class Place(Settings):
    name: str = "here"


class DescribesNothing(MemorySettings):
    place: Place = Place()
    """Where it is; but its own keys are not described."""


def declared_with(settings: type[MemorySettings]) -> SinkDeclaration:
    broken = SinkPlugin(
        name="memory_log",
        api_version="1.0",
        summary="Broken.",
        settings=settings,
        examples={"plain": {}},
        open=_opening(LogWriter),
        capabilities=LOG,
    )
    return broken()


# --- over the network --------------------------------------------------------------------------------------------------


class IgnoresItsServer(JournalWriter):
    async def write(self, batch: Batch) -> None:
        try:
            await super().write(batch)
        except ConnectionError:
            return


class RefusesWhenAway(JournalWriter):
    async def write(self, batch: Batch) -> None:
        try:
            await super().write(batch)
        except ConnectionError:
            raise RecordsFailedError([RecordFailure(record, "refused", "away") for record in batch]) from None


class ReturnsEarly(JournalWriter):
    """Hands over to tasks that nobody waits for."""

    async def write(self, batch: Batch) -> None:
        TASKS.append(asyncio.create_task(super().write(batch)))  # noqa: TID251 - the fault
        await anyio.lowlevel.checkpoint()


class KeepsItsConnection(JournalWriter):
    """Once broken, it stays so."""

    _broken = False

    async def write(self, batch: Batch) -> None:
        if self._broken:
            raise ConnectionError("closed")
        try:
            await super().write(batch)
        except ConnectionError:
            self._broken = True
            raise


class BreaksWithTheFirstConnection(JournalWriter):
    """It keeps a connection open that it does nothing with, and minds its end."""

    def __init__(self, connections: Connections, settings: JournalSettings) -> None:
        super().__init__(connections, settings)
        self._stream: anyio.abc.SocketStream | None = None

    async def write(self, batch: Batch) -> None:
        if self._stream is None:
            self._stream = await anyio.connect_tcp("127.0.0.1", self._settings.port)
            STREAMS.append(self._stream)
        with anyio.move_on_after(0.02):
            await self._stream.receive()
        await super().write(batch)


class NeverFenced(TransactionalJournalWriter):
    """It loses the shard, and does not say so."""

    async def write(self, batch: Batch) -> None:
        with suppress(FencedError):
            await super().write(batch)


class ForgetsItsCheckpoint(TransactionalJournalWriter):
    async def fence(self, shard: Shard, epoch: int) -> Position | None:
        await super().fence(shard, epoch)
        return None


class WritesOneByOne(TransactionalJournalWriter):
    """Each record is a transaction of its own: a batch can be there in part."""

    async def write(self, batch: Batch) -> None:
        for record in batch:
            await super().write(batch.select([record]))


class NeverAdvances(TransactionalJournalWriter):
    async def advance(self, shard: Shard, epoch: int, position: Position) -> None:
        return


class AlwaysAdvances(TransactionalJournalWriter):
    """Letters that are delivered again count as the owner's."""

    async def write(self, batch: Batch) -> None:
        await super().write(replace(batch, epoch=batch.epoch or 1))


def journal_by(
    writer: Callable[..., Writer], capabilities: Capabilities | None = None, **settings: Any
) -> SinkDeclaration:
    @asynccontextmanager
    async def open_it(settings: JournalSettings, context: SinkContext) -> AsyncIterator[Writer]:
        connections = Connections(settings, context.pipeline)
        await connections.ask(do="look")
        yield writer(connections) if settings.mode == "transactional" else writer(connections, settings)

    broken = SinkPlugin(
        name="journal",
        api_version="1.0",
        summary="Broken.",
        settings=JournalSettings,
        examples=journal.examples,
        open=open_it,
        capabilities=capabilities or journal.capabilities,
    )
    return broken(**settings)


def journal_that_raises(error: type[Exception], **settings: Any) -> SinkDeclaration:
    """Whatever is wrong when it is opened."""

    @asynccontextmanager
    async def open_it(settings: JournalSettings, context: SinkContext) -> AsyncIterator[Writer]:
        connections = Connections(settings, context.pipeline)
        try:
            await connections.ask(do="look", table="other")
        except ConfigError:
            raise error("it does not work") from None
        yield JournalWriter(connections, settings)

    broken = SinkPlugin(
        name="journal",
        api_version="1.0",
        summary="Broken.",
        settings=JournalSettings,
        examples=journal.examples,
        open=open_it,
        capabilities=journal.capabilities,
    )
    return broken(**settings)
