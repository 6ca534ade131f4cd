"""Records as objects: keys, folders, lines and columns; and the checkpoint that announces them."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
import pyarrow.parquet
import pytest
import zstandard

from scripted_clients import ScriptedContext, refusal
from streamflow.sdk import ConfigError, Record, RecordsFailedError, Shard, payload, sortable
from streamflow.testing.sink_contract import Changes, exact_json
from streamflow_aws.s3 import s3
from streamflow_aws.s3_checkpoints import Checkpoint, Pending
from streamflow_aws.s3_objects import metadata, object_form, object_key, rows, shard_name

if TYPE_CHECKING:
    from streamflow_aws.s3_objects import Format, Partition

pytestmark = pytest.mark.anyio

LINES = object_form("jsonl", "lambda")


def dated(record: Record, created_at_s: float | str) -> Record:
    body = orjson.loads(record.raw)
    body["dynamodb"]["ApproximateCreationDateTime"] = created_at_s
    return Record(msgspec.Raw(orjson.dumps(body)), record.shard)


@pytest.mark.parametrize(("partition", "folder"), [("day", "dt=2026-11-25"), ("hour", "dt=2026-11-25/hour=07")])
def test_a_key_has_day_shard_stream_and_range(partition: Partition, folder: str) -> None:
    changes = Changes()
    at_s = datetime(2026, 11, 25, 7, 59, tzinfo=UTC).timestamp()
    content, _ = rows([dated(changes.put("a"), at_s), dated(changes.put("b"), at_s + 3_600)], LINES)
    first, last = (record.sequence_number for record in changes.records)
    shard = shard_name(changes.records[0].shard)
    assert shard.startswith(changes.records[0].shard.shard_id + ".")
    key = object_key("all/orders", content, LINES, partition=partition, serial=None)
    assert key == f"all/orders/{folder}/{shard}/{first}-{last}.jsonl"
    numbered = object_key("all/orders", content, LINES, partition=partition, serial=7)
    assert numbered == f"all/orders/{folder}/{shard}/{first}-{last}.000007.jsonl"
    assert metadata(content) == {
        "sf-records": "2", "sf-shard": changes.records[0].shard.shard_id, "sf-first": first, "sf-last": last,
    }  # fmt: skip


def test_shards_of_one_name_in_two_streams_have_folders_of_their_own() -> None:
    one, other = (Changes().put("a").shard for _ in range(2))
    namesake = Shard(stream_arn=other.stream_arn, shard_id=one.shard_id)
    assert shard_name(one) != shard_name(namesake)


@pytest.mark.parametrize("form", ["lambda", "image", "change"])
def test_lines_are_payloads(form: Any) -> None:
    changes = Changes()
    changes.put("a", note={"S": "line\nbreak"})
    changes.delete("a")
    formats: tuple[Format, ...] = ("jsonl", "jsonl.zst")
    for format_ in formats:
        kind = object_form(format_, form)
        content, failures = rows(changes.records, kind)
        body = kind.body([row.content for row in content])
        text = zstandard.ZstdDecompressor().decompress(body) if format_ == "jsonl.zst" else body
        assert text.splitlines() == [payload(record, form) for record in changes.records]
        assert not failures


def test_parquet_has_typed_columns_and_all_digits_in_its_json() -> None:
    changes = Changes()
    digits = "12345678901234567890123456789012345678"
    record = changes.put("a", n={"N": digits})
    deleted = changes.delete("a")
    form = object_form("parquet", "lambda")
    content, _ = rows(changes.records, form)
    first, second = pyarrow.parquet.read_table(io.BytesIO(form.body([row.content for row in content]))).to_pylist()
    assert exact_json(first.pop("image")) == {"id": changes.item("a"), "version": 1, "n": int(digits)}
    assert first == {
        "event_name": "INSERT",
        "event_time": datetime.fromtimestamp(record.created_at_s, UTC),
        "keys": orjson.dumps({"id": changes.item("a")}).decode(),
        "_sf_seq": sortable(record.sequence_number),
        "_sf_shard": record.shard.shard_id,
        "_sf_event_id": record.event_id,
        "_sf_deleted": False,
    }
    assert (second["image"], second["_sf_deleted"], second["_sf_event_id"]) == (None, True, deleted.event_id)


@pytest.mark.parametrize("format_", ["jsonl", "jsonl.zst", "parquet"])
def test_an_object_of_no_records_can_be_read_and_says_that_it_has_none(format_: Format) -> None:
    form = object_form(format_, "lambda")
    body = form.body([])
    match format_:
        case "parquet":
            assert pyarrow.parquet.read_table(io.BytesIO(body)).num_rows == 0
        case "jsonl.zst":
            assert zstandard.ZstdDecompressor().decompress(body) == b""
        case _:
            assert body == b""
    assert metadata([]) == {"sf-records": "0"}


def test_what_cannot_be_encoded_is_refused_and_later_changes_of_its_item_wait() -> None:
    changes = Changes()
    good, bad = changes.put("good"), dated(changes.put("bad"), 1e300)
    behind, other = changes.put("bad"), changes.put("other")
    content, failures = rows([good, bad, behind, other], LINES)
    assert [row.record for row in content] == [good, other]
    assert [(failure.record, failure.kind) for failure in failures] == [(bad, "refused"), (behind, "waiting")]


# --- the checkpoint --------------------------------------------------------------------------------------------------


def test_a_checkpoint_reads_what_it_writes() -> None:
    fresh = Checkpoint(epoch=3, position="7", serial=4)
    announced = fresh.announcing("key", "9")
    assert announced == Checkpoint(epoch=3, position="7", serial=5, pending=Pending(key="key", last="9"))
    for checkpoint in (Checkpoint(), fresh, announced):
        assert Checkpoint.parse(checkpoint.json()) == checkpoint
    assert announced.settled(there=True).position == "9"
    assert announced.settled(there=False).position == "7"
    assert announced.settled(there=False).serial == 5


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"epoch": "x"}', b"\xff"])
def test_what_is_no_checkpoint_is_said(text: bytes) -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        Checkpoint.parse(text)


# --- writing ---------------------------------------------------------------------------------------------------------


async def test_an_object_is_put_where_there_is_none_and_one_that_is_there_is_suppressed() -> None:
    answers: list[Any] = [{}, {"ETag": "1"}, refusal("PreconditionFailed", status=412)]
    context = ScriptedContext(lambda *_: answers.pop(0))
    changes = Changes()
    batch = changes.batch(*changes.put_many(3))
    async with s3(bucket="archive", prefix="orders").open(context) as writer:
        await writer.write(batch)
        await writer.write(batch)
    (_, _), (operation, put), (_, again) = context.calls
    assert operation == "put_object"
    assert put["IfNoneMatch"] == "*"
    assert put["Key"] == again["Key"]
    assert context.suppressed == 3


@pytest.mark.parametrize("transactional", [False, True])
async def test_the_others_are_written_where_one_cannot_be_encoded(transactional: bool) -> None:
    context = ScriptedContext(lambda *_: {"ETag": "1"})
    changes = Changes()
    good, bad = changes.put("good"), dated(changes.put("bad"), 1e300)
    sink = s3(bucket="archive", prefix="orders", transactional=transactional, format="jsonl")
    async with sink.open(context) as writer:
        with pytest.raises(RecordsFailedError) as caught:
            await writer.write(changes.batch(good, bad, epoch=0))
    assert [failure.kind for failure in caught.value.failures] == ["refused"]
    bodies = [arguments["Body"] for operation, arguments in context.calls if operation == "put_object"]
    assert bodies == [payload(good, "lambda") + b"\n"]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"bucket": "Archive", "prefix": "x"}, "bucket"),
        ({"bucket": "archive", "prefix": "/x"}, "prefix"),
        ({"bucket": "archive", "prefix": "x/"}, "prefix"),
        ({"bucket": "archive", "prefix": "x", "format": "parquet", "payload": "image"}, "payload is for lines"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        s3(**settings)


def test_what_is_promised_goes_by_the_mode() -> None:
    assert s3(bucket="archive", prefix="x").capabilities.idempotence == "none"
    assert s3(bucket="archive", prefix="x", transactional=True).capabilities.idempotence == "transactional"
    assert s3(bucket="archive", prefix="x", payload="image").capabilities.needs_images
