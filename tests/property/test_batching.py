"""Batches are cut by count, by bytes of the encoded event, or by age, and hold every record once, in order."""

from __future__ import annotations

from sys import getrefcount
from typing import TYPE_CHECKING

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamflow.batches import Batch, lambda_event_bytes, record_overhead_bytes
from streamflow.records import Record, Shard
from streamflow.rules.batching import Batcher, BatchLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/l", shard_id="shardId-1")


def record(number: int, padding: int = 0) -> Record:
    text = f'{{"dynamodb":{{"SequenceNumber":"{number:021d}","Keys":{{"id":{{"S":"{"x" * padding}"}}}}}}}}'
    return Record(msgspec.Raw(text.encode()), SHARD)


def limits(records_max: int = 10, bytes_max: int = 6_291_456, window_s: float = 0.0) -> BatchLimits:
    return BatchLimits(
        records_max=records_max, bytes_max=bytes_max, window_s=window_s, overhead_bytes=record_overhead_bytes(SHARD)
    )


def weight(records: Sequence[Record]) -> int:
    return sum(len(each.json) for each in records)


pages = st.lists(st.lists(st.integers(0, 400), max_size=12), max_size=12)


@given(pages, st.integers(1, 9), st.integers(300, 3_000), st.sampled_from([0.0, 5.0]), st.sampled_from([0, 200, 5_000]))
def test_every_record_comes_once_in_order_within_the_limits(
    sizes: list[list[int]], records_max: int, bytes_max: int, window_s: float, beside: int
) -> None:
    batcher = Batcher(limits(records_max, bytes_max, window_s))
    expected: list[Record] = []
    taken: list[Sequence[Record]] = []
    for page in sizes:
        records = [record(len(expected) + place, size) for place, size in enumerate(page)]
        expected.extend(records)
        batcher.add(records, 0.0, weight=weight(records) + beside)
        while (batch := batcher.take(0.0)) is not None:
            taken.append(batch)
    while (batch := batcher.take(100.0, ended=True)) is not None:
        taken.append(batch)
    assert [r for batch in taken for r in batch] == expected
    assert len(batcher) == 0
    for batch in taken:
        assert 1 <= len(batch) <= records_max
        assert lambda_event_bytes(batch) <= bytes_max or len(batch) == 1


@given(st.lists(st.integers(0, 300), min_size=1, max_size=8))
def test_measured_event_bytes_are_those_of_the_encoded_event(sizes: list[int]) -> None:
    batch = Batch(pipeline="p", shard=SHARD, records=[record(i, size) for i, size in enumerate(sizes)])
    assert batch.lambda_event_bytes == len(batch.lambda_event_json())


def test_without_window_what_a_poll_returned_goes_at_once() -> None:
    batcher = Batcher(limits())
    batcher.add([record(1)], 0.0, weight=500)
    assert len(batcher.take(0.0) or ()) == 1


def test_a_record_that_was_taken_is_not_kept() -> None:
    batcher = Batcher(limits(records_max=1))
    records = [record(1), record(2)]
    batcher.add(records, 0.0, weight=500)
    kept = [getrefcount(each) for each in records]
    assert len(batcher.take(0.0) or ()) == 1
    assert [getrefcount(each) for each in records] == [kept[0] - 1, kept[1]]


def test_vector_13_two_full_batches_at_once_and_the_fifth_after_the_window() -> None:
    batcher = Batcher(limits(records_max=2, window_s=5.0))
    batcher.add([record(number) for number in range(5)], 0.0, weight=2_500)
    assert len(batcher.take(0.0) or ()) == 2
    batcher.restart_window(0.02)
    assert len(batcher.take(0.02) or ()) == 2
    batcher.restart_window(0.04)
    assert batcher.take(0.04) is None
    assert batcher.due_at == 5.04
    assert batcher.take(5.03) is None
    assert len(batcher.take(5.04) or ()) == 1


def test_bytes_close_a_batch_before_its_window() -> None:
    batcher = Batcher(limits(records_max=100, bytes_max=1_000, window_s=60.0))
    records = [record(number, 300) for number in range(4)]
    batcher.add(records, 0.0, weight=weight(records))
    assert len(batcher.take(0.0) or ()) == 2


def test_a_page_that_is_larger_than_its_records_closes_no_batch() -> None:
    batcher = Batcher(limits(records_max=100, bytes_max=1_000, window_s=60.0))
    batcher.add([record(1)], 0.0, weight=5_000)
    assert batcher.take(0.0) is None
    assert len(batcher.take(60.0) or ()) == 1


def test_one_record_beyond_the_limit_goes_alone() -> None:
    batcher = Batcher(limits(bytes_max=1_000))
    batcher.add([record(1, 5_000), record(2)], 0.0, weight=10_000)
    assert [r.sequence_number[-1] for r in batcher.take(0.0) or ()] == ["1"]
    assert [r.sequence_number[-1] for r in batcher.take(0.0) or ()] == ["2"]
