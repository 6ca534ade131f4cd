"""Letters of the companion table in groups, each of them one transaction: pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from streamflow.stores.dynamodb import letter_items as items

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streamflow.dead_letters import DeadLetter, Drawer
    from streamflow.stores.dynamodb.notes import Item

ACTIONS_MAX = 100
"""Of one transaction; two for each letter, and one for each item whose letters are counted."""


@dataclass(slots=True)
class Putting:
    """Letters on their way into a drawer, by their places: of a record that is there twice, the later facts count."""

    drawer: Drawer
    letters: Sequence[DeadLetter]
    opening: bool
    left: dict[str, DeadLetter] = field(init=False)
    known: Mapping[str, int] = field(default_factory=dict)
    """Place to the id of a letter that is there."""
    ids: Mapping[str, int] = field(default_factory=dict)
    """Place to the id that a new letter gets."""
    taken: set[tuple[str, str, str]] = field(default_factory=set)
    """Items with a letter that was put; all their others are, even if somebody removes that one in between."""

    def __post_init__(self) -> None:
        self.left = {items.place_of(self.drawer, letter): letter for letter in self.letters}

    def items_left(self) -> set[tuple[str, str, str]]:
        return {_item(letter) for letter in self.left.values() if letter.item_key}

    def forget_all_but(self, parked: set[tuple[str, str, str]]) -> None:
        self.left = {place: letter for place, letter in self.left.items() if _item(letter) in parked}

    def groups(self) -> Iterator[list[str]]:
        """Places for a transaction each, those of one item together."""
        places = list(self.left)
        if self.drawer == "parked":
            places.sort(key=lambda place: _item(self.left[place]))
        group: list[str] = []
        counted: set[tuple[str, str, str]] = set()
        for place in places:
            item = _item(self.left[place])
            if 2 * (len(group) + 1) + len(counted | {item}) > ACTIONS_MAX:
                yield group
                group, counted = [], set()
            group.append(place)
            if self.drawer == "parked":
                counted.add(item)
        if group:
            yield group

    def counting(self, table: str, group: Sequence[str]) -> list[Any]:
        """The actions on the rows that count the letters of an item; a record without a readable key is of none."""
        if self.drawer == "dead":
            return []
        new = [self.left[place] for place in group if place not in self.known and self.left[place].item_key]
        actions = []
        for item, letters in groupby(new, key=_item):
            found = list(letters)
            opening = self.opening or item in self.taken
            actions.append(items.more_parked(table, found[0], len(found), opening=opening))
        return actions

    def done(self, group: Sequence[str]) -> None:
        for place in group:
            self.taken.add(_item(self.left.pop(place)))


def packed(there: Sequence[Item], drawer: Drawer) -> Iterator[list[Item]]:
    """Letters for a transaction each."""
    group: list[Item] = []
    counted: set[tuple[str, str, str] | None] = set()
    for item in there:
        of = counted_item(item, drawer)
        if 2 * (len(group) + 1) + len(counted | {of}) > ACTIONS_MAX:
            yield group
            group, counted = [], set()
        group.append(item)
        counted.add(of)
    if group:
        yield group


def _item(letter: DeadLetter) -> tuple[str, str, str]:
    return letter.pipeline, letter.stream_arn, letter.item_key


def counted_item(item: Item, drawer: Drawer) -> tuple[str, str, str] | None:
    """The item that counts this letter, if one does."""
    if drawer == "dead" or not item["item"]["S"]:
        return None
    return item["pipeline"]["S"], item["stream"]["S"], item["item"]["S"]
