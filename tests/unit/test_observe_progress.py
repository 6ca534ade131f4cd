"""What somebody who watches sees: rates, lag, totals, the last errors."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass

import pytest
from rich.console import Console

from streamflow.errors import StoreError
from streamflow.events import (
    BatchDelivered,
    BatchFailed,
    CheckpointFailed,
    Event,
    PageRead,
    PipelineFailed,
    PipelineStarted,
    PipelineStopped,
    ReadFailed,
    RecordsDiscarded,
    RecordsParked,
    RecordsTrimmed,
    ShardClosed,
    ShardClosing,
    ShardOpened,
    StreamEnded,
)
from streamflow.observe.progress import PipelineProgress, Progress, as_json, duration, line, render
from streamflow.positions import TRIM_HORIZON


@dataclass
class FakeClock:
    now: float = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_764_000_000.0 + self.now


class Watch:
    def __init__(self, shards: int = 1) -> None:
        self.clock = FakeClock()
        self.progress = Progress(self.clock)
        self.tell(PipelineStarted(pipeline="orders", stream_arn="arn:x", shards=shards))
        for number in range(shards):
            self.tell(ShardOpened(pipeline="orders", shard_id=f"shard-{number}", start=TRIM_HORIZON, epoch=1))

    def tell(self, event: Event) -> None:
        self.progress(event)

    def page(self, records: int, *, shard: int = 0, age_s: float = 0.0, filtered: int = 0) -> None:
        self.tell(
            PageRead(
                pipeline="orders",
                shard_id=f"shard-{shard}",
                records=records,
                bytes=records * 100,
                duration_s=0.01,
                last_created_at_s=self.clock.wall() - age_s if records else None,
                filtered=filtered,
            )
        )

    def delivered(self, records: int, *, dropped: int = 0) -> None:
        now_s = self.clock.wall()
        self.tell(
            BatchDelivered(
                pipeline="orders",
                shard_id="shard-0",
                records=records,
                bytes=1,
                delivered=records - dropped,
                dropped={"test": dropped} if dropped else {},
                attempts=1,
                handler_s=0.1,
                first_created_at_s=now_s,
                last_created_at_s=now_s,
                now_s=now_s,
            )
        )

    def failed(self, attempt: int) -> None:
        self.tell(
            BatchFailed(
                pipeline="orders",
                shard_id="shard-0",
                records=10,
                attempt=attempt,
                handler_s=0.1,
                error=ValueError("secret"),
                retry_after_s=1.0,
            )
        )

    def discarded(self, records: int, *destinations: str) -> None:
        self.tell(
            RecordsDiscarded(
                pipeline="orders",
                shard_id="shard-0",
                records=records,
                condition="RetryAttemptsExhausted",
                invoke_count=1,
                destinations=destinations,
                first=None,
                last=None,
            )
        )

    @property
    def orders(self) -> PipelineProgress:
        (orders,) = self.progress.snapshot().pipelines
        return orders


def test_totals_add_up() -> None:
    watch = Watch()
    watch.page(30)
    watch.delivered(10, dropped=3)
    watch.delivered(10)
    watch.failed(1)
    watch.tell(RecordsTrimmed(pipeline="orders", shard_id="shard-0", lost_from=TRIM_HORIZON, cause="late"))
    orders = watch.orders
    assert (orders.records_polled, orders.bytes_polled) == (30, 3_000)
    assert (orders.records_delivered, orders.records_dropped, orders.batches_delivered) == (17, 3, 2)
    assert (orders.records_in_flight, orders.attempts_failed, orders.trimmed_gaps) == (10, 1, 1)
    assert (orders.shards_open, orders.shards_blocked, orders.failed_attempts) == (1, 1, 1)


def test_every_polled_record_is_in_one_of_the_totals() -> None:
    watch = Watch()
    assert watch.orders.parked_keys is None
    watch.page(40, filtered=7)
    watch.delivered(10, dropped=1)
    watch.discarded(6, "dead_letters")
    watch.discarded(5)
    watch.tell(RecordsParked(pipeline="orders", shard_id="shard-0", records=4, opened=1, parked_keys=2))
    orders = watch.orders
    assert (orders.records_filtered, orders.records_dead_lettered, orders.records_lost) == (7, 6, 5)
    assert (orders.records_parked, orders.parked_keys) == (4, 2)
    assert (orders.records_in_flight, orders.records_abandoned, orders.records_unaccounted) == (8, 0, 0)
    watch.tell(ShardClosed(pipeline="orders", shard_id="shard-0", reason=ShardClosing.STOPPED, abandoned=8))
    orders = watch.orders
    assert (orders.records_in_flight, orders.records_abandoned, orders.records_unaccounted) == (0, 8, 0)


def test_a_delivered_part_is_no_delivered_batch() -> None:
    watch = Watch()
    now_s = watch.clock.wall()
    part = BatchDelivered(
        pipeline="orders",
        shard_id="shard-0",
        records=4,
        bytes=1,
        delivered=4,
        dropped={},
        attempts=1,
        handler_s=0.1,
        first_created_at_s=now_s,
        last_created_at_s=now_s,
        now_s=now_s,
        partial=True,
    )
    watch.tell(part)
    assert (watch.orders.batches_delivered, watch.orders.records_delivered) == (0, 4)


def test_the_last_processing_result_is_told_in_the_words_of_an_event_source_mapping() -> None:
    watch = Watch()
    assert watch.orders.last_processing_result == "No records processed"
    watch.page(10)
    assert watch.orders.last_processing_result == "No records processed"
    watch.delivered(10)
    assert watch.orders.last_processing_result == "OK"
    watch.failed(1)
    assert watch.orders.last_processing_result == "PROBLEM: Function call failed"
    watch.discarded(10, "dead_letters")
    assert watch.orders.last_processing_result == "PROBLEM: Function call failed"


def test_rates_are_means_over_five_seconds() -> None:
    watch = Watch()
    for _ in range(80):
        watch.clock.now += 0.125
        watch.page(100)
        watch.delivered(50)
    assert watch.orders.polled_per_s == pytest.approx(800, rel=0.05)
    assert watch.orders.delivered_per_s == pytest.approx(400, rel=0.05)


def test_rates_fall_to_zero_when_nothing_comes() -> None:
    watch = Watch()
    watch.clock.now += 1.0
    watch.page(100)
    assert watch.orders.polled_per_s == pytest.approx(100)
    watch.clock.now += 4.0
    assert watch.orders.polled_per_s == pytest.approx(20, rel=0.1)
    watch.clock.now += 1.5
    assert watch.orders.polled_per_s == 0


def test_rates_need_no_more_memory_the_longer_they_run() -> None:
    watch = Watch()
    for _ in range(5_000):
        watch.clock.now += 0.01
        watch.page(1)
    assert len(watch.progress._tallies["orders"].polled.slots) <= 21


def test_lag_is_that_of_the_laggiest_shard_and_only_twenty_shards_are_shown() -> None:
    watch = Watch(shards=30)
    for shard in range(30):
        watch.page(1, shard=shard, age_s=float(shard))
    assert watch.orders.lag_s == 29.0
    assert [shard.lag_s for shard in watch.orders.shards] == [float(age) for age in range(29, 9, -1)]


def test_without_a_shard_there_is_no_lag() -> None:
    watch = Watch()
    watch.tell(ShardClosed(pipeline="orders", shard_id="shard-0", reason=ShardClosing.ENDED))
    assert (watch.orders.lag_s, watch.orders.shards_closed) == (None, 1)


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ([], "running"),
        ([PipelineStopped(pipeline="orders", drained=True)], "stopped"),
        ([StreamEnded(pipeline="orders", stream_arn="a"), PipelineStopped(pipeline="orders", drained=True)], "ended"),
        (
            [
                PipelineFailed(pipeline="orders", error=StoreError("no")),
                PipelineStopped(pipeline="orders", drained=False),
            ],
            "failed",
        ),
    ],
)
def test_the_state_of_a_pipeline_is_how_it_ended(told: list[Event], state: str) -> None:
    watch = Watch()
    for event in told:
        watch.tell(event)
    assert watch.orders.state == state


def test_a_storm_of_throttles_does_not_push_other_errors_out() -> None:
    watch = Watch()
    watch.failed(1)
    for _ in range(100):
        watch.tell(
            ReadFailed(
                pipeline="orders", shard_id="shard-0", code="T", throttled=True, retry_after_s=1.0, message="slow"
            )
        )
    watch.tell(CheckpointFailed(pipeline="orders", shard_id="s", error=StoreError("full"), retry_after_s=1.0))
    errors = watch.progress.snapshot().errors
    assert [text.split(" pipeline=")[0] for text in errors] == ["batch failed", "poll throttled", "checkpoint failed"]
    assert "secret" not in errors[0]


def test_trouble_that_comes_again_is_the_newest() -> None:
    watch = Watch()
    watch.failed(1)
    watch.tell(CheckpointFailed(pipeline="orders", shard_id="s", error=StoreError("full"), retry_after_s=1.0))
    watch.failed(2)
    errors = watch.progress.snapshot().errors
    assert [text.split(" pipeline=")[0] for text in errors] == ["checkpoint failed", "batch failed"]
    assert "attempt=2" in errors[1]


def test_only_five_kinds_of_trouble_are_kept() -> None:
    watch = Watch()
    for number in range(9):
        watch.tell(PipelineFailed(pipeline=f"p{number}", error=StoreError("no")))
    assert len(watch.progress.snapshot().errors) == 5


def test_the_line_says_what_matters_and_trouble_only_where_there_is_some() -> None:
    watch = Watch()
    watch.page(30, age_s=0.25)
    watch.delivered(20)
    watch.clock.now += 1.0
    assert line(watch.progress.snapshot()) == ("orders running shards=1 lag=1.2s rate=20/s delivered=20 in_flight=10")
    watch.failed(3)
    assert line(watch.progress.snapshot()).endswith("in_flight=10 blocked=1 attempt=3")
    watch.page(5, filtered=5)
    watch.discarded(4, "dead_letters")
    watch.discarded(3)
    watch.tell(RecordsParked(pipeline="orders", shard_id="shard-0", records=2, opened=1, parked_keys=1))
    assert line(watch.progress.snapshot()).endswith("in_flight=1 filtered=5 dead_lettered=4 lost=3 parked=2")


def test_pipelines_share_the_line() -> None:
    watch = Watch()
    watch.tell(PipelineStarted(pipeline="users", stream_arn="arn:y", shards=0))
    first, second = line(watch.progress.snapshot()).split(" | ")
    assert first.startswith("orders running")
    assert second.startswith("users running shards=0 lag=-")


def test_before_the_first_event_there_is_a_line_too() -> None:
    assert line(Progress(FakeClock()).snapshot()) == "starting"


def test_the_json_is_plain_data() -> None:
    watch = Watch()
    watch.page(5)
    document = json.loads(json.dumps(as_json(watch.progress.snapshot())))
    assert document["pipelines"][0]["records_polled"] == 5
    assert document["pipelines"][0]["shards"][0]["shard_id"] == "shard-0"
    assert document["errors"] == []


def test_the_table_shows_names_numbers_and_errors_as_they_are() -> None:
    watch = Watch()
    watch.page(1_500)
    watch.delivered(1_500)
    watch.tell(CheckpointFailed(pipeline="orders", shard_id="s", error=StoreError("[red]full"), retry_after_s=1.0))
    out = io.StringIO()
    Console(file=out, width=140).print(render(watch.progress.snapshot()))
    assert "delivered/s" in out.getvalue()
    assert "1,500" in out.getvalue()
    assert "[red]full" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0, "0.0s"), (9.94, "9.9s"), (42.4, "42s"), (1_020.0, "17m"), (18_720.0, "5.2h")],
)
def test_durations_read_as_people_say_them(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
