"""When a worker is alive, and when it is ready."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from streamflow.errors import DestinationError, StoreError, TrimmedError
from streamflow.events import (
    CheckpointFailed,
    CheckpointStored,
    DestinationFailed,
    PageRead,
    ParkingFailed,
    PipelineFailed,
    PipelineStarted,
    PipelineStopped,
    ReadFailed,
    RecordsDiscarded,
    RecordsParked,
    ShardClosed,
    ShardClosing,
    ShardsDiscovered,
    StreamEnded,
)
from streamflow.observe.health import Health
from streamflow.positions import TRIM_HORIZON


@dataclass
class FakeClock:
    now: float = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_764_000_000.0 + self.now


class Ward:
    def __init__(self, *pipelines: str, started: bool = True) -> None:
        self.clock = FakeClock()
        self.health = Health(self.clock, pipelines=pipelines)
        for pipeline in pipelines if started else ():
            self.started(pipeline)

    def started(self, pipeline: str) -> None:
        self.health(PipelineStarted(pipeline=pipeline, stream_arn="arn:x", shards=1))

    def read_failed(self, shard_id: str = "shard-1") -> None:
        self.health(
            ReadFailed(
                pipeline="orders", shard_id=shard_id, code="Timeout", throttled=False, retry_after_s=1.0, message=""
            )
        )

    def page(self, shard_id: str = "shard-1") -> None:
        self.health(
            PageRead(pipeline="orders", shard_id=shard_id, records=0, bytes=0, duration_s=0.01, last_created_at_s=None)
        )

    def store_failed(self, retry_after_s: float = 3.0) -> None:
        error = StoreError("disk full")
        self.health(CheckpointFailed(pipeline="orders", shard_id="shard-1", error=error, retry_after_s=retry_after_s))

    def stored(self) -> None:
        self.health(CheckpointStored(pipeline="orders", shard_id="shard-1", checkpoint=TRIM_HORIZON, duration_s=0.01))

    def destination_failed(self, error: Exception | None = None, *, shard_id: str = "shard-1") -> None:
        self.health(
            DestinationFailed(
                pipeline="orders",
                shard_id=shard_id,
                destination="arn:aws:sqs:eu-west-1:1:failed",
                records=3,
                attempt=1,
                error=error or DestinationError("not allowed", code="AccessDenied"),
                retry_after_s=1.0,
            )
        )

    def discarded(self, shard_id: str = "shard-1") -> None:
        self.health(
            RecordsDiscarded(
                pipeline="orders",
                shard_id=shard_id,
                records=3,
                condition="RecordAgeExceeded",
                invoke_count=1,
                destinations=("arn:aws:sqs:eu-west-1:1:failed",),
                first=None,
                last=None,
            )
        )

    def parking_failed(self) -> None:
        error = StoreError("disk full")
        self.health(ParkingFailed(pipeline="orders", shard_id="shard-1", error=error, retry_after_s=3.0))

    def parked(self) -> None:
        self.health(RecordsParked(pipeline="orders", shard_id="shard-1", records=1, opened=1, parked_keys=1))

    @property
    def reasons(self) -> list[str]:
        verdict = self.health.ready()
        assert verdict.ok == (not verdict.reasons)
        return list(verdict.reasons)


def test_a_worker_that_has_heard_of_no_pipeline_is_alive_and_not_ready() -> None:
    ward = Ward()
    assert ward.health.live().ok
    assert ward.reasons == ["no pipeline has started yet"]


def test_ready_when_every_declared_pipeline_has_started() -> None:
    ward = Ward("orders", "users", started=False)
    ward.started("orders")
    assert ward.reasons == ["users: starting"]
    ward.started("users")
    assert ward.reasons == []


def test_a_pipeline_that_is_heard_of_must_start_too() -> None:
    ward = Ward("orders")
    ward.health(ShardsDiscovered(pipeline="users", listed=1, created=(), forgotten=(), duration_s=0.1))
    assert ward.reasons == ["users: starting"]


def test_a_failed_pipeline_is_neither_alive_nor_ready_even_after_it_stopped() -> None:
    ward = Ward("orders", "users")
    ward.health(PipelineFailed(pipeline="orders", error=TrimmedError("lost")))
    ward.health(PipelineStopped(pipeline="orders", drained=False))
    assert ward.health.live().reasons == ("orders: failed, see the log",)
    assert ward.reasons == ["orders: failed"]


def test_a_stopped_pipeline_is_alive_and_not_ready() -> None:
    ward = Ward("orders")
    ward.health(PipelineStopped(pipeline="orders", drained=True))
    assert ward.health.live().ok
    assert ward.reasons == ["orders: stopped"]


def test_a_stream_that_ended_leaves_the_worker_ready() -> None:
    ward = Ward("orders", "users")
    ward.health(StreamEnded(pipeline="orders", stream_arn="arn:x"))
    ward.health(PipelineStopped(pipeline="orders", drained=True))
    assert ward.reasons == []


@pytest.mark.fault("F34")
def test_polls_may_fail_for_a_minute() -> None:
    ward = Ward("orders")
    ward.read_failed()
    ward.clock.now += 60.0
    ward.read_failed()
    assert ward.reasons == []
    ward.clock.now += 1.0
    assert ward.reasons == ["orders: polls fail for 1 shards, longest for shard-1: 61 s, Timeout"]
    assert ward.health.live().ok


def test_a_page_ends_the_failures_of_its_shard_only() -> None:
    ward = Ward("orders")
    ward.read_failed("shard-1")
    ward.clock.now += 5.0
    ward.read_failed("shard-2")
    ward.clock.now += 70.0
    assert ward.reasons == ["orders: polls fail for 2 shards, longest for shard-1: 75 s, Timeout"]
    ward.page("shard-1")
    assert ward.reasons == ["orders: polls fail for 1 shards, longest for shard-2: 70 s, Timeout"]
    ward.page("shard-2")
    assert ward.reasons == []


def test_a_poll_that_hangs_after_a_failure_still_counts() -> None:
    ward = Ward("orders")
    ward.read_failed()
    ward.clock.now += 3_600.0
    assert len(ward.reasons) == 1


def test_a_shard_that_is_closed_fails_no_more() -> None:
    ward = Ward("orders")
    ward.read_failed()
    ward.store_failed()
    ward.clock.now += 61.0
    ward.store_failed()
    assert len(ward.reasons) == 2
    ward.health(ShardClosed(pipeline="orders", shard_id="shard-1", reason=ShardClosing.LOST))
    assert ward.reasons == []


def test_store_writes_that_fail_for_over_a_minute_make_it_unready() -> None:
    ward = Ward("orders")
    for _ in range(21):
        ward.store_failed()
        ward.clock.now += 3.0
    assert ward.reasons == []
    ward.store_failed()
    assert ward.reasons == ["orders: the lease store fails for 1 shards, longest for shard-1: 63 s, StoreError"]
    ward.stored()
    assert ward.reasons == []


def test_one_failed_renewal_of_an_idle_shard_is_not_an_outage() -> None:
    """Renewals that succeed report nothing, so silence after a failure means that the store works."""
    ward = Ward("orders")
    ward.store_failed()
    ward.clock.now += 7_200.0
    assert ward.reasons == []
    ward.store_failed()
    ward.clock.now += 1.0
    assert ward.reasons == []


def test_an_outage_of_the_store_ends_when_the_next_failure_is_overdue() -> None:
    ward = Ward("orders")
    ward.store_failed()
    ward.clock.now += 61.0
    ward.store_failed(retry_after_s=3.0)
    ward.clock.now += 62.0
    assert len(ward.reasons) == 1
    ward.clock.now += 2.0
    assert ward.reasons == []


def test_a_thousand_failing_shards_make_one_sentence() -> None:
    ward = Ward("orders")
    for number in range(1_000):
        ward.read_failed(f"shard-{number}")
    ward.clock.now += 61.0
    (reason,) = ward.reasons
    assert reason.startswith("orders: polls fail for 1000 shards")


@pytest.mark.fault("F26")
def test_a_destination_may_fail_for_a_minute() -> None:
    ward = Ward("orders")
    ward.destination_failed()
    ward.clock.now += 60.0
    ward.destination_failed()
    assert ward.reasons == []
    ward.clock.now += 1.0
    assert ward.reasons == [
        (
            "orders: an on-failure destination fails for 1 shards, longest for shard-1: 61 s, "
            "arn:aws:sqs:eu-west-1:1:failed: AccessDenied"
        )
    ]
    assert ward.health.live().ok


def test_a_destination_that_takes_the_batch_fails_no_more() -> None:
    ward = Ward("orders")
    ward.destination_failed()
    ward.destination_failed(StoreError("full"), shard_id="shard-2")
    ward.clock.now += 61.0
    ward.discarded("shard-1")
    (reason,) = ward.reasons
    assert reason.endswith("longest for shard-2: 61 s, arn:aws:sqs:eu-west-1:1:failed: StoreError")
    ward.page("shard-2")
    ward.stored()
    assert ward.reasons == [reason]
    ward.discarded("shard-2")
    assert ward.reasons == []


def test_the_message_of_a_destination_is_no_reason() -> None:
    ward = Ward("orders")
    ward.destination_failed(ValueError("price of {'card': '4111'}"))
    ward.clock.now += 61.0
    (reason,) = ward.reasons
    assert reason.endswith(": ValueError")


def test_parking_that_fails_for_over_a_minute_makes_it_unready_until_it_succeeds() -> None:
    ward = Ward("orders")
    for _ in range(22):
        ward.parking_failed()
        ward.clock.now += 3.0
    assert ward.reasons == ["orders: parking fails for 1 shards, longest for shard-1: 63 s, StoreError"]
    ward.parked()
    assert ward.reasons == []


def test_parking_that_is_not_tried_again_is_over() -> None:
    """The item was released meanwhile, and its records went to the handler."""
    ward = Ward("orders")
    ward.parking_failed()
    ward.clock.now += 62.0
    ward.parking_failed()
    assert len(ward.reasons) == 1
    ward.clock.now += 64.0
    assert ward.reasons == []


def test_a_closed_shard_and_a_stopped_pipeline_wait_for_no_destination() -> None:
    ward = Ward("orders")
    ward.destination_failed()
    ward.clock.now += 61.0
    ward.health(ShardClosed(pipeline="orders", shard_id="shard-1", reason=ShardClosing.LOST))
    assert ward.reasons == []
    ward.destination_failed()
    ward.clock.now += 61.0
    ward.health(PipelineStopped(pipeline="orders", drained=False))
    assert ward.reasons == ["orders: stopped"]
