"""Ages of shards: what lag and checkpoint age say in each state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from streamflow.errors import DestinationError, StoreError
from streamflow.events import (
    BatchDelivered,
    BatchFailed,
    CheckpointFailed,
    CheckpointStored,
    DestinationFailed,
    PageRead,
    ParkingFailed,
    PipelineFailed,
    PipelineStopped,
    ReadFailed,
    RecordsDiscarded,
    RecordsParked,
    ShardClosed,
    ShardClosing,
    ShardOpened,
)
from streamflow.observe.shards import EMPTY_PAGE_VOUCHES_S, OpenShards, ShardFacts
from streamflow.positions import SHARD_END, TRIM_HORIZON, Position


@dataclass
class FakeClock:
    """Both clocks move by `pass_`; only the wall may be stepped."""

    now: float = 100.0
    epoch_s: float = 1_764_000_000.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.epoch_s + self.now


class Room:
    """One open shard, and short ways to say what happens to it. Its records are numbered from 1."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.shards = OpenShards(self.clock)
        self.read = 0
        self.done = 0
        self.open()

    def open(self, shard_id: str = "shard-1", pipeline: str = "orders") -> None:
        self.shards(ShardOpened(pipeline=pipeline, shard_id=shard_id, start=TRIM_HORIZON, epoch=1))

    def pass_(self, seconds: float) -> None:
        self.clock.now += seconds

    def page(
        self,
        records: int,
        *,
        created_ago_s: float | None = 0.0,
        millis_behind: int | None = None,
        filtered: int = 0,
        readable: bool = True,
        ended: bool = False,
        duration_s: float = 0.0,
        age_s: float = 0.0,
    ) -> None:
        self.read += records
        self.done += filtered
        created = None if created_ago_s is None or not records else self.clock.wall() - created_ago_s
        self.shards(
            PageRead(
                pipeline="orders",
                shard_id="shard-1",
                records=records,
                bytes=records * 700,
                duration_s=duration_s,
                age_s=age_s,
                last_created_at_s=created,
                millis_behind=millis_behind,
                buffered_bytes=records * 700,
                filtered=filtered,
                last=Position.after(str(self.read)) if records and readable else None,
                ended=ended,
            )
        )

    def read_failed(self) -> None:
        self.shards(
            ReadFailed(
                pipeline="orders", shard_id="shard-1", code="X", throttled=False, retry_after_s=1.0, message="broken"
            )
        )

    def settled(self, records: int) -> None:
        self.done += records
        now_s = self.clock.wall()
        self.shards(
            BatchDelivered(
                pipeline="orders",
                shard_id="shard-1",
                records=records,
                bytes=1,
                delivered=records,
                dropped={},
                attempts=1,
                handler_s=0.1,
                first_created_at_s=now_s,
                last_created_at_s=now_s,
                now_s=now_s,
            )
        )

    def failed(self, attempt: int) -> None:
        self.shards(
            BatchFailed(
                pipeline="orders",
                shard_id="shard-1",
                records=10,
                attempt=attempt,
                handler_s=0.1,
                error=ValueError(),
                retry_after_s=1.0,
            )
        )

    def discarded(self, records: int) -> None:
        self.done += records
        self.shards(
            RecordsDiscarded(
                pipeline="orders",
                shard_id="shard-1",
                records=records,
                condition="RecordAgeExceeded",
                invoke_count=1,
                destinations=("dead_letters",),
                first=None,
                last=None,
            )
        )

    def parked(self, records: int) -> None:
        self.done += records
        self.shards(RecordsParked(pipeline="orders", shard_id="shard-1", records=records, opened=1, parked_keys=1))

    def destination_failed(self) -> None:
        self.shards(
            DestinationFailed(
                pipeline="orders",
                shard_id="shard-1",
                destination="dead_letters",
                records=1,
                attempt=1,
                error=DestinationError("no", code="X"),
                retry_after_s=1.0,
            )
        )

    def parking_failed(self) -> None:
        self.shards(ParkingFailed(pipeline="orders", shard_id="shard-1", error=StoreError("no"), retry_after_s=1.0))

    def stored(self, position: Position | None = None, *, upto: int | None = None) -> None:
        """By default what is settled, in the order of the records."""
        position = position or Position.after(str(self.done if upto is None else upto))
        self.shards(CheckpointStored(pipeline="orders", shard_id="shard-1", checkpoint=position, duration_s=0.01))

    @property
    def facts(self) -> ShardFacts:
        (facts,) = self.shards.snapshot()
        return facts

    @property
    def lag_s(self) -> float:
        return self.facts.iterator_age_s(self.clock.wall())

    @property
    def checkpoint_age_s(self) -> float:
        return self.facts.checkpoint_age_s(self.clock.wall())


