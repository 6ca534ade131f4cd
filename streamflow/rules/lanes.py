"""Which lane of a shard an item's changes go to: always the same one, so that they keep their order."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

from orjson import OPT_SORT_KEYS, dumps

from streamflow.records import glimpse_decoder, glimpses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.records import Record
    from streamflow.rules.filters import Filters

_decode = glimpse_decoder()


def by_lane(records: Sequence[Record], count: int, accepts: Filters | None = None) -> list[Sequence[int]]:
    """The places in a page that each of `count` lanes gets; those of records that `accepts` leaves out are in none.

    By a checksum of the item's canonical key, `Record.item_key`: the same in every process and for ever. What cannot be read
    passes, and goes to the first lane.
    """
    if accepts is None and count == 1:
        return [range(len(records))]
    seen = glimpses(records, _decode if accepts is None else accepts.decode)
    passing = range(len(records)) if accepts is None else accepts.passing(records, seen)
    if count == 1:
        return [passing]
    lanes: list[list[int]] = [[] for _ in range(count)]
    for place in passing:
        glimpse = seen[place]
        lane = 0 if glimpse is None else crc32(dumps(glimpse.dynamodb.Keys, option=OPT_SORT_KEYS)) % count
        lanes[lane].append(place)
    return list(lanes)
