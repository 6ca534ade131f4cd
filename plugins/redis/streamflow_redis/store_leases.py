"""Leases as fields of hashes, one hash for each stream in each pipeline."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from streamflow.errors import StoreError
from streamflow.leases import Gap, Lease, LeaseKey, LeaseLayout, LeaseState, WindowState
from streamflow.positions import TRIM_HORIZON, Position
from streamflow_redis.store_scripts import COMPARE_AND_SET, GET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow_redis.store_connections import Connections
    from streamflow_redis.store_keys import StoreKeys


class RedisLeases:
    """The contract of `LeaseStore`. Its rows are read from the server that the URL names, and from no replica."""

    layout = LeaseLayout.NATIVE

    def __init__(self, connections: Connections, keys: StoreKeys) -> None:
        self._connections = connections
        self._keys = keys

    async def list(self, pipeline: str, stream_arn: str) -> Sequence[Lease]:
        rows, _ = self._keys.leases(pipeline, stream_arn)
        answer = iter(await self._connections.ask("HGETALL", rows))
        return [self._lease(pipeline, stream_arn, shard, row, None) for shard, row in zip(answer, answer, strict=True)]

    async def get(self, key: LeaseKey) -> Lease | None:
        row, window = await self._connections.read(GET, self._keys.leases(key.pipeline, key.stream_arn), key.shard_id)
        return None if row is None else self._lease(key.pipeline, key.stream_arn, key.shard_id.encode(), row, window)

    async def create(self, lease: Lease) -> Lease | None:
        return await self._store(replace(lease, version=lease.version + 1), expected="")

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        return await self._store(replace(lease, version=expected_version + 1), expected=str(expected_version))

    async def delete(self, key: LeaseKey, *, expected_version: int) -> bool:
        return await self._compare_and_set(key, str(expected_version), b"", b"")

    async def _store(self, lease: Lease, *, expected: str) -> Lease | None:
        window = b"" if lease.window is None else _window_text(lease.window)
        return lease if await self._compare_and_set(lease.key, expected, _row_text(lease), window) else None

    async def _compare_and_set(self, key: LeaseKey, expected: str, row: bytes, window: bytes) -> bool:
        keys = self._keys.leases(key.pipeline, key.stream_arn)
        return bool(await self._connections.write(COMPARE_AND_SET, keys, key.shard_id, expected, row, window))

    def _lease(self, pipeline: str, stream_arn: str, shard: bytes, row: bytes, window: bytes | None) -> Lease:
        try:
            return _lease(pipeline, stream_arn, shard.decode(), row, window)
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"lease store {self._connections.url.address}: the row of {shard.decode(errors='replace')} in pipeline "
                f"{pipeline!r} is damaged: {error} (correct it, or delete it: then the shard starts at its starting position)"
            ) from error


# --- the text of a row: its version, a space, and the rest as JSON -----------------------------------------------------


class _Gap(msgspec.Struct, frozen=True, array_like=True):
    lost_from: str
    found_at_s: float
    cause: str


class _Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    owner: str | None = None
    claimant: str | None = None
    epoch: int
    checkpoint: str = str(TRIM_HORIZON)
    state: LeaseState = LeaseState.ACTIVE
    parents: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    gaps: tuple[_Gap, ...] = ()
    duration_s: float | None = None


_row_of = msgspec.json.Decoder(_Row).decode


def _row_text(lease: Lease) -> bytes:
    row = _Row(
        owner=lease.owner,
        claimant=lease.claimant,
        epoch=lease.epoch,
        checkpoint=str(lease.checkpoint),
        state=lease.state,
        parents=lease.parents,
        children=lease.children,
        gaps=tuple(_Gap(str(gap.lost_from), gap.found_at_s, gap.cause) for gap in lease.gaps),
        duration_s=lease.duration_s,
    )
    return b"%d %b" % (lease.version, msgspec.json.encode(row))


def _lease(pipeline: str, stream_arn: str, shard_id: str, text: bytes, window: bytes | None) -> Lease:
    version, _, rest = text.partition(b" ")
    row = _row_of(rest)
    return Lease(
        pipeline=pipeline,
        stream_arn=stream_arn,
        shard_id=shard_id,
        owner=row.owner,
        claimant=row.claimant,
        epoch=row.epoch,
        version=int(version),
        checkpoint=Position.parse(row.checkpoint),
        state=row.state,
        parents=row.parents,
        children=row.children,
        gaps=tuple(
            Gap(lost_from=Position.parse(gap.lost_from), found_at_s=gap.found_at_s, cause=gap.cause) for gap in row.gaps
        ),
        window=None if window is None else _window(window),
        duration_s=row.duration_s,
    )


def _window_text(window: WindowState) -> bytes:
    return b"%d:%d:%b" % (window.start_s, window.end_s, window.state)


def _window(text: bytes) -> WindowState:
    start, _, rest = text.partition(b":")
    end, found, state = rest.partition(b":")
    if not found:
        raise ValueError("the window has no start and end")
    return WindowState(int(start), int(end), state)