# --- iterator age ----------------------------------------------------------------------------------------------------


def test_lag_is_the_age_of_the_newest_record_read() -> None:
    room = Room()
    room.page(10, created_ago_s=30.0)
    assert room.lag_s == 30.0


def test_an_empty_page_means_caught_up() -> None:
    room = Room()
    room.page(10, created_ago_s=30.0)
    room.page(0)
    assert room.lag_s == 0.0


def test_an_empty_page_vouches_for_a_while_and_then_lag_grows() -> None:
    room = Room()
    room.page(0)
    room.pass_(EMPTY_PAGE_VOUCHES_S)
    assert room.lag_s == 0.0
    room.pass_(1.0)
    assert room.lag_s == EMPTY_PAGE_VOUCHES_S + 1.0
    room.pass_(600.0)
    assert room.lag_s == EMPTY_PAGE_VOUCHES_S + 601.0


@pytest.mark.parametrize("ago", [{"duration_s": 20.0}, {"age_s": 20.0}], ids=["slow", "another's"])
def test_an_empty_page_vouches_from_when_it_was_asked_for(ago: dict[str, Any]) -> None:
    room = Room()
    room.page(0, **ago)
    assert room.lag_s == 20.0


def test_lag_grows_while_polls_fail() -> None:
    room = Room()
    room.page(0)
    for _ in range(30):
        room.pass_(1.0)
        room.read_failed()
    assert room.lag_s == 30.0
    assert room.facts.state == "read_failing"
    room.page(0)
    assert (room.lag_s, room.facts.state) == (0.0, "reading")


def test_a_shard_that_was_never_read_lags_since_it_was_opened() -> None:
    room = Room()
    room.pass_(5.0)
    assert room.lag_s == 5.0


def test_lag_grows_while_a_full_buffer_stops_reading() -> None:
    room = Room()
    room.page(1000, created_ago_s=2.0)
    room.pass_(120.0)
    assert room.lag_s == 122.0


def test_what_the_service_says_wins_over_creation_times() -> None:
    room = Room()
    room.page(10, created_ago_s=0.0, millis_behind=45_000)
    assert room.lag_s == 45.0
    room.page(0, millis_behind=20_000)
    assert room.lag_s == 20.0
    room.page(10, created_ago_s=3.0, millis_behind=0)
    assert room.lag_s == 0.0


def test_records_without_a_creation_time_do_not_look_caught_up() -> None:
    room = Room()
    room.pass_(40.0)
    room.page(3, created_ago_s=None)
    assert room.lag_s == 40.0


@pytest.mark.fault("F43")
def test_records_from_the_future_have_age_zero() -> None:
    room = Room()
    room.page(1, created_ago_s=-5.0)
    assert room.lag_s == 0.0


def test_a_shard_that_is_read_to_its_end_does_not_lag() -> None:
    room = Room()
    room.page(10, created_ago_s=500.0, ended=True)
    room.pass_(300.0)
    assert room.lag_s == 0.0


# --- states ----------------------------------------------------------------------------------------------------------


