"""Streams whose shards stay open: what each shard holds at a moment.

The names are those of a replayed stream, and the last page of its shape is the tip: it is empty for as long as anybody asks,
and its iterator leads to itself. Before the stream is *released* every shard is empty, so that a contender is ready before
there is anything to read.

- `Filled` shards have all the pages before the tip when they are released.
- `Dripping` shards get one record after the other from then on, `DRIPS_PER_S` a second, each at a random moment of its own
  slot of time: a poll meets them at any phase. Each says in nanoseconds of the machine's monotonic clock, which all
  processes share, when it became visible and when the poll that carried it was answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from benchmarks.replay_pages import Body
from benchmarks.replay_stream import REGION, Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.replay_pages import Template

DRIPS_PER_S = 50
# DynamoDB Streams answers with at most so many.
_RECORDS_MAX = 1_000
_SLOT_NS = 1_000_000_000 // DRIPS_PER_S
# A prime, so that no two shards have the same moments in step.
_PHASES = 1_009


def open_shape(shards: int, pages: int, like: Shape | None = None) -> Shape:
    """A stream of open shards with so many pages of records, of the same content as `like`, and the tip behind them."""
    return Shape(shards, pages + 1) if like is None else Shape(shards, pages + 1, like.content)


def empty_page(shape: Shape, shard: int, place: int) -> Body:
    """An answer without records, whose iterator leads to the same place."""
    return Body.of(b'{"Records":[],"NextShardIterator":"%s"}' % shape.iterator(shard, place).encode())


class Content(Protocol):
    """What a shard of a released stream answers at a place."""

    def page(self, shape: Shape, shard: int, place: int, *, since_ns: int, now_ns: int) -> Body:
        """`since_ns` is when the stream was released, `now_ns` the time of the answer, both of the monotonic clock."""
        ...


class Filled:
    """A place is the number of a page."""

    def __init__(self, templates: Template) -> None:
        self._templates = templates

    def page(self, shape: Shape, shard: int, place: int, *, since_ns: int, now_ns: int) -> Body:  # noqa: ARG002 - all is there
        if place + 1 >= shape.pages:
            return empty_page(shape, shard, place)
        return self._templates.page(shape, shard, place)


@dataclass(frozen=True, slots=True)
class Drip:
    """One record of a dripping shard: the `number`-th, from 0."""

    shard: int
    number: int
    visible_ns: int


class Dripping:
    """A place is the number of a record. A shard gets `drips(shape)` records and is empty from then on."""

    def __init__(self, *, wall_ahead_ns: int) -> None:
        """`wall_ahead_ns`: how far the wall clock is ahead of the monotonic one."""
        random = Random(1)
        self._phases_ns = [int(random.random() * _SLOT_NS) for _ in range(_PHASES)]
        self._wall_ahead_ns = wall_ahead_ns

    def page(self, shape: Shape, shard: int, place: int, *, since_ns: int, now_ns: int) -> Body:
        drips = self.due(shape, shard, place, since_ns=since_ns, now_ns=now_ns)
        if not drips:
            return empty_page(shape, shard, place)
        page = {
            "Records": [self._record(shape, drip, answered_ns=now_ns) for drip in drips],
            "NextShardIterator": shape.iterator(shard, drips[-1].number + 1),
        }
        return Body.of(orjson.dumps(page))

    def due(self, shape: Shape, shard: int, place: int, *, since_ns: int, now_ns: int) -> Sequence[Drip]:
        """The records from `place` on that are visible."""
        found: list[Drip] = []
        for number in range(place, min(drips(shape), place + _RECORDS_MAX)):
            visible_ns = since_ns + number * _SLOT_NS + self._phase_ns(shard, number)
            if visible_ns > now_ns:
                break
            found.append(Drip(shard, number, visible_ns))
        return found

    def _phase_ns(self, shard: int, number: int) -> int:
        return self._phases_ns[(shard * 31 + number) % _PHASES]

    def _record(self, shape: Shape, drip: Drip, *, answered_ns: int) -> dict[str, Any]:
        keys = {"order": {"S": f"order-{drip.shard}-{drip.number}"}, "line": {"N": "1"}}
        return {
            "eventID": f"{drip.shard:016x}{drip.number:016x}",
            "eventName": "INSERT",
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": REGION,
            "dynamodb": {
                # The service rounds it down to the second; a shard whose newest record is old would be read without a pause.
                "ApproximateCreationDateTime": (drip.visible_ns + self._wall_ahead_ns) // 1_000_000_000,
                "Keys": keys,
                "NewImage": keys | {"visible_ns": {"N": str(drip.visible_ns)}, "answered_ns": {"N": str(answered_ns)}},
                "SequenceNumber": shape.sequence_number(drip.shard, 0, drip.number),
                "SizeBytes": 90,
                "StreamViewType": "NEW_AND_OLD_IMAGES",
            },
        }


class Mixed:
    """The first half of the shards is filled; the others drip, or stay empty."""

    def __init__(self, filled: Filled, dripping: Dripping | None) -> None:
        self._filled = filled
        self._dripping = dripping

    def page(self, shape: Shape, shard: int, place: int, *, since_ns: int, now_ns: int) -> Body:
        if shard < shape.shards // 2:
            return self._filled.page(shape, shard, place, since_ns=since_ns, now_ns=now_ns)
        if self._dripping is None:
            return empty_page(shape, shard, place)
        return self._dripping.page(shape, shard, place, since_ns=since_ns, now_ns=now_ns)


def drips(shape: Shape) -> int:
    """How many records each shard of a dripping stream gets: the pages before the tip are seconds."""
    return (shape.pages - 1) * DRIPS_PER_S
