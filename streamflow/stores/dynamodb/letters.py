"""Dead letters and parked records in the companion table.

Letters of one item are parked, and its last one is removed, in transactions that meet at the row that counts them: nobody
parks behind the last letter of an item. A call with many letters is many transactions; repeating it completes it.
"""

from __future__ import annotations

from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from streamflow.errors import StoreError
from streamflow.stores.dynamodb import letter_items as items
from streamflow.stores.dynamodb.calls import TransactionCancelledError
from streamflow.stores.dynamodb.letter_groups import Putting, counted_item, packed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from streamflow.dead_letters import DeadLetter, Drawer, LetterQuery
    from streamflow.stores.dynamodb.companion import Companion
    from streamflow.stores.dynamodb.notes import Item

# Of one BatchGetItem.
_KEYS_MAX = 100
_ROUNDS_MAX, _PAUSE_S = 40, 0.02
# Not a reason to give up: somebody else wrote one of the items, or is writing it.
_RIVALS = frozenset({"None", "ConditionalCheckFailed", "TransactionConflict"})


class DynamoDBLetters:
    """The contract of `DeadLetterStore`."""

    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self._calls = companion.calls
        self._home = companion.table

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        await self._put(Putting("dead", letters, opening=True))

    async def park(self, letters: Sequence[DeadLetter], *, opening: bool = False) -> frozenset[str]:
        putting = Putting("parked", letters, opening=opening)
        await self._put(putting)
        return frozenset(item_key for _, _, item_key in putting.taken)

    async def parked_keys(self, pipeline: str, stream_arn: str) -> frozenset[str]:
        rows = self._companion.query(items.parked_pk(pipeline, stream_arn))
        return frozenset([row["item"]["S"] async for row in rows])

    async def letters(self, query: LetterQuery) -> Sequence[DeadLetter]:
        found: list[DeadLetter] = []
        if query.limit <= 0:
            return found
        async with aclosing(self._asked_for(query)) as asked_for:
            async for item in asked_for:
                if (letter := await self._letter(item)) is not None:
                    found.append(letter)
                if len(found) == query.limit:
                    break
        return found

    async def count(self, query: LetterQuery) -> int:
        return len([item async for item in self._asked_for(query, **items.PROJECTION)])

    async def remove(self, drawer: Drawer, ids: Sequence[int]) -> int:
        left, removed, rivals = items.possible(ids), 0, _Rivals(self._home)
        while left:
            there = [item async for item in self._by_ids(drawer, left, **items.PROJECTION)]
            there.sort(key=lambda item: counted_item(item, drawer) or ())
            left = []
            for group in packed(there, drawer):
                if await self._removed(drawer, group):
                    removed += len(group)
                else:
                    left += [items.id_of(item) for item in group]
            await rivals.wait(len(left))
        return removed

    # -- reading --------------------------------------------------------------------------------------------------------

    async def _asked_for(self, query: LetterQuery, **parameters: Any) -> AsyncGenerator[Item]:
        """The items of the letters that are meant, by ascending id."""
        first = items.after(query.after_id)
        if first is None:
            return
        if query.ids:
            ids = [letter_id for letter_id in items.possible(query.ids) if letter_id > query.after_id]
            found = self._by_ids(query.drawer, ids, **parameters)
        else:
            found = self._from(query.drawer, first, **parameters)
        async for item in found:
            if items.asked_for(item, query):
                yield item

    async def _by_ids(self, drawer: Drawer, ids: Sequence[int], **parameters: Any) -> AsyncIterator[Item]:
        for start in range(0, len(ids), _KEYS_MAX):
            keys = [items.letter_key(drawer, letter_id) for letter_id in ids[start : start + _KEYS_MAX]]
            for item in sorted(await self._calls.items(self._home, keys, **parameters), key=items.id_of):
                yield item

    async def _from(self, drawer: Drawer, first: str, **parameters: Any) -> AsyncIterator[Item]:
        async for page in self._calls.pages(
            "query",
            self._home,
            KeyConditionExpression="pk = :pk AND sk >= :first",
            ExpressionAttributeValues={":pk": {"S": items.drawer_pk(drawer)}, ":first": {"S": first}},
            **parameters,
        ):
            for item in page.get("Items", []):
                yield item

    async def _letter(self, item: Item) -> DeadLetter | None:
        """None for one that was removed while it was read."""
        if "chunks" not in item:
            return items.letter_of(item, bytes(item["body"]["B"]) if "body" in item else b"")
        drawer: Drawer = "dead" if item["pk"]["S"] == items.drawer_pk("dead") else "parked"
        body = await self._companion.read_chunks(items.chunks_pk(drawer, items.id_of(item)), item["chunks"]["S"])
        if items.chunks_name(body) != item["chunks"]["S"]:
            key = {"pk": item["pk"], "sk": item["sk"]}
            if not await self._calls.items(self._home, [key]):
                return None
        return items.letter_of(item, body)

    # -- putting --------------------------------------------------------------------------------------------------------

    async def _put(self, putting: Putting) -> None:
        rivals = _Rivals(self._home)
        while putting.left:
            await self._look(putting)
            for group in list(putting.groups()):
                if not await self._write(putting, group):
                    # A later group may hold the rest of an item's letters, which may not come before these.
                    break
            await rivals.wait(len(putting.left))

    async def _look(self, putting: Putting) -> None:
        """Which of the letters have an id, and which of their items are parked now; new letters get ids."""
        found = await self._calls.items(self._home, [items.place_key(place) for place in putting.left])
        putting.known = {item["pk"]["S"].partition("#")[2]: int(item["id"]["N"]) for item in found}
        if not putting.opening:
            wanted = {_text(key): item for item in putting.items_left() for key in [items.parked_key(*item)]}
            parked = await self._calls.items(self._home, [items.parked_key(*item) for item in wanted.values()])
            putting.forget_all_but({wanted[_text(row)] for row in parked} | putting.taken)
        fresh = [place for place in putting.left if place not in putting.known]
        if fresh:
            # In every round: what a rival has put meanwhile comes before.
            last = await self._next_ids(len(fresh))
            putting.ids = dict(zip(fresh, range(last - len(fresh) + 1, last + 1), strict=True))

    async def _next_ids(self, count: int) -> int:
        """The last of so many ids that nobody has or had."""
        answer = await self._calls.write(
            "update_item",
            self._home,
            TableName=self._home,
            Key=items.COUNTER_KEY,
            UpdateExpression="ADD #last :count",
            ExpressionAttributeNames={"#last": "last"},
            ExpressionAttributeValues={":count": {"N": str(count)}},
            ReturnValues="UPDATED_NEW",
        )
        return int(answer["Attributes"]["last"]["N"])

    async def _write(self, putting: Putting, group: Sequence[str]) -> bool:
        """One transaction; False if a rival was faster with something in it, and all of it stays left."""
        actions: list[Any] = []
        for place in group:
            known = putting.known.get(place)
            letter_id = putting.ids[place] if known is None else known
            item, large = items.letter_item(putting.drawer, letter_id, putting.left[place])
            if large is not None:
                await self._companion.write_chunks(
                    items.chunks_pk(putting.drawer, letter_id), item["chunks"]["S"], large
                )
            actions += items.keep_actions(self._home, item, known=known is not None)
        actions += putting.counting(self._home, group)
        if not await self._happens(actions):
            return False
        putting.done(group)
        return True

    # -- removing -------------------------------------------------------------------------------------------------------

    async def _removed(self, drawer: Drawer, group: Sequence[Item]) -> bool:
        """One transaction; False if a rival was faster with something in it."""
        actions = [action for item in group for action in items.remove_actions(self._home, item)]
        counts: dict[tuple[str, str, str], int] = {}
        for item in group:
            if (counted := counted_item(item, drawer)) is not None:
                counts[counted] = counts.get(counted, 0) + 1
        rows = await self._calls.items(self._home, [items.parked_key(*counted) for counted in counts])
        there = {_text(row): int(row["count"]["N"]) for row in rows}
        for counted, count in counts.items():
            key = items.parked_key(*counted)
            actions.append(items.fewer_parked(self._home, key, count, of=there.get(_text(key), 0)))
        if not await self._happens(actions):
            return False
        for item in group:
            if "chunks" in item:
                # The letter is removed, whatever becomes of them: nobody finds them any more.
                with suppress(StoreError):
                    await self._companion.remove_chunks(items.chunks_pk(drawer, items.id_of(item)), lambda _: True)
        return True

    async def _happens(self, actions: Sequence[Any]) -> bool:
        """All of it, or, because of a rival, nothing.

        Raises:
            StoreError: nothing happened, for another reason.
        """
        try:
            await self._calls.write("transact_write_items", self._home, TransactItems=actions)
        except TransactionCancelledError as error:
            if _RIVALS.issuperset(error.reasons) and error.reasons:
                return False
            raise
        return True


def _text(key: Item) -> str:
    return f"{key['pk']['S']}/{key['sk']['S']}"


@dataclass(slots=True)
class _Rivals:
    """Rounds in which rivals left us nothing to do: a few are normal, each means that one of them has got on."""

    table: str
    left: int | None = None
    rounds: int = 0

    async def wait(self, left: int) -> None:
        """A while, longer each time, if some of the letters are left.

        Raises:
            StoreError: it is no use.
        """
        self.rounds = self.rounds + 1 if left == self.left else 0
        self.left = left
        if self.rounds == _ROUNDS_MAX:
            raise StoreError(f"DynamoDB table {self.table}: {left} letters met a rival {_ROUNDS_MAX} times: try again")
        if left:
            await anyio.sleep(_PAUSE_S * min(self.rounds, 10))
