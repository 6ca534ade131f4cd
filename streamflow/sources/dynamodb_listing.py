"""Which shards a stream has. The service's listing is eventually consistent: pages may be of different moments.

A shard is called absent only after two complete listings without it, and a listing that goes in circles is none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from streamflow.aws.errors import with_code
from streamflow.errors import NotFoundError, RequestRefusedError, SourceError
from streamflow.records import Shard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamflow.sources.dynamodb_calls import ListedShard, StreamCalls

# 100 000 shards: ten times what has been seen in the wild.
_PAGES_MAX = 1_000
_PASSES_MAX = 4


class Listing:
    """Lists the shards of one stream, and remembers what it has looked at twice."""

    def __init__(self, calls: StreamCalls) -> None:
        self._calls = calls
        self._known: frozenset[str] = frozenset()
        self._believed: frozenset[str] = frozenset()
        """Doubtful ids that a second listing showed just so: they ask for no second one again."""

    async def shards(self) -> Mapping[str, Shard]:
        """The complete listing; the union of two where the first one leaves doubts.

        Raises:
            SourceError: no complete listing in several passes.
        """
        seen: dict[str, Shard] = {}
        passes = 0
        for _ in range(_PASSES_MAX):
            enabled = await self._add_pages(seen)
            if enabled is None:
                continue
            passes += 1
            found = doubts(seen, known=self._known, enabled=enabled)
            if passes == 2 or found <= self._believed:
                self._known, self._believed = frozenset(seen), found
                return close_parents(seen)
        raise with_code(
            SourceError(f"the listing of {self._calls.stream_arn} goes in circles after {len(seen)} shards"),
            "ListingIncomplete",
        )

    async def children(self, shard: Shard) -> Sequence[Shard]:
        """Asked for as such; where the service does not know that question, found in the complete listing."""
        try:
            found = await self._filtered(shard)
        except (RequestRefusedError, NotFoundError):
            found = None
        if found is None:
            listed = await self.shards()
            found = [child for child in listed.values() if shard.shard_id in child.parents]
        return found

    async def _add_pages(self, seen: dict[str, Shard]) -> bool | None:
        """Add every page to `seen`; whether the stream is enabled, or None if the pages repeat or do not end."""
        after: str | None = None
        tokens: set[str] = set()
        for _ in range(_PAGES_MAX):
            page = await self._calls.describe_stream(after=after)
            for listed in page.shards:
                add(seen, self._shard(listed))
            after = page.last_evaluated_shard_id
            if after is None:
                return page.enabled
            if after in tokens:
                return None
            tokens.add(after)
        return None

    async def _filtered(self, shard: Shard) -> list[Shard] | None:
        """The children as the service's filter shows them; None if it shows other shards, and so has no filter."""
        found: dict[str, Shard] = {}
        after: str | None = None
        tokens: set[str] = set()
        while True:
            page = await self._calls.describe_stream(after=after, children_of=shard.shard_id)
            for listed in page.shards:
                if listed.parent_shard_id != shard.shard_id:
                    return None
                add(found, self._shard(listed))
            after = page.last_evaluated_shard_id
            if after is None:
                return list(found.values())
            if after in tokens:
                return None
            tokens.add(after)

    def _shard(self, listed: ListedShard) -> Shard:
        return Shard(
            stream_arn=self._calls.stream_arn,
            shard_id=listed.shard_id,
            parents=(listed.parent_shard_id,) if listed.parent_shard_id else (),
            closed=listed.closed,
        )


def add(seen: dict[str, Shard], shard: Shard) -> None:
    """Put `shard` to those seen. Of two views of one shard the later one counts: closed once is closed for good."""
    before = seen.get(shard.shard_id)
    if before is not None:
        shard = replace(shard, closed=shard.closed or before.closed, parents=shard.parents or before.parents)
    seen[shard.shard_id] = shard


def doubts(seen: Mapping[str, Shard], *, known: frozenset[str], enabled: bool) -> frozenset[str]:
    """Ids that make a listing look like one of different moments.

    Parents that are not listed, shards known before and not listed, and, of an enabled stream, closed shards without
    children. Each is also normal: after trimming, and for the moments until the children show.
    """
    parents = {parent for shard in seen.values() for parent in shard.parents}
    found = (parents | known) - seen.keys()
    if enabled:
        found |= {shard.shard_id for shard in seen.values() if shard.closed and shard.shard_id not in parents}
    return frozenset(found)


def close_parents(seen: Mapping[str, Shard]) -> dict[str, Shard]:
    """A shard with children is closed, even where the page that showed it was older than theirs."""
    parents = {parent for shard in seen.values() for parent in shard.parents}
    return {
        shard_id: replace(shard, closed=True) if shard_id in parents and not shard.closed else shard
        for shard_id, shard in seen.items()
    }
