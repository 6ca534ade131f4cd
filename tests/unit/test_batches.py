"""A batch accounts for each of its records through its ledger, however it is cut."""

from __future__ import annotations

import msgspec
import orjson
import pytest

from streamflow.batches import Batch, lambda_event_bytes, record_overhead_bytes
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


@pytest.mark.parametrize("json", [b"{}", b"[1]", b"17", b'"text"', b'{"userIdentity":'])
def test_a_malformed_record_makes_no_event(json: bytes) -> None:
    broken = Batch(pipeline="orders", shard=SHARD, records=[*records(1), Record(msgspec.Raw(json), SHARD)])
    with pytest.raises(MalformedRecordError, match="shardId-1"):
        broken.lambda_event()
    with pytest.raises(MalformedRecordError, match="shardId-1"):
        broken.lambda_event_json()


def test_its_representation_names_no_data() -> None:
    assert repr(batch(2)) == "<Batch orders/shardId-1: 2 records, attempt 1>"
