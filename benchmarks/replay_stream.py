"""The replayed stream: its names, its size, and its pages, all made from one template.

Everything is a function of the names, so the server keeps no state and any number of clients read the same bytes: the
table's name says how many shards and pages there are, an iterator says which page comes next. Two pages differ in
their number only, which stands, at a fixed width, in each record's event id, sequence number and keys.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

REGION = "eu-west-1"
# DynamoDB Streams answers with at most 1000 records, or 1 MB.
RECORDS_PER_PAGE = 1_000

_LABEL = "2026-01-01T00:00:00.000"
# Where the page's number goes; the same width, so that a page's length does not depend on it.
_PAGE_NUMBER = "@@@@@@@@@"
# Real ones have 21 digits and more; this one has a prefix, the page's number and the place in the page.
_SEQUENCE_NUMBER = "4000000{}{:08}"
_NAME = re.compile(r"replay-(\d+)x(\d+)")
_ITERATOR = re.compile(r"replay-(\d+)x(\d+)/(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Shape:
    """How much a stream holds: `pages` full pages in each of `shards` closed shards."""

    shards: int
    pages: int

    @classmethod
    def parse(cls, name: str) -> Shape | None:
        """The shape that a table name or a stream ARN states; None if it is none of ours."""
        found = _NAME.search(name)
        return found and cls(int(found[1]), int(found[2]))

    @property
    def records(self) -> int:
        return self.shards * self.pages * RECORDS_PER_PAGE

    @property
    def table(self) -> str:
        return f"replay-{self.shards}x{self.pages}"

    @property
    def table_arn(self) -> str:
        return f"arn:aws:dynamodb:{REGION}:000000000000:table/{self.table}"

    @property
    def stream_arn(self) -> str:
        return f"{self.table_arn}/stream/{_LABEL}"

    def shard_id(self, shard: int) -> str:
        return f"shardId-{1_767_225_600_000:020}-{shard:08x}"

    def iterator(self, shard: int, page: int) -> str:
        """What reads this page; real ones are opaque and some 200 characters long."""
        return f"{self.table}/{shard}/{page}"

    def page_number(self, shard: int, page: int) -> int:
        """Counted over the whole stream, so that no two records share an event id."""
        return shard * self.pages + page

    def sequence_number(self, shard: int, page: int, index: int = 0) -> str:
        return _SEQUENCE_NUMBER.format(_digits(self.page_number(shard, page)).decode(), index)

    def place_of(self, sequence_number: str) -> tuple[int, int]:
        """The page of its shard that holds this record, and the record's index in it."""
        number, index = sequence_number[7:16], sequence_number[16:]
        return int(number) % self.pages, int(index)


def parse_iterator(text: str) -> tuple[Shape, int, int] | None:
    """Shape, shard and page that an iterator names."""
    found = _ITERATOR.fullmatch(text)
    return found and (Shape(int(found[1]), int(found[2])), int(found[3]), int(found[4]))


@dataclass(frozen=True, slots=True)
class Body:
    """An answer's body in parts, and the checksum of the whole, which the service sends in `x-amz-crc32`."""

    parts: tuple[bytes, ...]
    crc32: int

    @classmethod
    def of(cls, content: bytes) -> Body:
        return cls((content,), zlib.crc32(content))

    def __len__(self) -> int:
        return sum(map(len, self.parts))


class Template:
    """Pages from one prebuilt page: each is one `bytes.join`, some 40 µs for 770 KB.

    A CRC is linear over messages of one length, so the checksum of a page is the blank page's, with the contribution of
    each digit of its number: nine look-ups in place of half a millisecond over the bytes.
    """

    def __init__(self, *, seed: int = 1) -> None:
        records = b",".join(orjson.dumps(record) for record in _records(Random(seed)))
        self._segments = (b'{"Records":[' + records + b"]").split(_PAGE_NUMBER.encode())
        self._blank_crc32 = zlib.crc32(self._filled(0))
        self._digit_crc32 = [
            [zlib.crc32(self._filled(digit * 10**place)) ^ self._blank_crc32 for digit in range(10)]
            for place in reversed(range(len(_PAGE_NUMBER)))
        ]

    def page(self, shape: Shape, shard: int, page: int) -> Body:
        """The body of the answer to GetRecords; the last page of a shard has no next iterator."""
        number = shape.page_number(shard, page)
        crc32 = self._blank_crc32
        for place, digit in enumerate(_digits(number)):
            crc32 ^= self._digit_crc32[place][digit - ord("0")]
        last = page + 1 >= shape.pages
        tail = b"}" if last else b',"NextShardIterator":"%s"}' % shape.iterator(shard, page + 1).encode()
        return Body((self._filled(number), tail), zlib.crc32(tail, crc32))

    def _filled(self, number: int) -> bytes:
        return _digits(number).join(self._segments)


def _digits(number: int) -> bytes:
    return b"%0*d" % (len(_PAGE_NUMBER), number)


def _records(random: Random) -> Iterator[dict[str, Any]]:
    """One page of records as DynamoDB Streams writes them: 40 % inserts, 50 % changes, 10 % deletes; 770 bytes each."""
    for index in range(RECORDS_PER_PAGE):
        name = random.choices(("INSERT", "MODIFY", "REMOVE"), weights=(4, 5, 1))[0]
        # No item is in two pages: those of one item would be in one shard, and its parents.
        order = f"order-{_PAGE_NUMBER}-{random.randrange(10**6):06}"
        keys = {"order": {"S": order}, "line": {"N": str(random.randrange(1, 40))}}
        change: dict[str, Any] = {"ApproximateCreationDateTime": 1.7672256e9, "Keys": keys}
        if name != "REMOVE":
            change["NewImage"] = keys | _attributes(random)
        if name != "INSERT":
            change["OldImage"] = keys | _attributes(random)
        change |= {
            "SequenceNumber": _SEQUENCE_NUMBER.format(_PAGE_NUMBER, index),
            "SizeBytes": 226,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        }
        yield {
            "eventID": f"{random.getrandbits(60):015x}{_PAGE_NUMBER}{index:08x}",
            "eventName": name,
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": REGION,
            "dynamodb": change,
        }


def _attributes(random: Random) -> dict[str, Any]:
    """An item of a shop: a nested map, a list of mixed types, a set, numbers, a flag, text beyond ASCII."""
    cents = random.randrange(100, 10**6)
    return {
        "total": {"N": f"{cents // 100}.{cents % 100:02}"},
        "customer": {"M": {"name": {"S": random.choice(("Ada", "Grace", "Zoë", "李雷"))}, "tier": {"N": "2"}}},
        "steps": {"L": [{"S": "paid"}, {"N": str(random.randrange(10**9))}, {"BOOL": True}]},
        "tags": {"SS": [f"{kind}-{random.randrange(100)}" for kind in ("tag", "label")]},
        "note": {"S": "front door"},
    }
