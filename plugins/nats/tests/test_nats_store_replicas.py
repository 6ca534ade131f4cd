"""What happens between two requests of one call, and what a replica that is behind does to listings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nats_stores import new_bucket, stored
from streamflow.testing.store_contract.leases import LEASE, STREAM_ARN
from streamflow.testing.store_contract.letters import DEAD, PARKED, ids_of, key_of, letter, without_ids
from streamflow_nats.store import open_nats_store
from streamflow_nats.store_calls import open_calls
from streamflow_nats.store_configuration import open_bucket
from streamflow_nats.store_leases import NatsLeases
from streamflow_nats.store_letters import NatsLetters
from streamflow_nats.store_url import parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from nats.aio.msg import Msg

    from servers.nats import NatsServer
    from streamflow.dead_letters import DeadLetter
    from streamflow_nats.store import NatsStore
    from streamflow_nats.store_buckets import Bucket
    from streamflow_nats.store_line import Put, Request

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


class OddCalls:
    """Calls whose pages come from a replica that hears of nothing new, with something that happens after the next look."""

    def __init__(self, calls: Any) -> None:
        self.happens: Callable[[], Awaitable[Any]] | None = None
        self._calls = calls
        self._pages: dict[bytes, list[Msg]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._calls, name)

    async def read_page(self, put: Put) -> list[Msg]:
        if put.payload not in self._pages:
            self._pages[put.payload] = await self._calls.read_page(put)
        return self._pages[put.payload]

    async def ask(self, *requests: Request, writes: bool) -> Any:
        answers = await self._calls.ask(*requests, writes=writes)
        if not writes and (happens := self.happens) is not None:
            self.happens = None
            await happens()
        return answers


@pytest.fixture
def url(running_server: NatsServer) -> str:
    return f"{running_server.url}?bucket={new_bucket()}"


@pytest.fixture
async def store(url: str) -> AsyncIterator[NatsStore]:
    async with open_nats_store(url) as store:
        yield store


@pytest.fixture
async def calls(url: str) -> AsyncIterator[OddCalls]:
    async with open_calls(parse_url(url), timeout_s=4) as calls:
        yield OddCalls(calls)


@pytest.fixture
async def behind(url: str, calls: OddCalls) -> Bucket:
    """As one with three replicas."""
    bucket = await open_bucket(calls, parse_url(url).bucket, None)  # type: ignore[arg-type]  # it does what they do
    bucket.replicas = 3
    return bucket


@pytest.fixture
async def letters(store: NatsStore, url: str, calls: OddCalls) -> NatsLetters:
    """Those of the store, too."""
    return NatsLetters(await open_bucket(calls, f"{parse_url(url).bucket}_letters", None))  # type: ignore[arg-type]


# -- between two requests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("followers", [1, 3])
async def test_an_item_that_is_healed_after_the_look_takes_no_letter(
    store: NatsStore, letters: NatsLetters, calls: OddCalls, followers: int
) -> None:
    await store.park([letter(0), letter(100, "b")], opening=True)
    opener, _ = ids_of(await store.letters(PARKED))

    async def heal() -> None:
        assert await store.remove("parked", [opener]) == 1

    calls.happens = heal
    offered = [letter(number, key) for number in range(1, followers + 1) for key in "ab"]
    assert await letters.park(offered) == {key_of("b")}
    assert await store.parked_keys("orders", STREAM_ARN) == {key_of("b")}


async def test_an_item_whose_letters_were_replaced_after_the_look_takes_more(
    store: NatsStore, letters: NatsLetters, calls: OddCalls
) -> None:
    await store.park([letter(0)], opening=True)

    async def replace_it() -> None:
        await store.park([letter(1)])
        assert await store.remove("parked", ids_of(await store.letters(PARKED))[:1]) == 1

    calls.happens = replace_it
    assert await letters.park([letter(2)]) == {key_of("a")}
    assert without_ids(await store.letters(PARKED)) == [letter(1), letter(2)]


async def test_an_item_that_is_healed_half_way_keeps_what_follows_together(
    store: NatsStore, letters: NatsLetters, calls: OddCalls
) -> None:
    await store.park([letter(0)], opening=True)
    healed: list[DeadLetter] = []

    async def heal() -> None:
        healed.extend(await store.letters(PARKED))
        assert await store.remove("parked", ids_of(healed)) == len(healed)

    async def wait() -> None:
        calls.happens = heal  # after the look that comes before the second part

    calls.happens = wait
    offered = [letter(number) for number in range(1, 1_000)]
    assert await letters.park(offered) == {key_of("a")}
    left = await store.letters(PARKED)
    assert 1 < len(healed) < 1_000
    assert without_ids([*healed, *left]) == [letter(0), *offered]


async def test_a_letter_that_is_removed_after_the_look_is_kept_anew(
    store: NatsStore, letters: NatsLetters, calls: OddCalls
) -> None:
    await store.keep([letter(1)])

    async def remove() -> None:
        assert await store.remove("dead", ids_of(await store.letters(DEAD))) == 1

    calls.happens = remove
    await letters.keep([letter(1, invoke_count=2)])
    assert without_ids(await store.letters(DEAD)) == [letter(1, invoke_count=2)]


async def test_a_row_that_changes_after_the_look_is_a_conflict(
    store: NatsStore, behind: Bucket, calls: OddCalls
) -> None:
    await stored(store)

    async def change() -> None:
        assert await store.update(replace(LEASE, owner="first"), expected_version=1) is not None

    calls.happens = change
    leases = NatsLeases(behind)
    assert await leases.update(replace(LEASE, owner="second"), expected_version=1) is None
    assert await leases.update(replace(LEASE, owner="second"), expected_version=2) is not None


# -- replicas -------------------------------------------------------------------------------------------------------------


async def test_a_listing_has_what_the_replica_has_not_heard_of(store: NatsStore, behind: Bucket) -> None:
    leases = NatsLeases(behind)
    rows = {name: await stored(store, shard_id=name) for name in ("same", "changed", "deleted")}
    assert {row.shard_id for row in await leases.list("orders", STREAM_ARN)} == rows.keys()
    rows["changed"] = await store.update(replace(rows["changed"], owner="x"), expected_version=1)  # type: ignore[assignment]
    rows["new"] = await stored(store, shard_id="new")
    await store.delete(replace(LEASE, shard_id="deleted").key, expected_version=1)
    listed = {row.shard_id: row for row in await leases.list("orders", STREAM_ARN)}
    assert listed == rows  # that one is gone is what a listing may be late to tell


async def test_a_letter_that_was_removed_is_not_found_and_a_new_one_is(behind: Bucket) -> None:
    letters = NatsLetters(behind)
    await letters.keep([letter(number) for number in range(4)])
    kept = await letters.letters(DEAD)
    assert without_ids(kept) == [letter(number) for number in range(4)]
    page = replace(DEAD, limit=2)
    assert await letters.letters(page) == kept[:2]
    assert await letters.remove("dead", ids_of(kept[:2])) == 2
    await letters.keep([letter(9)])
    assert without_ids(await letters.letters(DEAD)) == [letter(2), letter(3), letter(9)]
    assert await letters.letters(page) == kept[2:]
