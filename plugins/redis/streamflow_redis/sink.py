"""The sink: batches into calls, and their answers into what the engine is told."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamflow.sdk import BEHIND, RecordFailure, RecordsFailedError, encode_in_order, newest, packed
from streamflow_redis.client import open_server
from streamflow_redis.entries import cached_key, hash_entry, json_entry, message, stream_entry
from streamflow_redis.errors import RedisWriteError, code_of, hint
from streamflow_redis.keys import beside
from streamflow_redis.scripts import PUBLISH, STREAM, VIEW
from streamflow_redis.settings import capabilities

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from streamflow.sdk import Batch, Record, Shard, SinkContext, Writer
    from streamflow_redis.client import Server
    from streamflow_redis.entries import Entry
    from streamflow_redis.settings import Mode, RedisSettings


@asynccontextmanager
async def open_redis(settings: RedisSettings, context: SinkContext) -> AsyncIterator[Writer]:
    """Connect and look whether the server can be used.

    Raises:
        ConfigError: it cannot.
        SinkBusyError: it reads its data.
    """
    async with open_server(settings) as server:
        yield RedisWriter(server, settings, context)


class RedisWriter:
    """Keeps `streamflow.sdk.Writer`. What a batch is too large for goes in several calls, one after the other."""

    def __init__(self, server: Server, settings: RedisSettings, context: SinkContext) -> None:
        self._server = server
        self._settings = settings
        self._context = context
        self._way = _WAYS[settings.mode]
        self._limits = capabilities(settings)

    async def write(self, batch: Batch, /) -> None:
        encoded = await encode_in_order(batch, lambda record: self._way.encode(record, self._settings))
        entries, failures = encoded.entries, encoded.failures
        sent = (
            [entries[place] for place in newest([_key(entry) for entry in entries])] if self._way.collapses else entries
        )
        refused: dict[str, str] = {}
        for part in self._parts(sent):
            now_s = int(self._context.clock.wall())
            answers = await self._way.send(
                _Call(server=self._server, settings=self._settings, shard=batch.shard, now_s=now_s, entries=part)
            )
            # Only of the latest change of an item it is known whether the server had it.
            self._context.note_suppressed(answers.count(0))
            refused |= {
                _key(entry): _reason(answer)
                for entry, answer in zip(part, answers, strict=True)
                if answer not in {0, 1}
            }
        failures = failures + list(_refusals(entries, refused))
        if failures:
            raise RecordsFailedError(failures)

    def _parts(self, entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
        limits = self._limits
        sizes = [entry.bytes for entry in entries]
        return packed(entries, sizes, records_max=limits.request_records_max, bytes_max=limits.request_bytes_max)


def _key(entry: Entry) -> str:
    return entry.keys[0]


def _reason(answer: Any) -> str:
    """Why the server refuses an item. Raises where it is not the item's fault."""
    text = answer.decode() if isinstance(answer, bytes) else str(answer)
    code = code_of(text)
    if code != "WRONGTYPE":
        raise RedisWriteError("redis: a script failed", code=code or "ERR")
    return f"the key of the item cannot be written ({code}): {hint(code)}"


def _refusals(entries: Sequence[Entry], refused: dict[str, str]) -> Iterator[RecordFailure]:
    """Of each item that is refused, the first change; the later ones wait behind it."""
    seen: set[str] = set()
    for entry in entries if refused else ():
        key = _key(entry)
        if key in refused:
            yield RecordFailure(entry.record, *(("waiting", BEHIND) if key in seen else ("refused", refused[key])))
            seen.add(key)


# --- the modes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """What goes to the server at once."""

    server: Server
    settings: RedisSettings
    shard: Shard
    now_s: int
    entries: Sequence[Entry]

    @property
    def keys(self) -> list[str]:
        return [key for entry in self.entries for key in entry.keys]

    @property
    def arguments(self) -> list[Any]:
        return [argument for entry in self.entries for argument in entry.arguments]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How a mode writes. `send` answers for each entry 1, 0 where the server had it, or what else the server said of it."""

    encode: Callable[[Record, RedisSettings], Entry]
    send: Callable[[_Call], Awaitable[list[Any]]]
    collapses: bool = False
    """Only the latest change of each item is sent."""


async def _compare_and_set(call: _Call) -> list[Any]:
    settings = call.settings
    arguments = [settings.mode, settings.tombstone_ttl_s or 0, call.shard.shard_id]
    return await call.server.run(VIEW, call.keys, arguments + call.arguments)


async def _append(call: _Call) -> list[Any]:
    settings, event_ids = call.settings, call.keys
    arguments = [call.now_s, settings.dedupe_window_s, settings.maxlen or 0, len(event_ids), *event_ids]
    return await call.server.run(STREAM, [settings.stream, beside(settings.stream)], arguments + call.arguments)


async def _publish(call: _Call) -> list[Any]:
    await call.server.run(PUBLISH, [], [call.settings.channel, *call.arguments])
    return [1] * len(call.entries)


async def _invalidate(call: _Call) -> list[Any]:
    await call.server.unlink(call.keys)
    return [1] * len(call.entries)


_WAYS: dict[Mode, _Way] = {
    "json": _Way(encode=json_entry, send=_compare_and_set, collapses=True),
    "hash": _Way(encode=hash_entry, send=_compare_and_set, collapses=True),
    "stream": _Way(encode=stream_entry, send=_append),
    "publish": _Way(encode=message, send=_publish),
    "invalidate": _Way(encode=cached_key, send=_invalidate, collapses=True),
}
