"""Dead letters and parked records: hashes by id, and an index in which they are found in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import orjson

from streamflow.dead_letters import DeadLetter
from streamflow.errors import StoreError
from streamflow_redis.letter_looks import ID_MAX, LOOKS_MAX, first_look, id_text, part
from streamflow_redis.store_scripts import FIND, ITEM_KEYS, PUT, REMOVE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.dead_letters import Drawer, LetterQuery
    from streamflow_redis.store_connections import Connections
    from streamflow_redis.store_keys import StoreKeys


class RedisLetters:
    """The contract of `DeadLetterStore`. What is put in one call is put in one step; pages of a query are one step each."""

    def __init__(self, connections: Connections, keys: StoreKeys) -> None:
        self._connections = connections
        self._keys = keys

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        await self._put("dead", letters, "all")

    async def park(self, letters: Sequence[DeadLetter], *, opening: bool = False) -> frozenset[str]:
        offered = tuple(letters)
        taken = await self._put("parked", offered, "all" if opening else "followers")
        return frozenset(letter.item_key for letter, is_taken in zip(offered, taken, strict=True) if is_taken)

    async def parked_keys(self, pipeline: str, stream_arn: str) -> frozenset[str]:
        *_, index = self._keys.drawer("parked")
        start = b"i" + b"\0".join((part(pipeline), part(stream_arn), b""))
        bound = b"(" + start
        found: set[str] = set()
        while bound:
            keys, bound = await self._connections.read(ITEM_KEYS, [index], start, bound, LOOKS_MAX)
            found.update(orjson.loads(key) for key in keys)
        # Records whose keys cannot be read have no order to keep.
        return frozenset(found - {""})

    async def letters(self, query: LetterQuery) -> Sequence[DeadLetter]:
        facts, names, _, index = self._keys.drawer(query.drawer)
        letters: list[DeadLetter] = []
        look = first_look(query)
        while look is not None and (missing := query.limit - len(letters)) > 0:
            arguments = look.arguments(letters_max=min(missing, LOOKS_MAX))
            _, last, more, found = await self._connections.read(FIND, [facts, names, index], *arguments, bulky=True)
            letters += [self._letter(*each) for each in zip(found[::3], found[1::3], found[2::3], strict=True)]
            look = look.beyond(last, more=bool(more))
        return letters

    async def count(self, query: LetterQuery) -> int:
        facts, names, _, index = self._keys.drawer(query.drawer)
        number = 0
        look = first_look(query)
        while look is not None:
            if look.counts_by_index:
                return number + int(await self._connections.ask("ZLEXCOUNT", index, *look.bounds))
            counted, last, more, _ = await self._connections.read(
                FIND, [facts, names, index], *look.arguments(letters_max=0)
            )
            number += counted
            look = look.beyond(last, more=bool(more))
        return number

    async def remove(self, drawer: Drawer, ids: Sequence[int]) -> int:
        there = [id_text(each) for each in sorted(set(ids)) if 0 < each <= ID_MAX]
        removed = 0
        for first in range(0, len(there), LOOKS_MAX):
            removed += await self._connections.write(
                REMOVE, self._keys.drawer(drawer), *there[first : first + LOOKS_MAX]
            )
        return removed

    async def _put(self, drawer: Drawer, letters: Sequence[DeadLetter], which: str) -> Sequence[int]:
        """For each letter whether it was taken. One call, however many: a key must not heal half-way."""
        if not letters:
            return []
        try:
            arguments = [argument for letter in letters for argument in _arguments(letter)]
        except (ValueError, TypeError) as error:
            raise StoreError(f"lease store {self._connections.url.address}: a letter cannot be kept: {error}") from None
        taken: list[int] = await self._connections.write(
            PUT, [self._keys.about, *self._keys.drawer(drawer)], which, *arguments, bulky=True
        )
        return taken

    def _letter(self, letter_id: bytes, name: bytes, facts: bytes) -> DeadLetter:
        try:
            return _letter(int(letter_id), name, _facts_of(facts))
        except (ValueError, TypeError) as error:
            raise StoreError(
                f"lease store {self._connections.url.address}: letter {int(letter_id)} is damaged ({type(error).__name__}: "
                "remove the letter, its record is lost then)"
            ) from None


# --- the facts of a letter: MessagePack, because records are any bytes -------------------------------------------------


class _Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    record: bytes
    reason: str
    error_type: str = ""
    error_text: str = ""
    invoke_count: int = 0
    kept_at_s: float = 0.0


_facts_of = msgspec.msgpack.Decoder(_Facts).decode
_facts_text = msgspec.msgpack.Encoder().encode


def _arguments(letter: DeadLetter) -> Iterator[bytes]:
    yield from map(part, (letter.pipeline, letter.stream_arn, letter.shard_id, letter.sequence_number, letter.item_key))
    yield _facts_text(
        _Facts(
            record=letter.record,
            reason=letter.reason,
            error_type=_encodable(letter.error_type),
            error_text=_encodable(letter.error_text),
            invoke_count=letter.invoke_count,
            kept_at_s=letter.kept_at_s,
        )
    )


def _letter(letter_id: int, name: bytes, facts: _Facts) -> DeadLetter:
    pipeline, stream_arn, shard_id, sequence_number, item_key = map(orjson.loads, name.split(b"\0"))
    return DeadLetter(
        pipeline=pipeline,
        stream_arn=stream_arn,
        shard_id=shard_id,
        sequence_number=sequence_number,
        item_key=item_key,
        record=facts.record,
        reason=facts.reason,
        error_type=facts.error_type,
        error_text=facts.error_text,
        invoke_count=facts.invoke_count,
        kept_at_s=facts.kept_at_s,
        id=letter_id,
    )


def _encodable(text: str) -> str:
    """Any exception's text: lone surrogates, as in names of files, are escaped and stop no letter."""
    return text.encode(errors="backslashreplace").decode()