def test_a_shard_is_blocked_while_nobody_takes_what_it_gives_up() -> None:
    room = Room()
    room.page(2)
    states = []
    for happen in (room.destination_failed, partial(room.discarded, 1), room.parking_failed, partial(room.parked, 1)):
        happen()
        states.append(room.facts.state)
    assert states == ["blocked", "reading", "blocked", "reading"]


def test_parking_holds_no_shard_that_has_nothing_in_hand() -> None:
    """It was the look at what is parked that failed; when it succeeds nobody tells."""
    room = Room()
    room.parking_failed()
    room.page(0)
    assert room.facts.state == "reading"


def test_giving_a_batch_up_ends_its_failed_attempts() -> None:
    room = Room()
    room.page(20)
    room.failed(3)
    room.discarded(10)
    assert room.facts.failed_attempts == 0
    room.failed(2)
    room.parked(1)
    assert room.facts.failed_attempts == 0


# --- checkpoint age --------------------------------------------------------------------------------------------------


def test_checkpoint_age_is_zero_until_something_is_read() -> None:
    room = Room()
    room.pass_(3_600.0)
    room.page(0)
    assert room.checkpoint_age_s == 0.0


def test_checkpoint_age_counts_from_the_first_unstored_record_not_from_the_last_checkpoint_of_an_idle_shard() -> None:
    room = Room()
    room.page(1)
    room.settled(1)
    room.stored()
    room.pass_(36_000.0)
    room.page(1)
    room.pass_(2.0)
    assert room.checkpoint_age_s == 2.0


def test_checkpoint_age_grows_while_a_batch_is_stuck_though_pages_are_empty() -> None:
    room = Room()
    room.page(10)
    room.failed(1)
    for _ in range(400):
        room.pass_(1.0)
        room.page(0)
    assert (room.checkpoint_age_s, room.lag_s) == (400.0, 0.0)
    assert room.facts.state == "blocked"
    room.settled(10)
    room.stored()
    room.pass_(1.0)
    assert (room.checkpoint_age_s, room.facts.state) == (0.0, "reading")


def test_reading_on_does_not_make_the_checkpoint_younger() -> None:
    room = Room()
    for _ in range(5):
        room.page(10)
        room.pass_(1.0)
    assert room.checkpoint_age_s == 5.0


def test_a_stored_checkpoint_with_records_still_in_hand_restarts_the_age() -> None:
    room = Room()
    room.page(20)
    room.pass_(50.0)
    room.settled(10)
    room.stored()
    room.pass_(3.0)
    assert room.facts.records_in_hand == 10
    assert room.checkpoint_age_s == 3.0


def test_a_write_that_began_before_the_last_batch_settled_does_not_cover_it() -> None:
    room = Room()
    room.page(20)
    room.settled(10)
    room.settled(10)
    room.stored(upto=10)
    room.pass_(4.0)
    assert room.checkpoint_age_s == 4.0
    room.stored(upto=20)
    room.pass_(1.0)
    assert room.checkpoint_age_s == 0.0


def test_records_settled_behind_an_unsettled_one_are_not_stored() -> None:
    room = Room()
    room.page(20)
    room.settled(19)
    room.stored(upto=20)
    room.pass_(4.0)
    assert room.checkpoint_age_s == 4.0


@pytest.mark.fault("F43")
def test_a_step_of_the_wall_clock_does_not_keep_a_stored_shard_dirty() -> None:
    room = Room()
    room.page(1)
    room.settled(1)
    room.clock.epoch_s -= 3_600.0
    room.stored()
    room.pass_(1.0)
    assert room.checkpoint_age_s == 0.0


def test_an_idle_shard_whose_last_page_was_filtered_whole_is_clean_after_the_next_checkpoint() -> None:
    room = Room()
    room.page(50, filtered=50)
    room.pass_(0.5)
    assert room.facts.records_in_hand == 0
    assert room.checkpoint_age_s == 0.5
    room.stored()
    room.pass_(3_600.0)
    assert room.checkpoint_age_s == 0.0
    room.page(0)
    assert room.lag_s == 0.0


