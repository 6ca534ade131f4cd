"""Ages of shards: what lag and checkpoint age say in each state."""

from __future__ import annotations

from dataclasses import dataclass

from streamflow.errors import StoreError
from streamflow.events import (
    BatchDelivered,
    BatchFailed,
    CheckpointFailed,
    CheckpointStored,
    PageRead,
    PipelineFailed,
    PipelineStopped,
    ReadFailed,
    ShardClosed,
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
    """One open shard, and short ways to say what happens to it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.shards = OpenShards(self.clock)
        self.open()

    def open(self, shard_id: str = "shard-1", pipeline: str = "orders") -> None:
        self.shards(ShardOpened(pipeline=pipeline, shard_id=shard_id, start=TRIM_HORIZON, epoch=1))

    def pass_(self, seconds: float) -> None:
        self.clock.now += seconds

    def page(self, records: int, *, created_ago_s: float | None = 0.0, millis_behind: int | None = None) -> None:
        created = None if created_ago_s is None or not records else self.clock.wall() - created_ago_s
        self.shards(
            PageRead(
                pipeline="orders",
                shard_id="shard-1",
                records=records,
                bytes=records * 700,
                duration_s=0.01,
                last_created_at_s=created,
                millis_behind=millis_behind,
                buffered_bytes=records * 700,
            )
        )

    def read_failed(self) -> None:
        self.shards(
            ReadFailed(
                pipeline="orders", shard_id="shard-1", code="X", throttled=False, retry_after_s=1.0, message="broken"
            )
        )

    def settled(self, records: int) -> None:
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

    def stored(self, position: Position = TRIM_HORIZON, *, duration_s: float = 0.0) -> None:
        self.shards(CheckpointStored(pipeline="orders", shard_id="shard-1", checkpoint=position, duration_s=duration_s))

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


def test_an_empty_page_vouches_for_ten_seconds_and_then_lag_grows() -> None:
    room = Room()
    room.page(0)
    room.pass_(EMPTY_PAGE_VOUCHES_S)
    assert room.lag_s == 0.0
    room.pass_(1.0)
    assert room.lag_s == 11.0
    room.pass_(600.0)
    assert room.lag_s == 611.0


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


def test_records_from_the_future_have_age_zero() -> None:
    room = Room()
    room.page(1, created_ago_s=-5.0)
    assert room.lag_s == 0.0


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
    room.pass_(1.0)
    room.settled(10)
    room.pass_(1.0)
    room.stored(duration_s=1.5)
    room.pass_(4.0)
    assert room.checkpoint_age_s == 4.0
    room.stored(duration_s=0.1)
    room.pass_(1.0)
    assert room.checkpoint_age_s == 0.0


def test_settling_and_writing_at_one_instant_of_a_virtual_clock_is_covered() -> None:
    room = Room()
    room.clock.now = 0.4
    room.page(1)
    room.settled(1)
    started, room.clock.now = room.clock.now, 1.5  # 1.5 - (1.5 - 0.4) < 0.4
    room.stored(duration_s=room.clock.now - started)
    room.pass_(1.0)
    assert room.checkpoint_age_s == 0.0


def test_a_step_of_the_wall_clock_does_not_keep_a_stored_shard_dirty() -> None:
    room = Room()
    room.page(1)
    room.settled(1)
    room.clock.epoch_s -= 3_600.0
    room.stored(duration_s=0.01)
    room.pass_(1.0)
    room.stored(duration_s=0.5)
    room.pass_(1.0)
    assert room.checkpoint_age_s == 0.0


def test_the_end_of_a_shard_stores_everything() -> None:
    room = Room()
    room.page(5)
    room.stored(SHARD_END)
    room.pass_(9.0)
    assert room.checkpoint_age_s == 0.0


# --- which shards are open -------------------------------------------------------------------------------------------


def test_late_events_do_not_bring_a_closed_shard_back() -> None:
    room = Room()
    room.shards(ShardClosed(pipeline="orders", shard_id="shard-1", reason="lost"))
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


def test_a_snapshot_is_not_changed_by_later_events() -> None:
    room = Room()
    snapshot = room.shards.snapshot()
    room.page(10)
    room.open("shard-2")
    assert [(facts.shard_id, facts.records_read) for facts in snapshot] == [("shard-1", 0)]
