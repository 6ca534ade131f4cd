"""The reader of one shard, against a wire whose other end is a function."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio
import orjson
import pytest

from scripted_aws import ScriptedWire
from streamflow.errors import IteratorExpiredError, SourceError, TrimmedError
from streamflow.positions import LATEST, SHARD_END, TRIM_HORIZON, Position
from streamflow.records import Shard
from streamflow.sources.dynamodb_calls import StreamCalls
from streamflow.sources.dynamodb_reader import DynamoDBShardReader

pytestmark = pytest.mark.anyio

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
SHARD = Shard(stream_arn=ARN, shard_id="shardId-00000001")


def record(number: int, *, created_at_s: float = 0.0) -> dict[str, Any]:
    change = {"SequenceNumber": f"{number:021d}", "ApproximateCreationDateTime": created_at_s, "Keys": {}}
    return {"eventID": f"{number:032x}", "eventName": "INSERT", "dynamodb": change}


@dataclass(slots=True)
class OneShard:
    """Records by index; an iterator is `<generation>:<index>`, and dies when its generation does."""

    records: list[dict[str, Any]]
    closed: bool = False
    generation: int = 0
    next_answers: list[object] = field(default_factory=list)
    """Given, or raised, instead of the next answers of GetRecords."""

    def __call__(self, operation: str, request: dict[str, Any]) -> object:
        if operation == "GetShardIterator":
            return {"ShardIterator": f"{self.generation}:{self._index(request)}"}
        generation, _, start = request["ShardIterator"].partition(":")
        if self.next_answers:
            answer = self.next_answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if int(generation) != self.generation:
            raise IteratorExpiredError("ExpiredIteratorException")
        end = min(int(start) + request["Limit"], len(self.records))
        page: dict[str, Any] = {"Records": self.records[int(start) : end]}
        if not (self.closed and end == len(self.records)):
            page["NextShardIterator"] = f"{self.generation}:{end}"
        return page

    def _index(self, request: dict[str, Any]) -> int:
        kind: str = request["ShardIteratorType"]
        number: str | None = request.get("SequenceNumber")
        numbers: list[str] = [known.get("dynamodb", {}).get("SequenceNumber", "") for known in self.records]
        if number is None:
            return len(numbers) if kind == "LATEST" else 0
        return numbers.index(number) + (kind == "AFTER_SEQUENCE_NUMBER")


def reader_of(
    shard: OneShard, start: Position = TRIM_HORIZON, *, cursor: str | None = None
) -> tuple[DynamoDBShardReader, ScriptedWire]:
    wire = ScriptedWire(shard)
    return DynamoDBShardReader(StreamCalls(wire, ARN), SHARD, start, cursor=cursor, numbers="decimal"), wire


async def numbers_of(reader: DynamoDBShardReader, *, records_max: int = 2, pages_max: int = 50) -> list[int]:
    """Sequence numbers up to the end of the shard, or the first empty page."""
    found: list[int] = []
    for _ in range(pages_max):
        page = await reader.read(records_max=records_max)
        found += [int(one.sequence_number) for one in page.records]
        if page.ended or not page.records:
            break
    return found


async def test_pages_follow_each_other_to_the_end() -> None:
    reader, wire = reader_of(OneShard([record(number) for number in range(1, 6)], closed=True))
    assert await numbers_of(reader) == [1, 2, 3, 4, 5]
    assert [operation for operation, _ in wire.calls] == ["GetShardIterator"] + ["GetRecords"] * 3
    again = await reader.read(records_max=2)
    assert again.ended
    assert len(wire.calls) == 4


async def test_a_page_knows_its_size_and_an_empty_one_is_no_end() -> None:
    reader, _ = reader_of(OneShard([]))
    page = await reader.read(records_max=1000)
    assert not page.records
    assert not page.ended
    assert page.bytes == len(b'{"Records":[],"NextShardIterator":"0:0"}')
    assert page.millis_behind is None


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (TRIM_HORIZON, {"ShardIteratorType": "TRIM_HORIZON"}),
        (LATEST, {"ShardIteratorType": "LATEST"}),
        (Position.at("1"), {"ShardIteratorType": "AT_SEQUENCE_NUMBER", "SequenceNumber": "1"}),
        (Position.after("1"), {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "1"}),
        (Position.at_timestamp(7.5), {"ShardIteratorType": "TRIM_HORIZON"}),
    ],
)
async def test_every_position_has_its_iterator(start: Position, expected: dict[str, str]) -> None:
    def answer(operation: str, request: dict[str, Any]) -> object:
        return {"ShardIterator": "i"} if operation == "GetShardIterator" else {"Records": [], "NextShardIterator": "i"}

    wire = ScriptedWire(answer)
    await DynamoDBShardReader(StreamCalls(wire, ARN), SHARD, start, cursor=None, numbers="decimal").read(records_max=9)
    assert wire.calls == [
        ("GetShardIterator", {"StreamArn": ARN, "ShardId": SHARD.shard_id, **expected}),
        ("GetRecords", {"ShardIterator": "i", "Limit": 9}),
    ]


async def test_the_end_of_a_shard_is_no_place_to_ask_for() -> None:
    reader, wire = reader_of(OneShard([record(1)]), SHARD_END)
    assert (await reader.read(records_max=1)).ended
    assert not wire.calls


# --- answers that are none -------------------------------------------------------------------------------------------


@pytest.mark.fault("F35")
@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"NextShardIterator":"0:1"}',
        b'{"Records":null}',
        b'{"Records":{}}',
        b'{"Records":[{"dynamodb":{"Sequ',
        b"",
        b"[]",
        b"<html></html>",
    ],
)
async def test_a_body_that_is_no_page_is_no_end(body: bytes) -> None:
    shard = OneShard([record(1), record(2)], closed=True, next_answers=[body])
    reader, _ = reader_of(shard)
    with pytest.raises(SourceError) as caught:
        await reader.read(records_max=1)
    assert type(caught.value) is SourceError
    assert caught.value.code == "CorruptAnswer"
    assert await numbers_of(reader, records_max=1) == [1, 2]


async def test_a_failed_read_is_repeated_at_the_same_place() -> None:
    shard = OneShard([record(1), record(2), record(3)], closed=True)
    reader, _ = reader_of(shard)
    await reader.read(records_max=1)
    shard.next_answers = [SourceError("lost")]
    with pytest.raises(SourceError, match="lost"):
        await reader.read(records_max=1)
    assert await numbers_of(reader, records_max=1) == [2, 3]


async def test_trimmed_records_are_the_callers_to_decide() -> None:
    reader, _ = reader_of(OneShard([record(1)], next_answers=[TrimmedError("gone")]))
    with pytest.raises(TrimmedError):
        await reader.read(records_max=1)


@pytest.mark.fault("F6")
async def test_a_malformed_last_record_does_not_move_the_position() -> None:
    shard = OneShard([record(1), {"eventName": "INSERT"}])
    reader, wire = reader_of(shard)
    assert len((await reader.read(records_max=2)).records) == 2
    shard.generation += 1
    await reader.read(records_max=2)
    assert wire.calls[-2][1]["SequenceNumber"] == f"{1:021d}"


# --- iterators that expire -------------------------------------------------------------------------------------------


@pytest.mark.fault("F25")
async def test_an_expired_iterator_is_replaced_behind_the_last_record() -> None:
    shard = OneShard([record(number) for number in range(1, 6)], closed=True)
    reader, wire = reader_of(shard)
    await reader.read(records_max=2)
    shard.generation += 1
    page = await reader.read(records_max=2)
    assert [int(one.sequence_number) for one in page.records] == [3, 4]
    assert page.reopened
    assert wire.calls[-2][1]["ShardIteratorType"] == "AFTER_SEQUENCE_NUMBER"
    assert not (await reader.read(records_max=2)).reopened


async def test_an_iterator_that_expires_before_the_first_record_is_replaced_at_the_start() -> None:
    shard = OneShard([])
    reader, wire = reader_of(shard)
    await reader.read(records_max=2)
    shard.generation += 1
    shard.records.append(record(1))
    assert await numbers_of(reader) == [1]
    assert [operation for operation, _ in wire.calls[:4]] == [
        "GetShardIterator",
        "GetRecords",
        "GetRecords",
        "GetShardIterator",
    ]
    assert wire.calls[3] == wire.calls[0]


async def test_an_iterator_that_expires_twice_in_a_row_is_an_error() -> None:
    expired = IteratorExpiredError("ExpiredIteratorException")
    reader, _ = reader_of(OneShard([record(1)], next_answers=[expired, expired]))
    with pytest.raises(IteratorExpiredError):
        await reader.read(records_max=1)
    assert await numbers_of(reader) == [1]


async def test_a_cursor_is_used_instead_of_the_start() -> None:
    reader, wire = reader_of(OneShard([record(1), record(2)]), Position.at_timestamp(9.0), cursor="0:1")
    # What is behind the cursor is delivered whatever its creation time says: the cursor is exact, clocks are not.
    assert await numbers_of(reader) == [2]
    assert wire.calls[0] == ("GetRecords", {"ShardIterator": "0:1", "Limit": 2})


async def test_an_expired_cursor_falls_back_to_the_start() -> None:
    shard = OneShard([record(1, created_at_s=8.0), record(2, created_at_s=9.0)], generation=1)
    reader, _ = reader_of(shard, Position.at_timestamp(9.5), cursor="0:1")
    page = await reader.read(records_max=2)
    assert page.reopened
    assert [int(one.sequence_number) for one in page.records] == [2]


# --- starting at a time ----------------------------------------------------------------------------------------------


async def test_records_before_the_starting_second_are_skipped() -> None:
    times = [7.0, 8.0, 9.0, 8.0, 10.0]
    shard = OneShard([record(number, created_at_s=time) for number, time in enumerate(times)], closed=True)
    reader, _ = reader_of(shard, Position.at_timestamp(9.9))
    # Behind the first record of that second nothing is skipped, though one of them seems older.
    assert await numbers_of(reader, records_max=3) == [2, 3, 4]


async def test_pages_that_are_skipped_as_a_whole_are_passed_over_in_one_read() -> None:
    shard = OneShard([record(number, created_at_s=float(number)) for number in range(20)])
    reader, wire = reader_of(shard, Position.at_timestamp(15.0))
    page = await reader.read(records_max=2)
    assert [int(one.sequence_number) for one in page.records] == [15]
    assert len(wire.calls) == 1 + 8


async def test_one_read_passes_over_a_bounded_number_of_pages() -> None:
    shard = OneShard([record(number) for number in range(50)])
    reader, wire = reader_of(shard, Position.at_timestamp(15.0))
    page = await reader.read(records_max=1)
    assert (len(page.records), page.ended) == (0, False)
    assert len(wire.calls) == 1 + 20


async def test_skipping_goes_on_behind_an_expired_iterator() -> None:
    shard = OneShard([record(number, created_at_s=float(number)) for number in range(60)])
    reader, _ = reader_of(shard, Position.at_timestamp(55.0))
    assert not (await reader.read(records_max=1)).records
    shard.generation += 1
    assert await numbers_of(reader, records_max=10) == [55, 56, 57, 58, 59]


# --- cancellation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expired", [False, True])
@pytest.mark.parametrize("suspensions", range(9))
async def test_a_read_that_is_cancelled_anywhere_skips_nothing(suspensions: int, expired: bool) -> None:
    shard = OneShard([record(number) for number in range(1, 6)], closed=True)
    reader, _ = reader_of(shard)
    first = await reader.read(records_max=1)
    shard.generation += expired
    found = [int(one.sequence_number) for one in first.records]

    async def cancelled_read() -> None:
        page = await reader.read(records_max=1)
        found.extend(int(one.sequence_number) for one in page.records)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancelled_read)
        for _ in range(suspensions):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert found + await numbers_of(reader, records_max=1) == [1, 2, 3, 4, 5]


async def test_records_are_views_of_the_answers_own_bytes() -> None:
    original = orjson.dumps(record(1))
    body = b'{"Records":[' + original + b'],"NextShardIterator":"0:1"}'
    reader, _ = reader_of(OneShard([], next_answers=[body]))
    page = await reader.read(records_max=1)
    assert page.records[0].raw == original
    assert page.records[0].shard is SHARD


async def test_what_was_read_is_not_read_again_where_a_page_comes_twice() -> None:
    records = [record(number) for number in range(1, 7)]
    shard = OneShard(records, closed=True)
    reader, _ = reader_of(shard)
    assert len((await reader.read(records_max=2)).records) == 2
    shard.next_answers = [
        {"Records": records[:2], "NextShardIterator": "0:2"},
        {"Records": records[1:4], "NextShardIterator": "0:4"},
    ]
    page = await reader.read(records_max=2)
    found = [int(one.sequence_number) for one in page.records]
    assert found == [3, 4], "all of one page was there before, which is no empty page, and of the next a part"
    assert await numbers_of(reader) == [5, 6]
