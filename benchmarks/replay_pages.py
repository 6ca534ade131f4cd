"""The pages of replayed streams as bytes, all made from a few prebuilt ones.

Two pages of one content differ in their number only, which stands, at a fixed width, in each record's event id and
sequence number, and in the keys of records that we made up. Recorded ones take turns.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.replay_records import blank_pages
from benchmarks.replay_stream import CONTENTS, PAGE_NUMBER, digits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.replay_stream import Content, Shape


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


class Blank:
    """A page without its number: filling it in is one `bytes.join`, some 40 µs for 770 KB.

    A CRC is linear over messages of one length, so the checksum of a page is that of page 0, with the contribution of
    each digit of its number: nine look-ups in place of half a millisecond over the bytes.
    """

    def __init__(self, start: bytes) -> None:
        self._segments = start.split(PAGE_NUMBER.encode())
        self._crc32 = zlib.crc32(self._filled(0))
        self._digit_crc32 = [
            [zlib.crc32(self._filled(digit * 10**place)) ^ self._crc32 for digit in range(10)]
            for place in reversed(range(len(PAGE_NUMBER)))
        ]

    def body(self, number: int, tail: bytes) -> Body:
        crc32 = self._crc32
        for place, digit in enumerate(digits(number)):
            crc32 ^= self._digit_crc32[place][digit - ord("0")]
        return Body((self._filled(number), tail), zlib.crc32(tail, crc32))

    def _filled(self, number: int) -> bytes:
        return digits(number).join(self._segments)


class Template:
    """Makes any page of any stream. What a content needs is built when it is first asked for, or by `prepare`."""

    def __init__(self) -> None:
        self._blanks: dict[Content, Sequence[Blank]] = {}

    def prepare(self) -> None:
        """Build all now, so that no client waits for it."""
        for content in CONTENTS:
            self._blank(content, 0)

    def page(self, shape: Shape, shard: int, page: int) -> Body:
        """The body of the answer to GetRecords; the last page of a shard has no next iterator."""
        last = page + 1 >= shape.pages
        tail = b"}" if last else b',"NextShardIterator":"%s"}' % shape.iterator(shard, page + 1).encode()
        return self._blank(shape.content, page).body(shape.page_number(shard, page), tail)

    def _blank(self, content: Content, page: int) -> Blank:
        blanks = self._blanks.get(content)
        if blanks is None:
            blanks = self._blanks[content] = [Blank(start) for start in blank_pages(content)]
        return blanks[page % len(blanks)]
