"""Leases as rows of a SQLite file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from streamflow.errors import StoreError
from streamflow.leases import Gap, Lease, LeaseKey, LeaseLayout, LeaseState, WindowState
from streamflow.positions import Position

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from streamflow.stores.sqlite_writer import Writer

_LISTED = "pipeline, stream_arn, shard_id, owner, claimant, epoch, version, checkpoint, state, parents, children, gaps"
_COLUMNS = f"{_LISTED}, duration_s, window"
_STREAM = "pipeline = ? AND stream_arn = ?"
_KEY = f"{_STREAM} AND shard_id = ?"
# All rows as one: from row to row Python's lock is let go and waited for, and busy handlers may have it thousands of times.
_LIST = (
    f"SELECT json_group_array(json_array({_LISTED}, "  # noqa: S608 - made of the constants above
    "iif(duration_s IS NULL, NULL, printf('%!.17g', duration_s)), '')) "
    f"FROM streamflow_leases WHERE {_STREAM}"
)
_GET = f"SELECT {_COLUMNS} FROM streamflow_leases WHERE {_KEY}"  # noqa: S608
# A new row or nothing: only the key may conflict in silence, any other refusal is an error.
_INSERT = (
    f"INSERT INTO streamflow_leases ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
    "ON CONFLICT (pipeline, stream_arn, shard_id) DO NOTHING"
)
_UPDATE = (
    "UPDATE streamflow_leases SET owner = ?, claimant = ?, epoch = ?, version = ?, checkpoint = ?, state = ?, "  # noqa: S608
    f"parents = ?, children = ?, gaps = ?, duration_s = ?, window = ? WHERE {_KEY} AND version = ?"
)
_DELETE = f"DELETE FROM streamflow_leases WHERE {_KEY} AND version = ?"  # noqa: S608


class SqliteLeases:
    """The contract of `LeaseStore`, by a writer that others may share."""

    layout = LeaseLayout.NATIVE

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def list(self, pipeline: str, stream_arn: str) -> Sequence[Lease]:
        def work(connection: sqlite3.Connection) -> str:
            (text,) = connection.execute(_LIST, (pipeline, stream_arn)).fetchone()
            return str(text)

        rows = orjson.loads(await self._writer.ask(work, writes=False))
        return [_lease([*row[:-2], None if row[-2] is None else float(row[-2]), row[-1]]) for row in rows]

    async def get(self, key: LeaseKey) -> Lease | None:
        def work(connection: sqlite3.Connection) -> Lease | None:
            row = connection.execute(_GET, (key.pipeline, key.stream_arn, key.shard_id)).fetchone()
            return None if row is None else _lease(row)

        found: Lease | None = await self._writer.ask(work, writes=False)
        return found

    async def create(self, lease: Lease) -> Lease | None:
        stored = replace(lease, version=lease.version + 1)
        return stored if await self._change(_INSERT, _row(stored)) else None

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        stored = replace(lease, version=expected_version + 1)
        row = _row(stored)
        return stored if await self._change(_UPDATE, (*row[3:], *row[:3], expected_version)) else None

    async def delete(self, key: LeaseKey, *, expected_version: int) -> bool:
        return await self._change(_DELETE, (key.pipeline, key.stream_arn, key.shard_id, expected_version))

    async def _change(self, statement: str, values: tuple[Any, ...]) -> bool:
        """Whether the statement changed the row, of which there is at most one."""

        def work(connection: sqlite3.Connection) -> bool:
            return connection.execute(statement, values).rowcount == 1

        changed: bool = await self._writer.ask(work, writes=True)
        return changed


def _row(lease: Lease) -> tuple[Any, ...]:
    gaps = [[str(gap.lost_from), gap.found_at_s, gap.cause] for gap in lease.gaps]
    return (
        lease.pipeline,
        lease.stream_arn,
        lease.shard_id,
        lease.owner,
        lease.claimant,
        lease.epoch,
        lease.version,
        str(lease.checkpoint),
        lease.state.value,
        orjson.dumps(lease.parents).decode(),
        orjson.dumps(lease.children).decode(),
        orjson.dumps(gaps).decode(),
        lease.duration_s,
        "" if lease.window is None else _window_text(lease.window),
    )


_TOLD_MAX = 200


def _lease(row: Sequence[Any]) -> Lease:
    pipeline, stream_arn, shard_id, owner, claimant, epoch, version, *rest = row
    checkpoint, state, parents, children, gaps, duration_s, window = rest
    try:
        return Lease(
            pipeline=pipeline,
            stream_arn=stream_arn,
            shard_id=shard_id,
            owner=owner,
            claimant=claimant,
            epoch=epoch,
            version=version,
            checkpoint=Position.parse(checkpoint),
            state=LeaseState(state),
            parents=_names(parents),
            children=_names(children),
            gaps=_gaps(gaps),
            window=_window(window),
            duration_s=duration_s,
        )
    except (ValueError, TypeError, RecursionError, msgspec.DecodeError) as error:
        told = str(error)[:_TOLD_MAX]  # it may quote what stands there, and that may be anything
        raise StoreError(
            f"lease store: the row of {shard_id} in pipeline {pipeline!r} is damaged: {told} (correct it, or delete it: "
            "then the shard starts at its starting position)"
        ) from error


_decode_names = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_gaps = msgspec.json.Decoder(list[tuple[str, float, str]]).decode


def _names(text: str) -> tuple[str, ...]:
    # Most rows have none, and a listing has thousands of rows.
    return () if text == "[]" else _decode_names(text)


def _gaps(text: str) -> tuple[Gap, ...]:
    if text == "[]":
        return ()
    return tuple(
        Gap(lost_from=Position.parse(lost_from), found_at_s=found_at_s, cause=cause)
        for lost_from, found_at_s, cause in _decode_gaps(text)
    )


def _window_text(window: WindowState) -> str:
    return f"{window.start_s}:{window.end_s}:{window.state.decode()}"


def _window(text: str) -> WindowState | None:
    if not text:
        return None
    start, _, rest = text.partition(":")
    end, found, state = rest.partition(":")
    if not found:
        raise ValueError("the window has no start and end")
    return WindowState(int(start), int(end), state.encode())
