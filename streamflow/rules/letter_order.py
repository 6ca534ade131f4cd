"""In which order kept letters go out again: those of one item by shard, then by sequence number.

Their ids alone would not do. A record that was delivered before a crash and fails when it is repeated after it gets a
later id than its successors in the shard, which were kept before the crash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.dead_letters import DeadLetter

Item: TypeAlias = "tuple[str, str]"
"""Stream ARN and item key, within one pipeline."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What the order of a letter follows from. `number` is its sequence number."""

    id: int
    shard_id: str
    number: int


def item_of(letter: DeadLetter) -> Item | None:
    """None where the keys cannot be read: such a letter has no order to keep."""
    return (letter.stream_arn, letter.item_key) if letter.item_key else None


def outline_of(letter: DeadLetter) -> Outline:
    """A letter without a decimal sequence number stays where its id puts it, if it is alone in its item."""
    number = letter.sequence_number
    return Outline(letter.id, letter.shard_id, int(number) if number.isascii() and number.isdigit() else 0)


def in_order(outlines: Sequence[Outline]) -> list[Outline]:
    """The letters of one item, given by ascending id, in the order in which the changes were made.

    Shards come as their first letters do: a shard is settled to its end before its children are read.
    """
    ranks: dict[str, int] = {}
    for each in outlines:
        ranks.setdefault(each.shard_id, len(ranks))
    return sorted(outlines, key=lambda each: (ranks[each.shard_id], each.number))
