"""The simulated store: it keeps the contract of stores where no fault strikes, and each fault is met by whoever calls."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest

from simulated_ports import Ports
from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow.leases import WORKERS, Lease, LeaseLayout
from streamflow.positions import SHARD_END, Position
from streamflow.testing.simulation.facts import HAND, LettersStored, RowStored, StoreRolledBack
from streamflow.testing.simulation.loop import SimulatedLoop
from streamflow.testing.simulation.rows import MAY_LOSE_WRITES, NEVER_LOSES, STALE_SCANS
from streamflow.testing.store_contract.leases import LEASE, STREAM_ARN, LeaseStoreContract
from streamflow.testing.store_contract.letters import DEAD, PARKED, DeadLetterStoreContract, letter, without_ids

if TYPE_CHECKING:
    from streamflow.testing.simulation.store import SimulatedStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": lambda: SimulatedLoop(1)}


# --- the contract ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def store(ports: Ports) -> SimulatedStore:
    return ports.store("w1.1")


@pytest.fixture
async def rival(ports: Ports) -> SimulatedStore:
    return ports.store("w2.1")


class TestLeasesInTheLayoutOfOurOwn(LeaseStoreContract):
    rows_many = 1_000  # of the memory store, which is tried with 10,000; a listing has no pages

    @pytest.fixture
    async def ports(self) -> Ports:
        return Ports(profile=STALE_SCANS)  # without a fault that strikes, a scan is not stale


class TestLeasesInTheLayoutOfTheKcl(LeaseStoreContract):
    rows_many = 1_000  # as above

    @pytest.fixture(params=[LeaseLayout.KCL, LeaseLayout.KCL_SHARED], ids=lambda layout: layout.value)
    async def ports(self, request: pytest.FixtureRequest) -> Ports:
        return Ports(layout=request.param)

    def first_version(self, lease: Lease) -> int:
        return 0


class TestLetters(DeadLetterStoreContract):
    @pytest.fixture
    async def ports(self) -> Ports:
        return Ports()


# --- what becomes of a request ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "error", "stored"),
    [
        ("network.refused", StoreError, False),
        ("network.request_lost", UnknownOutcomeError, False),
        ("network.answer_lost", UnknownOutcomeError, True),
        ("network.delayed", UnknownOutcomeError, False),
        ("store.throttled", StoreError, False),
        ("store.read_only", StoreError, False),
    ],
)
async def test_a_failed_write_says_whether_it_may_have_happened(
    kind: str, error: type[StoreError], *, stored: bool
) -> None:
    ports = Ports({kind: 1.0})
    with pytest.raises(StoreError) as raised:
        await ports.store().create(LEASE)
    assert type(raised.value) is error
    ports.faults.quiet = True
    assert (await ports.store().get(LEASE.key) is not None) == stored
    assert len(ports.of(RowStored)) == stored


async def test_a_delayed_write_lands_when_its_writer_has_given_up_and_meets_the_condition_again() -> None:
    ports = Ports({"network.delayed": 1.0})
    ports.faults.quiet = True
    created = await ports.store().create(LEASE)
    assert created is not None
    ports.faults.quiet = False
    with pytest.raises(UnknownOutcomeError):
        await ports.store("w1.1").update(replace(created, owner="late"), expected_version=created.version)
    ports.faults.quiet = True
    stored = await ports.store("w2.1").update(replace(created, owner="quick"), expected_version=created.version)
    await anyio.sleep(61)
    assert await ports.store().get(LEASE.key) == stored
    assert [fact.node for fact in ports.of(RowStored)] == ["w1.1", "w2.1"]


async def test_a_write_that_is_carried_out_twice_is_done_once_and_answered_as_the_first() -> None:
    ports = Ports({"network.twice": 1.0})
    created = await ports.store().create(LEASE)
    assert created is not None
    updated = await ports.store().update(replace(created, owner="w1"), expected_version=created.version)
    await anyio.sleep(60)
    assert updated == await ports.store().get(LEASE.key)
    assert len(ports.of(RowStored)) == 2


@pytest.mark.parametrize("kind", ["network.request_lost", "network.answer_lost", "store.throttled"])
async def test_a_read_that_fails_leaves_nothing_unknown(kind: str) -> None:
    ports = Ports({kind: 1.0})
    store = ports.store()
    for read in (
        lambda: store.get(LEASE.key),
        lambda: store.list("orders", STREAM_ARN),
        lambda: store.letters(DEAD),
        lambda: store.count(DEAD),
        lambda: store.parked_keys("orders", STREAM_ARN),
    ):
        with pytest.raises(StoreError) as raised:
            await read()
        assert type(raised.value) is StoreError


async def test_a_store_may_take_no_writes_for_a_while_and_is_read_all_the_time() -> None:
    ports = Ports({"store.read_only": 1.0})
    store = ports.store()
    with pytest.raises(StoreError, match="takes no writes"):
        await store.create(LEASE)
    ports.faults.rates["store.read_only"] = 0.0
    with pytest.raises(StoreError, match="takes no writes"):
        await store.keep([letter(1)])
    assert await store.get(LEASE.key) is None
    await anyio.sleep(61)
    assert await store.create(LEASE) is not None


async def test_nobody_is_read_only_when_faults_are_over() -> None:
    ports = Ports({"store.read_only": 1.0})
    with pytest.raises(StoreError):
        await ports.store().create(LEASE)
    ports.faults.quiet = True
    assert await ports.store().create(LEASE) is not None


async def test_what_a_severed_node_writes_is_never_stored() -> None:
    ports = Ports()
    ports.network.sever("w1.1")
    with anyio.move_on_after(3_600) as scope:
        await ports.store("w1.1").create(LEASE)
    assert scope.cancelled_caught
    assert await ports.store("w2.1").get(LEASE.key) is None


# --- what a store does not promise -----------------------------------------------------------------------------------


async def test_a_stale_scan_shows_each_row_at_a_time_of_its_own() -> None:
    ports = Ports({"store.stale_scan": 1.0}, profile=STALE_SCANS)
    store = ports.store()
    rows = [replace(LEASE, shard_id=f"shardId-{number}") for number in range(20)]
    for row in rows:
        await store.create(row)
    await anyio.sleep(60)
    for row in rows[:10]:
        await store.update(replace(row, owner="w1"), expected_version=1)
    await anyio.sleep(1)
    for row in rows[10:15]:
        await store.delete(row.key, expected_version=1)
    await anyio.sleep(2)
    looks = [{row.shard_id: row.owner for row in await store.list("orders", STREAM_ARN)} for _ in range(20)]
    owners = [{look[row.shard_id] for look in looks} for row in rows[:10]]
    assert {None, "w1"} in owners
    assert {len(look) for look in looks} - {15, 20}, "some rows that were deleted still show, and others do not"
    assert len({tuple(sorted(look.items())) for look in looks}) > 2, "it flaps"
    assert await store.get(rows[12].key) is None, "a look at one row is never stale"
    await anyio.sleep(6)
    assert len(await store.list("orders", STREAM_ARN)) == 15
    assert {row.owner for row in await store.list("orders", STREAM_ARN) if row.shard_id == "shardId-3"} == {"w1"}


async def test_a_scan_is_never_stale_where_the_store_promises_it() -> None:
    ports = Ports({"store.stale_scan": 1.0}, profile=NEVER_LOSES)
    await ports.store().create(LEASE)
    assert len(await ports.store().list("orders", STREAM_ARN)) == 1
    assert not ports.faults.injected


async def test_a_fail_over_loses_the_last_acknowledged_writes_and_no_letters() -> None:
    ports = Ports(profile=MAY_LOSE_WRITES)
    store = ports.store()
    created = await store.create(LEASE)
    assert created is not None
    taken = await store.update(replace(created, owner="w1", epoch=1), expected_version=created.version)
    assert taken is not None
    checkpointed = await store.update(
        replace(taken, checkpoint=Position.after("1" * 21)), expected_version=taken.version
    )
    other = await store.create(replace(LEASE, shard_id="shardId-2"))
    assert checkpointed is not None
    assert other is not None
    await store.keep([letter(1)])
    ports.facts.clear()
    assert ports.rows.roll_back(2) == 2
    assert await store.get(LEASE.key) == taken
    assert await store.get(other.key) is None
    assert await store.count(DEAD) == 1
    assert ports.facts == [RowStored(node=HAND, before=other, after=None), StoreRolledBack(rows=(taken,))]
    # The owner, who was told that its checkpoint is stored, meets a conflict.
    assert await store.update(replace(checkpointed, owner="w1"), expected_version=checkpointed.version) is None


async def test_a_fail_over_may_follow_any_write() -> None:
    ports = Ports({"store.rolled_back": 1.0}, profile=MAY_LOSE_WRITES)
    assert await ports.store().create(LEASE) is not None
    assert await ports.store().get(LEASE.key) is None


async def test_a_store_that_never_loses_has_no_fail_overs() -> None:
    ports = Ports({"store.rolled_back": 1.0})
    stored = await ports.store().create(LEASE)
    assert await ports.store().get(LEASE.key) == stored
    assert not ports.faults.injected


async def test_the_history_that_is_kept_is_bounded() -> None:
    ports = Ports(profile=MAY_LOSE_WRITES)
    row = await ports.store().create(LEASE)
    for _ in range(200):
        assert row is not None
        row = await ports.store().update(row, expected_version=row.version)
        await anyio.sleep(0.1)
    assert ports.rows.roll_back(1_000) == MAY_LOSE_WRITES.lost_writes_max


# --- behind the workers' backs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["store.row_deleted", "store.row_edited", "store.counter_restarted"])
async def test_rows_change_by_hand_and_the_owner_meets_a_conflict(kind: str) -> None:
    ports = Ports({kind: 1.0})
    store = ports.store()
    stored = await store.create(replace(LEASE, owner="w1", version=1_000))
    assert stored is not None
    current = await store.get(LEASE.key)
    ports.faults.quiet = True
    assert (
        current
        == {
            "store.row_deleted": None,
            "store.row_edited": replace(stored, owner=None, version=stored.version + 1),
            "store.counter_restarted": replace(stored, version=0),
        }[kind]
    )
    assert await store.update(replace(stored, checkpoint=SHARD_END), expected_version=stored.version) is None
    assert {fact.node for fact in ports.of(RowStored)[1:]} == {HAND}


@pytest.mark.fault("F51")
async def test_a_counter_that_comes_back_is_told_from_the_old_one_by_the_epoch() -> None:
    """The KCL's counters begin at 0: a paused owner knows a version that another row has now."""
    ports = Ports(layout=LeaseLayout.KCL)
    paused, person, other = ports.store("w1.1"), ports.store("w3.1"), ports.store("w2.1")
    held = await paused.create(replace(LEASE, owner="w1", epoch=1_000))
    assert held is not None
    assert held.version == 0
    assert await person.delete(LEASE.key, expected_version=0)
    anew = await other.create(replace(LEASE, epoch=2_000))
    assert anew is not None
    assert anew.version == 0
    wanted = replace(held, checkpoint=SHARD_END)
    assert await paused.update(wanted, expected_version=0) is None, "it is not the row that this one knows"
    assert await ports.store("w1.2").update(wanted, expected_version=0) is None, "nor is its epoch, for who knows none"
    assert await other.get(LEASE.key) == anew