def test_given_up_parked_and_filtered_records_are_settled() -> None:
    room = Room()
    room.page(20, filtered=5)
    room.settled(8)
    room.discarded(4)
    room.parked(3)
    assert room.facts.records_in_hand == 0
    room.stored()
    room.pass_(60.0)
    assert room.checkpoint_age_s == 0.0


@pytest.mark.parametrize("missing", ["filtered", "settled", "discarded", "parked"])
def test_one_unsettled_record_of_any_kind_keeps_the_checkpoint_age(missing: str) -> None:
    room = Room()
    counts = {"filtered": 5, "settled": 8, "discarded": 4, "parked": 3}
    counts[missing] -= 1
    room.page(20, filtered=counts["filtered"])
    room.settled(counts["settled"])
    room.discarded(counts["discarded"])
    room.parked(counts["parked"])
    room.stored()
    room.pass_(60.0)
    assert (room.facts.records_in_hand, room.checkpoint_age_s) == (1, 60.0)


def test_a_page_of_records_that_nobody_can_read_is_clean_once_they_are_given_up() -> None:
    """They have no position that a checkpoint could store: none will follow."""
    room = Room()
    room.page(2)
    room.settled(2)
    room.stored()
    room.page(1, readable=False)
    room.pass_(5.0)
    assert room.checkpoint_age_s == 5.0
    room.discarded(1)
    room.pass_(5.0)
    assert room.checkpoint_age_s == 0.0


def test_the_start_counts_as_stored_but_covers_nothing_that_is_read_after_it() -> None:
    room = Room()
    room.shards(ShardOpened(pipeline="orders", shard_id="shard-1", start=Position.after("100"), epoch=1))
    room.read = 100
    room.page(1, filtered=1)
    room.pass_(2.0)
    assert room.checkpoint_age_s == 2.0


def test_the_end_of_a_shard_stores_everything() -> None:
    room = Room()
    room.page(5)
    room.stored(SHARD_END)
    room.pass_(9.0)
    assert room.checkpoint_age_s == 0.0


# --- which shards are open -------------------------------------------------------------------------------------------


def test_late_events_do_not_bring_a_closed_shard_back() -> None:
    room = Room()
    room.shards(ShardClosed(pipeline="orders", shard_id="shard-1", reason=ShardClosing.LOST))
    room.page(1)
    room.settled(1)
    room.failed(1)
    room.stored()
    room.read_failed()
    assert room.shards.snapshot() == ()


def test_the_end_of_a_pipeline_closes_its_shards_only() -> None:
    room = Room()
    room.open("shard-2")
    room.open("shard-1", pipeline="users")
    room.open("shard-1", pipeline="carts")
    room.shards(PipelineStopped(pipeline="orders", drained=True))
    assert [facts.pipeline for facts in room.shards.snapshot()] == ["users", "carts"]
    room.shards(PipelineFailed(pipeline="users", error=StoreError("disk full")))
    assert [facts.pipeline for facts in room.shards.snapshot()] == ["carts"]


def test_a_failed_checkpoint_changes_nothing() -> None:
    room = Room()
    before = room.facts
    room.shards(CheckpointFailed(pipeline="orders", shard_id="shard-1", error=StoreError("no"), retry_after_s=1.0))
    assert room.facts is before


def test_records_in_hand_are_counted_for_each_pipeline() -> None:
    room = Room()
    room.open("shard-1", pipeline="users")
    room.page(10, filtered=2)
    room.settled(3)
    assert (room.shards.records_in_hand("orders"), room.shards.records_in_hand("users")) == (5, 0)
    room.shards(ShardClosed(pipeline="orders", shard_id="shard-1", reason=ShardClosing.STOPPED, abandoned=5))
    assert room.shards.records_in_hand("orders") == 0


def test_a_snapshot_is_not_changed_by_later_events() -> None:
    room = Room()
    snapshot = room.shards.snapshot()
    room.page(10)
    room.open("shard-2")
    assert [(facts.shard_id, facts.records_read) for facts in snapshot] == [("shard-1", 0)]
