"""A query for letters as looks at the index of their drawer, page by page: pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from streamflow.dead_letters import LetterQuery

ID_DIGITS = 16
ID_MAX = 10**ID_DIGITS - 1
LOOKS_MAX = 1_000
"""Members that one script looks at: about a millisecond in which the server does nothing else."""
BYTES_MAX = 8 * 1024 * 1024
"""Of facts in one answer, after the letter that reaches it: a letter may have close to a megabyte."""


def id_text(letter_id: int) -> bytes:
    """As texts, ids of 1 to `ID_MAX` order as the numbers do; anything outside becomes the nearest."""
    return b"%0*d" % (ID_DIGITS, max(0, min(letter_id, ID_MAX)))


def part(text: str | None) -> bytes:
    """A part of a letter's name, a JSON string; empty for None. Raises `TypeError` for what UTF-8 does not have."""
    return b"" if text is None else orjson.dumps(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """`start` is what members of the index begin with; empty where the letters are named by `ids`, which ascend."""

    start: bytes
    after: bytes
    wanted: tuple[bytes, bytes, bytes, bytes]
    """Pipeline, stream, shard and item key that letters must have; empty for any."""
    ids: tuple[bytes, ...] = ()

    @property
    def counts_by_index(self) -> bool:
        """Every member between here and the end is a letter that was asked for."""
        return bool(self.start) and not any(self.wanted)

    @property
    def bounds(self) -> tuple[bytes, bytes]:
        """From here to the end, exclusive. A colon comes after all digits."""
        return b"(" + self.start + self.after, b"(" + self.start + b":"

    def arguments(self, *, letters_max: int) -> tuple[bytes | int, ...]:
        """For the script `FIND`; 0 letters at most only counts."""
        return (self.start, self.after, LOOKS_MAX, letters_max, BYTES_MAX, *self.wanted, *self.ids[:LOOKS_MAX])

    def beyond(self, last: bytes, *, more: bool) -> Look | None:
        """What is left to look at after the letter of that id; None at the end."""
        if self.start:
            return replace(self, after=last) if more else None
        ids = tuple(each for each in self.ids if each > last)
        return replace(self, after=last, ids=ids) if ids else None


def first_look(query: LetterQuery) -> Look | None:
    """Along the narrowest part of the index that has the letters in order; None where there can be none."""
    pipeline, stream, item = part(query.pipeline), part(query.stream_arn), part(query.item_key)
    wanted = (pipeline, stream, part(query.shard_id), item)
    after = id_text(query.after_id)
    if query.ids:
        ids = tuple(id_text(each) for each in sorted(set(query.ids)) if query.after_id < each <= ID_MAX and each > 0)
        return Look(start=b"", after=after, wanted=wanted, ids=ids) if ids else None
    if pipeline and stream and item:
        start = b"i" + b"\0".join((pipeline, stream, item, b""))
        return Look(start=start, after=after, wanted=(b"", b"", wanted[2], b""))
    if pipeline:
        return Look(start=b"p" + pipeline + b"\0", after=after, wanted=(b"", *wanted[1:]))
    return Look(start=b"d", after=after, wanted=wanted)