async def test_in_the_kcls_layout_a_request_for_a_lease_is_a_conflict_for_its_owner() -> None:
    ports = Ports(layout=LeaseLayout.KCL)
    owner, claimant = ports.store("w1.1"), ports.store("w2.1")
    held = await owner.create(replace(LEASE, owner="w1"))
    assert held is not None
    asked = await claimant.ask(held, "w2")
    assert asked == replace(held, claimant="w2"), "the counter stays"
    assert await claimant.ask(held, "w3") is None
    assert await owner.update(held, expected_version=held.version) is None
    assert await owner.get(LEASE.key) == asked
    assert await owner.update(replace(held, claimant="w2"), expected_version=held.version) is not None


async def test_a_row_is_looked_at_anew_behind_a_write_that_nobody_knows_of() -> None:
    ports = Ports({"network.request_lost": 1.0}, layout=LeaseLayout.KCL)
    ports.faults.quiet = True
    owner, claimant = ports.store("w1.1"), ports.store("w2.1")
    held = await owner.create(replace(LEASE, owner="w1"))
    assert held is not None
    ports.faults.quiet = False
    with pytest.raises(UnknownOutcomeError):
        await owner.update(held, expected_version=held.version)
    ports.faults.quiet = True
    assert await claimant.ask(held, "w2") is not None
    # The counter is the one that the owner knows; what it knew of the claimant, it does not count on any more.
    renewed = await owner.update(replace(held, claimant="w2"), expected_version=held.version)
    assert renewed == replace(held, claimant="w2", version=held.version + 1)


