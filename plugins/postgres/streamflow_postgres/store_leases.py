"""Leases as rows of PostgreSQL. What changes in a row is in no index, so that writing it again costs no index anything."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streamflow.errors import StoreError
from streamflow.leases import Gap, Lease, LeaseKey, LeaseLayout, LeaseState, WindowState
from streamflow.positions import Position
from streamflow_postgres.store_texts import original, stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow_postgres.store_calls import Calls

_NAMES = ("pipeline", "stream_arn", "shard_id")
_LISTED = (
    "owner",
    "claimant",
    "epoch",
    "version",
    "checkpoint",
    "state",
    "parents",
    "children",
    "gaps",
    "duration_s",
)
_WINDOW = ("window_start_s", "window_end_s", "window_state")
_COLUMNS = (*_NAMES, *_LISTED, *_WINDOW)
_KEY = "pipeline = $1 AND stream_arn = $2 AND shard_id = $3"


class PostgresLeases:
    """The contract of `LeaseStore`; `schema` is quoted."""

    layout = LeaseLayout.NATIVE

    def __init__(self, calls: Calls, schema: str) -> None:
        self._calls = calls
        table = f"{schema}.streamflow_leases"
        values = ", ".join(f"${number}" for number in range(1, len(_COLUMNS) + 1))
        changes = ", ".join(f"{column} = ${number}" for number, column in enumerate(_COLUMNS[3:], 4))
        without_window = ", ".join(f"NULL AS {column}" for column in _WINDOW)
        # All of these are made of the constants above, and of a name that is quoted.
        self._list = (
            f"SELECT {', '.join(_NAMES + _LISTED)}, {without_window} FROM {table} "  # noqa: S608
            "WHERE pipeline = $1 AND stream_arn = $2"
        )
        self._get = f"SELECT {', '.join(_COLUMNS)} FROM {table} WHERE {_KEY}"  # noqa: S608
        self._insert = (
            f"INSERT INTO {table} ({', '.join(_COLUMNS)}) VALUES ({values}) "  # noqa: S608
            f"ON CONFLICT ({', '.join(_NAMES)}) DO NOTHING"
        )
        self._update = f"UPDATE {table} SET {changes} WHERE {_KEY} AND version = ${len(_COLUMNS) + 1}"  # noqa: S608
        self._delete = f"DELETE FROM {table} WHERE {_KEY} AND version = $4"  # noqa: S608

    async def list(self, pipeline: str, stream_arn: str) -> Sequence[Lease]:
        rows = await self._calls.fetch(self._list, stored(pipeline), stored(stream_arn))
        return [self._lease(row) for row in rows]

    async def get(self, key: LeaseKey) -> Lease | None:
        rows = await self._calls.fetch(self._get, *_key(key))
        return self._lease(rows[0]) if rows else None

    async def create(self, lease: Lease) -> Lease | None:
        made = replace(lease, version=lease.version + 1)
        return made if await self._calls.change(self._insert, *_row(made)) else None

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        changed = replace(lease, version=expected_version + 1)
        return changed if await self._calls.change(self._update, *_row(changed), expected_version) else None

    async def delete(self, key: LeaseKey, *, expected_version: int) -> bool:
        return await self._calls.change(self._delete, *_key(key), expected_version) == 1

    def _lease(self, row: Any) -> Lease:
        try:
            return _lease(row)
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"lease store {self._calls.shown}: the row of {row[2]} in pipeline {row[0]!r} is damaged: {error} (correct it, "
                "or delete it: then the shard starts at its starting position)"
            ) from error


def _key(key: LeaseKey) -> tuple[str, str, str]:
    return stored(key.pipeline), stored(key.stream_arn), stored(key.shard_id)


def _row(lease: Lease) -> tuple[Any, ...]:
    """In the order of `_COLUMNS`."""
    gaps = [[str(gap.lost_from), gap.found_at_s, gap.cause] for gap in lease.gaps]
    window = lease.window
    return (
        *_key(lease.key),
        None if lease.owner is None else stored(lease.owner),
        None if lease.claimant is None else stored(lease.claimant),
        lease.epoch,
        lease.version,
        str(lease.checkpoint),
        lease.state.value,
        [stored(parent) for parent in lease.parents],
        [stored(child) for child in lease.children],
        json.dumps(gaps),
        lease.duration_s,
        *((None, None, None) if window is None else (window.start_s, window.end_s, window.state)),
    )


def _lease(row: Any) -> Lease:
    pipeline, stream_arn, shard_id, owner, claimant, epoch, version, *rest = row
    checkpoint, state, parents, children, gaps, duration_s, start_s, end_s, window_state = rest
    return Lease(
        pipeline=original(pipeline),
        stream_arn=original(stream_arn),
        shard_id=original(shard_id),
        owner=None if owner is None else original(owner),
        claimant=None if claimant is None else original(claimant),
        epoch=epoch,
        version=version,
        checkpoint=Position.parse(checkpoint),
        state=LeaseState(state),
        parents=tuple(original(parent) for parent in parents),
        children=tuple(original(child) for child in children),
        gaps=_gaps(gaps),
        window=None if start_s is None else WindowState(start_s, end_s, window_state),
        duration_s=duration_s,
    )


def _gaps(text: str) -> tuple[Gap, ...]:
    # Most rows have none, and a listing has thousands of rows.
    if text == "[]":
        return ()
    return tuple(
        Gap(lost_from=Position.parse(lost_from), found_at_s=found_at_s, cause=cause)
        for lost_from, found_at_s, cause in json.loads(text)
    )
