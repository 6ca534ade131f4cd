"""Leases as entries of a bucket.

JetStream compares revisions, and the engine versions: each version of a row has one revision, so whoever has seen a row may
write without a look at it. Where we have not seen that version, a look comes first. The server compares in both cases.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from streamflow.errors import StoreError
from streamflow.leases import LeaseLayout
from streamflow_nats.store_buckets import ConflictError, Entry, Write
from streamflow_nats.store_keys import ROW, WINDOW, lease_place, lease_rows, place_of
from streamflow_nats.store_rows import Row, damaged, decoded, encoded, with_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.leases import Lease, LeaseKey
    from streamflow_nats.store_buckets import Bucket

_log = logging.getLogger("streamflow_nats")
# A row with a large window may change while its pieces are read, and a deleted one be cleared away while another is made.
_LOOKS_MAX = 20


class _Seen(NamedTuple):
    """The version of a row that was stored with `revision`, and what is left to clear away when it is replaced."""

    version: int
    revision: int
    has_pieces: bool
    is_littered: bool


class NatsLeases:
    """The contract of `LeaseStore`."""

    layout = LeaseLayout.NATIVE

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._seen: dict[tuple[str, str], dict[str, _Seen]] = {}  # by stream and place: of a stream, what was listed

    async def list(self, pipeline: str, stream_arn: str) -> Sequence[Lease]:
        rows: list[Lease] = []
        seen: dict[str, _Seen] = {}
        markers: list[Entry] = []
        for entry in await self._bucket.scan(lease_rows(pipeline, stream_arn)):
            if not entry.data:
                markers.append(entry)
                continue
            row = decoded(entry.data, entry.key)
            seen[place_of(entry.key)] = _seen(row, entry.revision)
            rows.append(row.lease if row.lease.window is None else replace(row.lease, window=None))
        self._seen[pipeline, stream_arn] = seen
        for marker in markers:  # of a worker that died between a deletion and its end
            await self._clear(place_of(marker.key), up_to=marker.revision)
        return rows

    async def get(self, key: LeaseKey) -> Lease | None:
        place = lease_place(key)
        last_revision = 0
        for _ in range(_LOOKS_MAX):
            entry = await self._bucket.last(f"{place}.{ROW}")
            if entry is None or not entry.data:
                return None
            row = decoded(entry.data, entry.key)
            self._note(key, _seen(row, entry.revision))
            if not row.pieces:
                return row.lease
            if (state := await self._window_state(place, row)) is not None:
                return with_state(row.lease, state)
            if entry.revision == last_revision:
                raise damaged(entry.key, "the state of its window is not there")
            last_revision = entry.revision
        raise StoreError(
            f"lease store {self._bucket.calls.shown}: the row of {key.shard_id} changes too fast to be read"
        )

    async def create(self, lease: Lease) -> Lease | None:
        place = lease_place(lease.key)
        stored = replace(lease, version=lease.version + 1)
        expected = 0
        for _ in range(_LOOKS_MAX):
            try:
                await self._store(place, stored, expected=expected, is_littered=False)
            except ConflictError:
                entry = await self._bucket.last(f"{place}.{ROW}")
                if entry is not None and entry.data:
                    return None
                expected = 0 if entry is None else entry.revision  # of the marker of a deleted one
                continue
            return stored
        raise StoreError(f"lease store {self._bucket.calls.shown}: {lease.shard_id} is made and deleted all the time")

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        place = lease_place(lease.key)
        seen = await self._look_up(lease.key, expected_version)
        if seen is None:
            return None
        stored = replace(lease, version=expected_version + 1)
        try:
            await self._store(place, stored, expected=seen.revision, is_littered=seen.has_pieces)
        except ConflictError:
            self._forget(lease.key)
            return None
        if seen.has_pieces or seen.is_littered:
            await self._clear(f"{place}.{WINDOW}", up_to=seen.revision)
        return stored

    async def delete(self, key: LeaseKey, *, expected_version: int) -> bool:
        place = lease_place(key)
        seen = await self._look_up(key, expected_version)
        if seen is None:
            return False
        self._forget(key)
        try:
            marker = await self._bucket.write(Write(f"{place}.{ROW}", b"", expected=seen.revision))
        except ConflictError:
            return False
        await self._clear(place, up_to=marker)
        return True

    # -- rows -----------------------------------------------------------------------------------------------------------

    async def _look_up(self, key: LeaseKey, version: int) -> _Seen | None:
        """What was stored as this version; None if it is not the present one."""
        seen = self._seen.get((key.pipeline, key.stream_arn), {}).get(lease_place(key))
        if seen is not None and seen.version == version:
            return seen
        entry = await self._bucket.last(f"{lease_place(key)}.{ROW}")
        if entry is None or not entry.data:
            return None
        found = _seen(decoded(entry.data, entry.key), entry.revision)
        return found if found.version == version else None

    async def _store(self, place: str, lease: Lease, *, expected: int, is_littered: bool) -> None:
        """Raises `ConflictError`."""
        data, pieces = encoded(lease, is_littered=is_littered)
        writes = [Write(_piece(place, lease.version, number), piece) for number, piece in enumerate(pieces)]
        revision = await self._bucket.write(*writes, Write(f"{place}.{ROW}", data, expected=expected))
        self._note(lease.key, _Seen(lease.version, revision, bool(pieces), is_littered))

    async def _window_state(self, place: str, row: Row) -> bytes | None:
        keys = [_piece(place, row.lease.version, number) for number in range(row.pieces)]
        entries = [entry for entry in await self._bucket.last_of(keys) if entry is not None]
        return b"".join([entry.data for entry in entries]) if len(entries) == len(keys) else None

    async def _clear(self, place: str, *, up_to: int) -> None:
        """Remove what nobody reads any more. What is left where that fails is removed by the next one who clears."""
        try:
            await self._bucket.purge((f"{place}.>", up_to))
        except StoreError as error:
            _log.debug("not cleared: %s", error)

    # -- what we have seen ------------------------------------------------------------------------------------------------

    def _note(self, key: LeaseKey, seen: _Seen) -> None:
        self._seen.setdefault((key.pipeline, key.stream_arn), {})[lease_place(key)] = seen

    def _forget(self, key: LeaseKey) -> None:
        self._seen.get((key.pipeline, key.stream_arn), {}).pop(lease_place(key), None)


def _seen(row: Row, revision: int) -> _Seen:
    return _Seen(row.lease.version, revision, bool(row.pieces), row.is_littered)


def _piece(place: str, version: int, number: int) -> str:
    return f"{place}.{WINDOW}.{version}.{number}"
