"""A batch accounts for each of its records through its ledger, however it is cut."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import orjson
import pytest

from streamflow.batches import Batch, Window, lambda_event_bytes, record_overhead_bytes
from streamflow.errors import MalformedRecordError
from streamflow.records import Record, Shard

SHARD = Shard(stream_arn='arn:aws:dynamodb:eu-west-1:123456789012:table/"orders"/stream/ü', shard_id="shardId-1")


def records(count: int) -> list[Record]:
    texts = [orjson.dumps({"dynamodb": {"SequenceNumber": str(number)}}) for number in range(1, count + 1)]
    return [Record(msgspec.Raw(text), SHARD) for text in texts]


def batch(count: int = 4) -> Batch:
    return Batch(pipeline="orders", shard=SHARD, records=records(count))


def numbers(found: list[Record]) -> list[str]:
    return [record.sequence_number for record in found]


def test_nothing_is_accounted_for_at_first() -> None:
    whole = batch()
    assert whole.ledger.unaccounted() == list(whole)


def test_delivering_the_whole_batch_accounts_for_all() -> None:
    whole = batch()
    whole.ledger.deliver(whole.records)
    assert whole.ledger.unaccounted() == []
    assert whole.ledger.dropped(whole.records) == {}


def test_delivering_a_part_leaves_the_rest_unaccounted() -> None:
    whole = batch()
    part = whole.select(whole.records[1:3])
    part.ledger.deliver(part.records)
    assert numbers(whole.ledger.unaccounted()) == ["1", "4"]


def test_records_left_out_aloud_are_accounted_for_by_reason() -> None:
    whole = batch(5)
    kept = whole.without(lambda record: record.sequence_number == "1", reason="first")
    kept = kept.without(lambda record: int(record.sequence_number) > 3, reason="late")
    assert numbers(list(kept)) == ["2", "3"]
    assert whole.ledger.dropped(whole.records) == {"first": 1, "late": 2}
    assert numbers(whole.ledger.unaccounted()) == ["2", "3"]
    kept.ledger.deliver(kept.records)
    assert whole.ledger.unaccounted() == []


def test_the_first_reason_counts_and_delivery_counts_more() -> None:
    whole = batch(2)
    whole.ledger.drop(whole.records, "one")
    whole.ledger.drop(whole.records, "two")
    assert whole.ledger.dropped(whole.records) == {"one": 2}
    whole.ledger.deliver(whole.records[:1])
    assert whole.ledger.dropped(whole.records) == {"one": 1}
    assert whole.ledger.dropped(whole.records[:1]) == {}


def test_equal_records_are_accounted_for_one_by_one() -> None:
    first, second = records(1)[0], records(1)[0]
    whole = Batch(pipeline="orders", shard=SHARD, records=[first, second])
    whole.ledger.deliver([first])
    assert whole.ledger.unaccounted() == [second]


def test_a_predicate_that_is_never_true_leaves_the_batch_itself() -> None:
    whole = batch()
    assert whole.without(lambda record: False, reason="none") is whole


def test_a_batch_cut_smaller_keeps_everything_else() -> None:
    whole = Batch(pipeline="orders", shard=SHARD, records=records(3), epoch=7, attempt=2, request_id="r")
    part = whole.select(whole.records[:1])
    assert (part.pipeline, part.shard, part.epoch, part.attempt, part.request_id) == ("orders", SHARD, 7, 2, "r")
    assert part.ledger is whole.ledger
    assert (len(part), len(whole)) == (1, 3)


def test_the_next_attempt_has_the_same_request_and_a_new_ledger() -> None:
    whole = batch()
    whole.ledger.deliver(whole.records)
    again = whole.again()
    assert (again.attempt, again.request_id) == (2, whole.request_id)
    assert again.ledger.unaccounted() == list(whole)
    assert again.without(lambda record: True, reason="all").again().ledger.unaccounted() == []


def test_two_batches_have_two_request_ids() -> None:
    assert batch().request_id != batch().request_id


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_the_length_of_the_event_is_known_without_making_it(count: int) -> None:
    whole = batch(count)
    assert whole.lambda_event_bytes == len(whole.lambda_event_json())
    assert lambda_event_bytes(whole.records) == whole.lambda_event_bytes


def test_a_record_adds_its_json_and_its_source_to_the_event() -> None:
    one, two = batch(1), batch(2)
    added = two.lambda_event_bytes - one.lambda_event_bytes
    assert added == len(two.records[1].raw) + record_overhead_bytes(SHARD)


@pytest.mark.parametrize("deleted", [None, 0, 1, 2])
def test_the_event_has_each_record_in_order_as_it_is_by_itself(deleted: int | None) -> None:
    among = records(3)
    if deleted is not None:  # by time to live, which Lambda words in its own way
        change = {"dynamodb": {"SequenceNumber": "7"}, "userIdentity": {"Type": "Service", "PrincipalId": "dynamodb"}}
        among[deleted] = Record(msgspec.Raw(orjson.dumps(change)), SHARD)
    event = Batch(pipeline="orders", shard=SHARD, records=among).lambda_event_json()
    assert event == b'{"Records":[' + b",".join(record.lambda_event_json() for record in among) + b"]}"


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("json", [b"{}", b"[1]", b"17", b'"text"', b'{"userIdentity":', b"[{}", b"{1]", b"1}"])
def test_a_malformed_record_makes_no_event(json: bytes, place: int) -> None:
    among = records(2)
    among.insert(place, Record(msgspec.Raw(json), SHARD))
    broken = Batch(pipeline="orders", shard=SHARD, records=among)
    with pytest.raises(MalformedRecordError, match="shardId-1"):
        broken.lambda_event()
    with pytest.raises(MalformedRecordError, match="shardId-1"):
        broken.lambda_event_json()


def test_its_representation_names_no_data() -> None:
    assert repr(batch(2)) == "<Batch orders/shardId-1: 2 records, attempt 1>"


# --- tumbling windows ------------------------------------------------------------------------------------------------

WINDOW_MEMBERS = ["Records", "window", "state", "shardId", "eventSourceARN", "isFinalInvokeForWindow"]
WINDOW_MEMBERS += ["isWindowTerminatedEarly"]


def windowed(count: int, *, start_s: int = 1_789_654_270, size_s: int = 10, **options: bool) -> Batch:
    window = Window(start_s=start_s, end_s=start_s + size_s, state={"sum": 3, "Straße": [1.5, None]}, **options)
    return Batch(pipeline="orders", shard=SHARD, records=records(count), window=window)


def test_the_event_of_a_window_has_the_members_that_lambda_documents() -> None:
    whole = windowed(2)
    event = orjson.loads(whole.lambda_event_json())
    assert list(event) == WINDOW_MEMBERS
    assert event["Records"] == orjson.loads(batch(2).lambda_event_json())["Records"]
    assert {name: value for name, value in event.items() if name != "Records"} == {
        "window": {"start": "2026-09-17T14:11:10Z", "end": "2026-09-17T14:11:20Z"},
        "state": {"sum": 3, "Straße": [1.5, None]},
        "shardId": "shardId-1",
        "eventSourceARN": SHARD.stream_arn,
        "isFinalInvokeForWindow": False,
        "isWindowTerminatedEarly": False,
    }
    assert whole.lambda_event() == event
    assert list(whole.lambda_event()) == WINDOW_MEMBERS


@pytest.mark.parametrize("early", [False, True])
def test_the_event_of_a_final_invocation_has_no_records(*, early: bool) -> None:
    event = orjson.loads(windowed(0, is_final=True, is_terminated_early=early).lambda_event_json())
    assert list(event) == WINDOW_MEMBERS
    assert event["Records"] == []
    assert event["isFinalInvokeForWindow"] is True
    assert event["isWindowTerminatedEarly"] is early


@pytest.mark.parametrize(
    ("start_s", "size_s", "start", "end"),
    [
        (0, 900, "1970-01-01T00:00:00Z", "1970-01-01T00:15:00Z"),
        (1_767_225_599, 1, "2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z"),
    ],
)
def test_the_bounds_of_a_window_are_whole_seconds_in_utc(start_s: int, size_s: int, start: str, end: str) -> None:
    assert windowed(1, start_s=start_s, size_s=size_s).lambda_event()["window"] == {"start": start, "end": end}


def test_an_event_without_a_window_has_records_only() -> None:
    assert list(batch(1).lambda_event()) == list(orjson.loads(batch(1).lambda_event_json())) == ["Records"]


def test_the_fence_says_who_wrote_what() -> None:
    whole = Batch(pipeline="orders", shard=SHARD, records=records(3), epoch=7)
    fence = whole.fence
    assert (fence.pipeline, fence.shard_id, fence.epoch) == ("orders", "shardId-1", 7)
    assert fence.first == whole.records[0].position
    assert fence.last == whole.records[-1].position
    assert whole.select([]).fence == replace(fence, first=None, last=None)
