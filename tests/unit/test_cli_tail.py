"""`streamflow tail` prints records."""

from __future__ import annotations

import io
import json
from typing import Any

import msgspec
import pytest

from streamflow.batches import Batch
from streamflow.cli.tail import Printer, compact_line, json_line
from streamflow.records import Record, Shard

pytestmark = pytest.mark.anyio

SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026", shard_id="shardId-1")


def record(number: int = 1, *, indent: int | None = None, keys: dict[str, Any] | None = None) -> Record:
    document = {
        "eventID": f"{number:032x}",
        "eventName": "INSERT",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_767_225_600,
            "Keys": keys or {"id": {"S": f"o-{number}"}},
            "SequenceNumber": f"{number:021}",
        },
    }
    return Record(json=msgspec.Raw(json.dumps(document, indent=indent).encode()), shard=SHARD)


def batch(*records: Record) -> Batch:
    return Batch(pipeline="tail", shard=SHARD, records=records)


def test_a_compact_line_has_time_event_keys_shard_and_sequence_number() -> None:
    line = compact_line(record(keys={"id": {"S": "o-1"}, "version": {"N": "7"}, "hash": {"B": "AP8="}}))
    assert line == (b"2026-01-01T00:00:00Z INSERT id='o-1' version=7 hash=0x00ff  shardId-1 000000000000000000001")


def test_control_characters_of_keys_do_not_reach_the_terminal() -> None:
    line = compact_line(record(keys={"id\x1b[2J": {"S": "a\nb\x1b[31m\x9b1m\u202e"}})).decode()
    assert line.isprintable()


def test_a_json_line_is_one_line_of_the_lambda_event() -> None:
    line = json_line(record(indent=2))
    assert b"\n" not in line
    assert json.loads(line)["eventSourceARN"] == SHARD.stream_arn


async def test_a_printer_stops_at_its_limit() -> None:
    out = io.BytesIO()
    printer = Printer(out, compact_line, limit=3)
    await printer(batch(record(1), record(2)))
    assert not printer.done.is_set()
    await printer(batch(record(3), record(4)))
    assert printer.done.is_set()
    await printer(batch(record(5)))
    assert [line.split()[-1][-1:] for line in out.getvalue().splitlines()] == [b"1", b"2", b"3"]


async def test_a_malformed_record_is_told_and_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.BytesIO()
    broken = Record(json=msgspec.Raw(b'{"dynamodb":{"SequenceNumber":"1"}}'), shard=SHARD)
    await Printer(out, compact_line, limit=None)(batch(broken, record(2)))
    assert len(out.getvalue().splitlines()) == 1
    assert capsys.readouterr().err.startswith("error: malformed record 1 in shardId-1")


@pytest.mark.fault("F57")
async def test_a_reader_that_went_away_ends_it() -> None:
    class Closed(io.BytesIO):
        def flush(self) -> None:
            raise BrokenPipeError

    printer = Printer(Closed(), compact_line, limit=None)
    await printer(batch(record()))
    assert printer.done.is_set()
