"""A sink for the journal server, in three modes, and the server's process."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from select import select
from typing import TYPE_CHECKING, Any, Literal

import anyio
import anyio.abc
import orjson
from journal_server import RECORD_BYTES_MAX, Journal
from pydantic import SecretStr

from streamflow.sdk import (
    Capabilities,
    ConfigError,
    FencedError,
    Position,
    RecordFailure,
    RecordsFailedError,
    Settings,
    SinkPlugin,
    image_json,
    write_in_requests,
)
from streamflow.testing.sink_contract import Seen, exact_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from streamflow.sdk import Batch, Record, Shard, SinkContext


class JournalSettings(Settings):
    port: int = 4000
    """Port of the server on this machine."""
    table: str = "orders"
    """Table to write to."""
    mode: Literal["log", "state", "transactional"] = "log"
    """What is written: every change, the newest version of each item, or that together with the checkpoint."""
    token_file: Path = Path("token")
    """File with the token, read for each connection."""
    token: SecretStr | None = None
    """The token itself, instead of the file."""


def _capabilities(settings: JournalSettings) -> Capabilities:
    limits: dict[str, Any] = {"partial_failures": True, "record_bytes_max": RECORD_BYTES_MAX}
    match settings.mode:
        case "log":
            return Capabilities(order="key", idempotence="none", request_records_max=100, **limits)
        case "state":
            kind: Literal["versioned"] = "versioned"
            return Capabilities(
                order="key", idempotence=kind, idempotence_key="sequence number", request_records_max=100, **limits
            )
    return Capabilities(order="shard", idempotence="transactional", idempotence_key="checkpoint", **limits)


class Connections:
    """One connection per request: there is nothing to mend after it broke."""

    def __init__(self, settings: JournalSettings, pipeline: str) -> None:
        self._settings = settings
        self._pipeline = pipeline

    async def ask(self, **request: Any) -> dict[str, Any]:
        """Raises `ConnectionError` where the server does not answer."""
        secret = self._settings.token
        token = secret.get_secret_value() if secret is not None else self._settings.token_file.read_text()
        line = orjson.dumps({"token": token, "table": self._settings.table, **request}) + b"\n"
        try:
            async with await anyio.connect_tcp("127.0.0.1", self._settings.port) as stream:
                await stream.send(line)
                answer = await _line(stream)
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            raise ConnectionError("the server does not answer") from None
        if answer.get("fenced"):
            raise FencedError("a newer owner has written")
        if "error" in answer:
            raise ConfigError(f"the server does not take this {answer['error']}: mend the setting of that name")
        return answer

    def shard(self, shard: Shard) -> str:
        return f"{self._pipeline}/{shard.stream_arn}/{shard.shard_id}"


async def _line(stream: anyio.abc.ByteReceiveStream) -> dict[str, Any]:
    text = b""
    while not text.endswith(b"\n"):
        text += await stream.receive()
    found: dict[str, Any] = json.loads(text)
    return found


class JournalWriter:
    def __init__(self, connections: Connections, settings: JournalSettings) -> None:
        self._connections = connections
        self._settings = settings

    async def write(self, batch: Batch) -> None:
        capabilities = _capabilities(self._settings)
        await write_in_requests(batch, encode=_entry, send=self._send, capabilities=capabilities)

    async def _send(self, entries: Sequence[dict[str, Any]]) -> None:
        await self._connections.ask(do="write", records=entries, versions=self._settings.mode == "state")


class TransactionalJournalWriter:
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def write(self, batch: Batch) -> None:
        entries, failures = _until_refused(batch)
        if entries:
            place = self._connections.shard(batch.shard)
            await self._connections.ask(do="write", records=entries, versions=True, shard=place, epoch=batch.epoch)
        if failures:
            raise RecordsFailedError(failures)

    async def fence(self, shard: Shard, epoch: int) -> Position | None:
        answer = await self._connections.ask(do="fence", shard=self._connections.shard(shard), epoch=epoch)
        return None if answer["checkpoint"] is None else Position.after(answer["checkpoint"])

    async def advance(self, shard: Shard, epoch: int, position: Position) -> None:
        place = self._connections.shard(shard)
        await self._connections.ask(do="advance", shard=place, epoch=epoch, to=position.sequence_number)


def _until_refused(batch: Batch) -> tuple[list[dict[str, Any]], list[RecordFailure]]:
    """Entries up to the first record that cannot be taken; that one, and all behind it."""
    entries: list[dict[str, Any]] = []
    failures: list[RecordFailure] = []
    for record in batch:
        entry, size = _entry(record)
        if failures:
            failures.append(RecordFailure(record, "waiting", "behind a record that was not written"))
        elif size > RECORD_BYTES_MAX:
            failures.append(RecordFailure(record, "refused", f"it has {size} bytes"))
        else:
            entries.append(entry)
    return entries, failures


def _entry(record: Record) -> tuple[dict[str, Any], int]:
    image = image_json(record)
    text = None if image is None else image.decode()
    entry = {"key": record.item_key, "number": record.sequence_number, "event_id": record.event_id, "image": text}
    return entry, len(orjson.dumps(entry))


@asynccontextmanager
async def _open(
    settings: JournalSettings, context: SinkContext
) -> AsyncIterator[JournalWriter | TransactionalJournalWriter]:
    connections = Connections(settings, context.pipeline)
    await connections.ask(do="look")
    if settings.mode == "transactional":
        yield TransactionalJournalWriter(connections)
    else:
        yield JournalWriter(connections, settings)


journal = SinkPlugin(
    name="journal",
    api_version="1.0",
    summary="Lines of a journal, or items of a table made of them.",
    settings=JournalSettings,
    examples={"log": {"port": 4000}, "transactional": {"mode": "transactional"}},
    open=_open,
    capabilities=_capabilities,
)


@cache
def _servers() -> subprocess.Popen[str]:
    """The process that all servers of this test run are forked from."""
    script = Path(__file__).with_name("journal_server.py")
    process = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    atexit.register(process.wait)
    atexit.register(process.stdin.close)  # comes first
    return process


class JournalProcess:
    """The server; `start` it, `kill` it, `start` it again on the same port."""

    def __init__(self, directory: Path) -> None:
        self.journal_file = directory / "journal"
        self.token_file = directory / "token"
        self.token_file.write_text("first-t0ken")
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]
        self._process: int | None = None  # a file descriptor, which never means another process

    def start(self) -> None:
        servers = _servers()
        assert servers.stdin is not None
        assert servers.stdout is not None
        arguments = [self.port, str(self.journal_file), str(self.token_file)]
        servers.stdin.write(json.dumps(arguments) + "\n")
        servers.stdin.flush()
        self._process = os.pidfd_open(int(servers.stdout.readline()))

    def kill(self) -> None:
        """Does nothing to one that is dead."""
        if self._process is None:
            return
        with os.fdopen(self._process) as ended:
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
            select([ended], [], [])
        self._process = None

    def seen(self) -> Iterator[Seen]:
        """What the journal shows, past the server."""
        found = Journal(self.journal_file)
        for entry in [*found.messages, *found.items.values()]:
            yield Seen(
                item_key=entry["key"],
                sequence_number=entry["number"],
                event_id=entry["event_id"],
                image=None if entry["image"] is None else exact_json(entry["image"]),
                deleted=entry["image"] is None,
            )
