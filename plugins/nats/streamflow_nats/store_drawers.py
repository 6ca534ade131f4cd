"""How letters are put into their drawers, each place once, and parked only while their item is.

An item is parked as long as it has letters. A letter that follows them is written together with the condition that one of
them, the anchor, is still there: so nobody parks it behind the last one. Whoever removes parked letters writes an entry
after it: when that is acknowledged, every follower whose anchor was still there is to be seen, on a cluster too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from streamflow.errors import StoreError
from streamflow_nats.store_buckets import ConflictError, Write
from streamflow_nats.store_keys import BODY, LETTER, TOUCHED, facts, items_filter, letter_place, token
from streamflow_nats.store_letter_entries import encoded, encoded_facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from streamflow.dead_letters import DeadLetter, Drawer
    from streamflow_nats.store_buckets import Bucket

_Places: TypeAlias = "dict[str, DeadLetter]"
_Item: TypeAlias = "tuple[str, str, str]"

# Each round that fails was somebody else's success.
_ROUNDS_MAX = 100
# Of the 1,000 messages that an atomic batch may have; and what arrives well within the time of an answer.
_TOGETHER_MAX = 900
_TOGETHER_BYTES = 16 << 20


class Drawers:
    """The writing half of `NatsLetters`."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def fill(self, drawer: Drawer, letters: Iterable[DeadLetter]) -> None:
        """Put them in, in order; a place that is taken keeps its letter, and gets the new facts."""
        pending = _places(drawer, letters)
        known: Mapping[str, int] = {}
        for _ in range(_ROUNDS_MAX):
            if not pending:
                return
            groups = [_writes(place, letter, known.get(place)) for place, letter in pending.items()]
            written = await self._bucket.write_in_order(groups)
            pending = {place: pending[place] for place, is_in in zip(list(pending), written, strict=True) if not is_in}
            known = await self._ids(pending)
        raise self._crowded()

    async def follow(self, letters: Iterable[DeadLetter]) -> frozenset[str]:
        """Put in those whose items are parked now, in order, all letters of an item or none; the answer names their keys."""
        # Records without a key that can be read have no order to keep.
        places = _places("parked", (letter for letter in letters if letter.item_key))
        taken: set[_Item] = set()
        refused: set[_Item] = set()
        for part in _parts(places):
            asked = {place: letter for place, letter in part.items() if _item(letter) not in refused}
            taken |= await self._follow_part(asked, already=taken)
            refused |= {_item(letter) for letter in asked.values()} - taken
        return frozenset(key for *_, key in taken)

    async def touch(self) -> None:
        """Write an entry that says nothing, behind everything that was accepted before."""
        await self._bucket.write(Write(TOUCHED, b"1"))

    async def _follow_part(self, part: _Places, *, already: AbstractSet[_Item]) -> AbstractSet[_Item]:
        """The items whose letters are in now. One that is `already` in with other letters of the same call goes on, though
        it may be healed since: what comes behind those must not stay out.
        """
        known: Mapping[str, int] = {}
        for _ in range(_ROUNDS_MAX):
            items = list({_item(letter): None for letter in part.values()})
            anchors = await self._bucket.last_of([_letters_of(item) for item in items])
            conditions = {item: anchor for item, anchor in zip(items, anchors, strict=True) if anchor is not None}
            taken = conditions.keys() | (already & set(items))
            followers = {place: letter for place, letter in part.items() if _item(letter) in taken}
            if not followers:
                break
            writes = [Write(TOUCHED, b"1", expected=anchor.revision, of=anchor.key) for anchor in conditions.values()]
            writes += [
                write for place, letter in followers.items() for write in _writes(place, letter, known.get(place))
            ]
            try:
                await self._bucket.write(*writes)
            except ConflictError:
                known = await self._ids(followers)
            else:
                return taken
        else:
            raise self._crowded()
        return frozenset()

    async def _ids(self, places: Iterable[str]) -> Mapping[str, int]:
        """Those of the letters that are there."""
        entries = await self._bucket.last_of([f"{place}.{LETTER}" for place in places])
        return {place: entry.revision for place, entry in zip(places, entries, strict=True) if entry is not None}

    def _crowded(self) -> StoreError:
        return StoreError(
            f"lease store {self._bucket.calls.shown}: others put the same letters in and out all the time; some of these were "
            "kept (try again)"
        )


def _places(drawer: Drawer, letters: Iterable[DeadLetter]) -> _Places:
    """Of a record that is there twice, the first place and the last facts."""
    return {letter_place(drawer, letter): letter for letter in letters}


def _writes(place: str, letter: DeadLetter, letter_id: int | None) -> list[Write]:
    """What puts a letter in its place; with the id of the one that is there, what changes its facts as long as it is."""
    key = f"{place}.{LETTER}"
    if letter_id is not None:
        return [Write(facts(letter_id), encoded_facts(letter), expected=letter_id, of=key)]
    data, pieces = encoded(letter)
    bodies = [Write(f"{place}.{BODY}.{number}", piece) for number, piece in enumerate(pieces)]
    return [*bodies, Write(key, data, expected=0)]


def _item(letter: DeadLetter) -> _Item:
    return letter.pipeline, letter.stream_arn, letter.item_key


def _letters_of(item: _Item) -> str:
    pipeline, stream_arn, item_key = item
    return items_filter(pipeline, stream_arn, token(item_key))


def _parts(places: _Places) -> Iterator[_Places]:
    """As many as go together, each with a condition of its own at worst."""
    part: _Places = {}
    messages = size = 0
    for place, letter in places.items():
        writes = _writes(place, letter, None)
        if part and (messages + 1 + len(writes) > _TOGETHER_MAX or size >= _TOGETHER_BYTES):
            yield part
            part, messages, size = {}, 0, 0
        part[place] = letter
        messages += 1 + len(writes)
        size += len(letter.record)
    if part:
        yield part
