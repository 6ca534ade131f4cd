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
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from streamflow.sources.dynamodb_calls import StreamCalls, StreamDescription

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
            pages = await self._pages()
            if pages is None:
                continue
            passes += 1
            for listed in _shards(pages):
                add(seen, listed)
            found = doubts(seen, known=self._known, enabled=pages[-1].enabled)
            if passes == 2 or found <= self._believed:
                self._known, self._believed = frozenset(seen), found
                return close_parents(seen)
        raise with_code(
            SourceError(f"the listing of {self._calls.stream_arn} goes in circles or does not end"),
            "ListingIncomplete",
        )

    async def children(self, shard: Shard) -> Sequence[Shard]:
        """Asked for as such; where the service does not know that question, found in the complete listing."""
        found: dict[str, Shard] = {}
        try:
            pages = await self._pages(children_of=shard.shard_id)
        except (RequestRefusedError, NotFoundError):
            pages = None
        for child in _shards(pages or ()):
            add(found, child)
        if pages is None or any(shard.shard_id not in child.parents for child in found.values()):
            # Not filtered: an emulator, or an older service.
            found = dict(await self.shards())
        return [child for child in found.values() if shard.shard_id in child.parents]

    async def _pages(self, *, children_of: str | None = None) -> list[StreamDescription] | None:
        """Every page, at least one; None if they repeat or do not end."""
        pages: list[StreamDescription] = []
        tokens: set[str] = set()
        after: str | None = None
        while len(pages) < _PAGES_MAX:
            pages.append(await self._calls.describe_stream(after=after, children_of=children_of))
            after = pages[-1].last_evaluated_shard_id
            if after is None:
                return pages
            if after in tokens:
                return None
            tokens.add(after)
        return None


def _shards(pages: Iterable[StreamDescription]) -> Iterator[Shard]:
    for page in pages:
        for listed in page.shards:
            yield Shard(
                stream_arn=page.stream_arn,
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
