"""The replayed stream: its names, its size, and what its records are like.

Everything is a function of the names, so the server keeps no state and any number of clients read the same bytes: the
table's name says which records there are, in how many shards and pages; an iterator says which page comes next.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

REGION = "eu-west-1"
# DynamoDB Streams answers with at most 1000 records, or 1 MB.
RECORDS_PER_PAGE = 1_000

Content: TypeAlias = Literal["standard", "small", "large", "recorded"]
"""What the records are like: see `replay_records`."""
CONTENTS: tuple[Content, ...] = get_args(Content)

_RECORDS_PER_PAGE: Mapping[Content, int] = {
    "standard": RECORDS_PER_PAGE,
    "small": RECORDS_PER_PAGE,
    "large": 50,
    "recorded": 100,
}
_LABEL = "2026-01-01T00:00:00.000"
# Where the page's number goes; the same width, so that a page's length does not depend on it.
PAGE_NUMBER = "@@@@@@@@@"
# Real ones have 21 digits and more; this one has a prefix, the page's number and the place in the page.
_SEQUENCE_NUMBER = "4000000{}{:08}"
_NAME = r"replay-(?:(small|large|recorded)-)?(\d+)x(\d+)"
_STREAM = re.compile(_NAME)
_ITERATOR = re.compile(_NAME + r"/(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Shape:
    """How much a stream holds: `pages` full pages in each of `shards` closed shards."""

    shards: int
    pages: int
    content: Content = "standard"

    @classmethod
    def parse(cls, name: str) -> Shape | None:
        """The shape that a table name or a stream ARN states; None if it is none of ours."""
        found = _STREAM.search(name)
        return found and _shape(found)

    @classmethod
    def of_volume(cls, volume: str) -> Shape:
        """The inverse of `volume`.

        Raises:
            ValueError: it is none.
        """
        found = _STREAM.fullmatch(f"replay-{volume}")
        if found is None:
            raise ValueError(f"{volume!r} is no volume: write SHARDSxPAGES, or small-SHARDSxPAGES")
        return _shape(found)

    @property
    def volume(self) -> str:
        """For a command line and for names: `4x200`, `small-4x200`."""
        content = "" if self.content == "standard" else f"{self.content}-"
        return f"{content}{self.shards}x{self.pages}"

    @property
    def records_per_page(self) -> int:
        return _RECORDS_PER_PAGE[self.content]

    @property
    def records(self) -> int:
        return self.shards * self.pages * self.records_per_page

    @property
    def table(self) -> str:
        return f"replay-{self.volume}"

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
        return sequence_number(digits(self.page_number(shard, page)).decode(), index)

    def place_of(self, sequence_number: str) -> tuple[int, int]:
        """The page of its shard that holds this record, and the record's index in it."""
        number, index = sequence_number[7:16], sequence_number[16:]
        return int(number) % self.pages, int(index)


def parse_iterator(text: str) -> tuple[Shape, int, int] | None:
    """Shape, shard and page that an iterator names."""
    found = _ITERATOR.fullmatch(text)
    return found and (_shape(found), int(found[4]), int(found[5]))


def sequence_number(page_number: str, index: int) -> str:
    """Of the record with this `index` in a page; the page's number may be `PAGE_NUMBER`."""
    return _SEQUENCE_NUMBER.format(page_number, index)


def digits(page_number: int) -> bytes:
    """What stands in the place of `PAGE_NUMBER`."""
    return b"%0*d" % (len(PAGE_NUMBER), page_number)


def _shape(found: re.Match[str]) -> Shape:
    content: Content = found[1] or "standard"  # type: ignore[assignment]
    return Shape(int(found[2]), int(found[3]), content)
