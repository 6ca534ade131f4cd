"""One lease table of the KCL: the leases of one stream in one pipeline."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from streamflow.errors import StoreError
from streamflow.leases import LeaseKey
from streamflow.stores.dynamodb.calls import ConditionError
from streamflow.stores.dynamodb.companion import fresh_name, outlived
from streamflow.stores.dynamodb.keys import RowKeys, row_keys
from streamflow.stores.dynamodb.notes import NOTE, chunked_window, needs_chunks, note_in
from streamflow.stores.dynamodb.rows import (
    ENTITY,
    KEY,
    counter_of,
    is_current,
    is_leader,
    is_lease,
    lease_key_of,
    lease_of,
)
from streamflow.stores.dynamodb.url import PLACEHOLDER
from streamflow.stores.dynamodb.writes import ask_request, contradicts, create_request, delete_request, update_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.clock import Clock
    from streamflow.leases import Lease
    from streamflow.stores.dynamodb.calls import DynamoDBCalls
    from streamflow.stores.dynamodb.companion import Companion
    from streamflow.stores.dynamodb.notes import ChunkedWindow, Item

# Between two looks at a row its window may be replaced; a worker that does so all the time is none.
_LOOKS_MAX = 5


@dataclass(slots=True, eq=False, kw_only=True)
class LeaseTable:
    """Open it with `look`. Each write starts from the row as it was last seen at the version that is expected."""

    name: str
    pipeline: str
    stream_arn: str
    calls: DynamoDBCalls
    companion: Companion
    clock: Clock
    keys: RowKeys = field(default_factory=RowKeys)
    has_leader: bool = False
    """There is the record of a leader of the KCL 3.5 among the leases."""
    _typed: bool = False
    _known: dict[str, Item] = field(default_factory=dict)
    """Lease key to the row, of those that were asked for alone or written: about as many as this worker holds."""

    async def look(self) -> Sequence[Item]:
        """Every lease of the stream, in the form that the table keeps; learns that form.

        Raises:
            StoreError: the table is of another application, or of two.
        """
        items = [item async for page in self.calls.pages("scan", self.name) for item in page["Items"]]
        leases = [item for item in items if is_lease(item)]
        self.keys = row_keys(map(lease_key_of, leases), self.stream_arn, table=self.name)
        self.has_leader = any(map(is_leader, items))
        self._typed = any(ENTITY in item for item in items)
        return [item for item in leases if self._is_ours(item)]

    async def list(self) -> Sequence[Lease]:
        return [replace(self._lease(item), window=None) for item in await self.look()]

    async def get(self, shard_id: str) -> Lease | None:
        for _ in range(_LOOKS_MAX):
            item = await self._read(shard_id)
            if item is None:
                return None
            found = await self._with_window(item)
            if found is not None:
                return found
        raise StoreError(
            f"lease table {self.name}: the window of {shard_id} is not where its row says (it was deleted by hand: delete "
            f"the attribute {NOTE} of the row, and the window starts anew)"
        )

    async def create(self, lease: Lease) -> Lease | None:
        # The counter of the KCL begins at 0, whatever version the engine would like.
        stored = replace(lease, version=0)
        chunks = await self._write_window(stored, None)
        request = create_request(stored, self.keys, typed=self._typed, chunks=chunks)
        try:
            await self.calls.write("put_item", self.name, TableName=self.name, **request)
        except ConditionError:
            await self._remove_window(lease.shard_id, chunks)
            return None
        return stored

    async def update(self, lease: Lease, *, expected_version: int) -> Lease | None:
        before = await self._before(lease.shard_id, expected_version)
        if before is None or contradicts(before, lease):
            return None
        wanted = replace(lease, epoch=self._epoch(before, lease), version=expected_version + 1)
        there = chunked_window(note_in(before))
        was = None if there is None else there.name
        chunks = await self._write_window(wanted, there)
        after = await self._change(lease.shard_id, update_request(before, wanted, chunks=chunks))
        if after is None:
            await self._remove_window(lease.shard_id, chunks if chunks != was else None)
            return None
        if chunks != was:
            await self._collect(lease.shard_id, wanted.version, chunks)
        return replace(self._lease(after), window=lease.window)

    async def ask(self, lease: Lease, claimant: str) -> Lease | None:
        if lease.owner is None:
            return None
        lease_key = self.keys.lease_key(lease.shard_id)
        after = await self._change(lease.shard_id, ask_request(lease_key, owner=lease.owner, claimant=claimant))
        return None if after is None else await self._with_window(after)

    async def delete(self, shard_id: str, *, expected_version: int) -> bool:
        before = await self._before(shard_id, expected_version)
        if before is None:
            return False
        self._known.pop(lease_key_of(before), None)
        try:
            await self.calls.write("delete_item", self.name, TableName=self.name, **delete_request(before))
        except ConditionError:
            return False
        if chunked_window(note_in(before)) is not None:
            await self._collect(shard_id, expected_version, None)
        return True

    # -- rows -----------------------------------------------------------------------------------------------------------

    def _is_ours(self, item: Item) -> bool:
        """False for rows of another stream: one that was made anew under the same name has a later ARN.

        Raises:
            StoreError: the row is another pipeline's.
        """
        note = note_in(item) or {}
        pipeline, stream_arn = (note.get(name, {}).get("S") for name in ("pipeline", "stream"))
        if pipeline not in (None, self.pipeline):
            raise StoreError(
                f"lease table {self.name}: it holds the leases of pipeline {pipeline!r}, and not of {self.pipeline!r}; a "
                f"lease table is of one pipeline: put {PLACEHOLDER} into its name, in the URL of the store"
            )
        return stream_arn in (None, self.stream_arn) and self.keys.shard_id(lease_key_of(item)) is not None

    def _lease(self, item: Item) -> Lease:
        shard_id = self.keys.shard_id(lease_key_of(item)) or lease_key_of(item)
        return lease_of(item, LeaseKey(self.pipeline, self.stream_arn, shard_id))

    async def _read(self, shard_id: str) -> Item | None:
        """The row as it is now, if it is a lease of ours."""
        lease_key = self.keys.lease_key(shard_id)
        answer = await self.calls.read(
            "get_item", self.name, TableName=self.name, Key={KEY: {"S": lease_key}}, ConsistentRead=True
        )
        item: Item | None = answer.get("Item")
        if item is None or not is_lease(item) or not self._is_ours(item):
            self._known.pop(lease_key, None)
            return None
        self._lease(item)  # none that is damaged is known
        self._known[lease_key] = item
        return item

    async def _before(self, shard_id: str, version: int) -> Item | None:
        """The row at the version that is expected; None if it has another one."""
        known = self._known.get(self.keys.lease_key(shard_id))
        if known is None or counter_of(known) != version:
            known = await self._read(shard_id)
        return known if known is not None and counter_of(known) == version else None

    async def _change(self, shard_id: str, request: dict[str, Any]) -> Item | None:
        """Send an update; the row as it is then, or None where its condition did not hold."""
        # Whatever happens, the row as it was known is not what the next write starts from.
        lease_key = self.keys.lease_key(shard_id)
        self._known.pop(lease_key, None)
        try:
            answer = await self.calls.write("update_item", self.name, TableName=self.name, **request)
        except ConditionError:
            return None
        after: Item = answer["Attributes"]
        self._known[lease_key] = after
        return after

    def _epoch(self, before: Item, lease: Lease) -> int:
        """A row that a worker of the KCL made has no epoch: the time is greater than any that a sink may have seen."""
        if note_in(before) is not None:
            return lease.epoch
        return max(lease.epoch, int(self.clock.wall() * 1_000))

    # -- windows --------------------------------------------------------------------------------------------------------

    def _window_pk(self, shard_id: str) -> str:
        return f"window#{self.name}#{self.keys.lease_key(shard_id)}"

    async def _with_window(self, item: Item) -> Lease | None:
        """None where the window is not there any more: the row has another one by now."""
        lease, chunked = self._lease(item), chunked_window(note_in(item))
        if chunked is None or not is_current(note_in(item) or {}, lease):
            return lease
        state = await self.companion.read_chunks(self._window_pk(lease.shard_id), chunked.name)
        window = chunked.with_state(state)
        return None if window is None else replace(lease, window=window)

    async def _write_window(self, lease: Lease, there: ChunkedWindow | None) -> str | None:
        """The name of the lease's window in chunks, if it needs one: that of what is there if it is the same."""
        if lease.window is None or not needs_chunks(lease.window):
            return None
        if there is not None and there.with_state(lease.window.state) == lease.window:
            return there.name
        name = fresh_name(lease.version)
        await self.companion.write_chunks(self._window_pk(lease.shard_id), name, lease.window.state)
        return name

    async def _remove_window(self, shard_id: str, name: str | None) -> None:
        """Of a write that met a conflict."""
        if name is not None:
            with suppress(StoreError):
                await self.companion.remove_chunks(self._window_pk(shard_id), lambda found: found == name)

    async def _collect(self, shard_id: str, version: int, name: str | None) -> None:
        """Remove the windows before this one. What is left lying is found the next time."""
        with suppress(StoreError):
            await self.companion.remove_chunks(self._window_pk(shard_id), outlived(version, name))
