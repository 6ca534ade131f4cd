"""What DescribeStream shows of a stream, page by page, when hosts that know it as of different moments answer.

Nothing here is invented: a shard may be missing, be shown twice or be shown as it was, but never as it will not be. And
whoever asks again sees it: a shard that all hosts know is missing once for a node, and then not for a while.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from streamflow.testing.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.testing.requests import DescribeStream
    from streamflow.testing.simulation.draws import Address
    from streamflow.testing.simulation.faults import Faults
    from streamflow.testing.streams import LocalShard
    from streamflow.testing.tables import Listing, Tables

STALE_S_MAX = 30.0
MISSING_AGAIN_S = 120.0
"""The least time until the same shard may be missing again."""


@dataclass(slots=True)
class Listings:
    """Answers DescribeStream. `address` names the request: each of its faults is drawn once."""

    tables: Tables
    faults: Faults
    _missed_at_s: dict[tuple[str, str], float] = field(default_factory=dict)
    """Node and shard to the time when it was missing."""

    def page(self, request: DescribeStream, node: str, *of_node: Address) -> Listing:
        """Raises `RefusedError`."""
        address: tuple[Address, ...] = (node, *of_node)
        after = request.exclusive_start_shard_id
        if after is not None and self.faults.strikes("listing.token_expired", *address):
            raise RefusedError("ExpiredNextTokenException", "The token for the next page has expired")
        age_s = 0.0
        if self.faults.strikes("listing.stale", *address):
            age_s = self.faults.rng("listing.stale", *address).uniform(0.0, STALE_S_MAX)
        listing = self.tables.describe_stream(
            request.stream_arn,
            limit=request.limit,
            after=after,
            children_of=request.shard_filter.shard_id if request.shard_filter else None,
            age_s=age_s,
        )
        if len(listing.shards) > 1 and self.faults.strikes("listing.page_cut", *address):
            count = self.faults.rng("listing.page_cut", *address).randrange(1, len(listing.shards))
            shards = listing.shards[:count]
            listing = replace(listing, shards=shards, last_evaluated=shards[-1].shard_id)
        listing = self._with_less(listing, node, address)
        if after is not None:
            listing = self._with_the_last_one_again(listing, after, address)
        return self._with_a_bad_token(listing, after, address)

    def _with_less(self, listing: Listing, node: str, address: tuple[Address, ...]) -> Listing:
        """The page without some of its shards."""
        now_s = self.tables.now()
        due = [shard for shard in listing.shards if self._may_be_missing(node, shard, now_s)]
        missing = self._missing(listing, due, address)
        if not missing:
            return listing
        self._missed_at_s.update({(node, shard.shard_id): now_s for shard in missing})
        return replace(listing, shards=[shard for shard in listing.shards if shard not in missing])

    def _may_be_missing(self, node: str, shard: LocalShard, now_s: float) -> bool:
        missed_at_s = self._missed_at_s.get((node, shard.shard_id), -math.inf)
        return now_s - shard.listed_at_s > STALE_S_MAX and now_s - missed_at_s > MISSING_AGAIN_S

    def _missing(
        self, listing: Listing, due: Sequence[LocalShard], address: tuple[Address, ...]
    ) -> Sequence[LocalShard]:
        """All shards of a page, every one that is the parent of another, or any one."""
        strikes = self.faults.strikes
        if due and len(due) == len(listing.shards) and strikes("listing.empty", *address):
            return due
        parents = {shard.parent_id for shard in listing.stream.shards.values()}
        due_parents = [shard for shard in due if shard.shard_id in parents]
        if due_parents and strikes("listing.parents_late", *address):
            return due_parents
        if due and strikes("listing.left_out", *address):
            return [self.faults.rng("listing.left_out", *address).choice(due)]
        return ()

    def _with_the_last_one_again(self, listing: Listing, after: str, address: tuple[Address, ...]) -> Listing:
        """The page begins with the shard that the page before ended with."""
        again = listing.stream.shards.get(after)
        if again is None or not self.faults.strikes("listing.shard_twice", *address):
            return listing
        return replace(listing, shards=[again, *listing.shards])

    def _with_a_bad_token(self, listing: Listing, after: str | None, address: tuple[Address, ...]) -> Listing:
        """The page says that it goes on where it began, for as long as this strikes; the first page, at its own end."""
        again = after if after is not None else next((shard.shard_id for shard in listing.shards[-1:]), None)
        if again is None or not self.faults.strikes("listing.token_repeats", *address):
            return listing
        return replace(listing, last_evaluated=again)