async def test_rows_of_workers_have_versions_of_their_own_in_every_layout() -> None:
    ports = Ports(layout=LeaseLayout.KCL)
    row = Lease(pipeline=WORKERS[0], stream_arn=WORKERS[1], shard_id="w1", version=1_000)
    stored = await ports.store().create(row)
    assert stored == replace(row, version=1_001)


# --- letters ---------------------------------------------------------------------------------------------------------


async def test_of_several_letters_a_part_may_be_stored_and_nobody_says_which() -> None:
    ports = Ports({"store.part_of_letters": 1.0})
    letters = [letter(number) for number in range(10)]
    with pytest.raises(UnknownOutcomeError):
        await ports.store().keep(letters)
    with pytest.raises(UnknownOutcomeError):
        await ports.store().park(letters, opening=True)
    await ports.store().keep(letters[:1])  # of one there is no part
    ports.faults.quiet = True
    for query in (DEAD, PARKED):
        kept = without_ids(await ports.store().letters(query))
        assert 1 <= len(kept) < 10
        assert kept == letters[: len(kept)]
    await ports.store().keep(letters)
    assert without_ids(await ports.store().letters(DEAD)) == letters, "a repetition makes it whole"


async def test_letters_are_told_when_they_are_stored() -> None:
    ports = Ports()
    await ports.store().park([letter(1)])
    assert ports.facts[1:] == [], "nothing was taken"
    await ports.store().park([letter(1)], opening=True)
    (fact,) = ports.of(LettersStored)
    (told,) = fact.letters
    assert (fact.node, told.drawer, told.number) == ("w1.1", "parked", int(letter(1).sequence_number))
    assert (told.key, told.body) == (letter(1).item_key, letter(1).record)
