"""What a worker might report: one pipeline whose numbers are all different from 0 and add up."""

from __future__ import annotations

from streamflow.observe.progress import PipelineProgress, ProgressSnapshot, ShardProgress

SHARD = ShardProgress(
    shard_id="shard-0",
    state="reading",
    lag_s=1.0,
    checkpoint_age_s=0.0,
    records_in_flight=3,
    failed_attempts=0,
    buffered_bytes=10,
)
ORDERS = PipelineProgress(
    pipeline="orders",
    state="running",
    last_processing_result="OK",
    shards_open=2,
    shards_blocked=1,
    shards_opened=5,
    shards_closed=3,
    lag_s=1.0,
    records_in_flight=3,
    failed_attempts=4,
    polled_per_s=10.0,
    delivered_per_s=9.0,
    records_polled=100,
    bytes_polled=1_000,
    records_filtered=10,
    records_delivered=80,
    records_dropped=2,
    records_dead_lettered=1,
    records_lost=1,
    records_parked=2,
    records_abandoned=1,
    records_unaccounted=0,
    parked_keys=2,
    batches_delivered=8,
    attempts_failed=6,
    polls_failed=7,
    trimmed_gaps=1,
    shards=(SHARD,),
)


def snapshot(*pipelines: PipelineProgress, errors: tuple[str, ...] = ()) -> ProgressSnapshot:
    return ProgressSnapshot(at_s=1.0, uptime_s=2.0, pipelines=pipelines, errors=errors)
