"""Kinesis: each record into a data stream, all changes of one item into one shard."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from streamflow.sdk import Capabilities, ConfigError, Permission, SinkPlugin, payload, resource_arn
from streamflow_aws.clients import Target, open_client
from streamflow_aws.sending import REQUEST_BYTES_MAX, EntriesWriter, by_position
from streamflow_aws.settings import PayloadSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow.sdk import Record, SinkContext, Writer
    from streamflow_aws.clients import Client
    from streamflow_aws.sending import Entry, Outcomes

_CAPABILITIES = Capabilities(
    order="key",
    idempotence="none",
    partial_failures=True,
    batch_size=500,
    request_records_max=500,
    request_bytes_max=REQUEST_BYTES_MAX,  # PutRecords takes 10 MiB, and a shard 1 MiB/s
    record_bytes_max=10 << 20,  # of data and partition key; the stream's MaxRecordSizeInKiB may be lower
)
_RECORD_KIBIBYTES = 1024  # of a stream that does not say
_PARTITION_KEY_CHARACTERS_MAX = 256
# Statuses in which a stream cannot be written.
_UNUSABLE = frozenset({"CREATING", "DELETING"})


class KinesisSettings(PayloadSettings):
    stream: Annotated[
        str, Field(examples=["orders", "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"], min_length=1)
    ]
    """Name or ARN of the data stream."""
    newline: bool = False
    """Whether a newline ends each record: for consumers that put records one behind the other."""


def encode(record: Record, settings: KinesisSettings) -> tuple[Entry, int]:
    """An entry of PutRecords, and the bytes that count: data and partition key."""
    data = payload(record, settings.payload) + (b"\n" if settings.newline else b"")
    key = partition_key(record)
    return {"Data": data, "PartitionKey": key}, len(data) + len(key.encode())


def partition_key(record: Record) -> str:
    """The item's key as canonical JSON, or the SHA-256 of one that is longer than a partition key may be."""
    key = record.item_key
    return key if len(key) <= _PARTITION_KEY_CHARACTERS_MAX else sha256(key.encode()).hexdigest()


def _permissions(settings: KinesisSettings) -> list[Permission]:
    target = resource_arn("kinesis", "stream/", settings.stream)
    name = settings.stream.rpartition("/")[2]
    actions = ("kinesis:DescribeStreamSummary", "kinesis:PutRecords")
    return [Permission(purpose=f"put records into {name}", actions=actions, resources=(target,))]


@asynccontextmanager
async def _open(settings: KinesisSettings, context: SinkContext) -> AsyncIterator[Writer]:
    stream = {"StreamARN" if settings.stream.startswith("arn:") else "StreamName": settings.stream}
    target = Target(
        name=f"kinesis: the stream {settings.stream}",
        permission="kinesis:DescribeStreamSummary",
        creation=f"aws kinesis create-stream --stream-name {settings.stream.rpartition('/')[2]}",
    )
    async with open_client(context, "kinesis", aws=settings.aws) as client:
        answer = await client.look("describe_stream_summary", target, **stream)
        found = answer.get("StreamDescriptionSummary", {})
        if found.get("StreamStatus") in _UNUSABLE:
            raise ConfigError(f"{target.name} cannot be used: it is {found['StreamStatus']}; wait until it is ACTIVE")
        bytes_max = int(found.get("MaxRecordSizeInKiB", _RECORD_KIBIBYTES)) << 10
        yield EntriesWriter(
            partial(encode, settings=settings),
            partial(_send, client, stream),
            replace(_CAPABILITIES, record_bytes_max=bytes_max),
        )


async def _send(client: Client, stream: dict[str, str], entries: Sequence[Entry]) -> Outcomes:
    answer = await client.call("put_records", Records=list(entries), **stream)
    return by_position(answer.get("Records"), len(entries), proof="SequenceNumber")


kinesis = SinkPlugin(
    name="kinesis",
    api_version="1.0",
    summary="Puts each record into a Kinesis data stream, in order for each item.",
    settings=KinesisSettings,
    examples={
        "stream": {"stream": "orders"},
        "change": {"stream": "arn:aws:kinesis:eu-west-1:123456789012:stream/orders", "payload": "change"},
    },
    open=_open,
    capabilities=_CAPABILITIES,
    permissions=_permissions,
)
