"""Firehose: each record into a stream that Firehose delivers to S3, Redshift, OpenSearch, Splunk and others."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
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
    order="none",
    idempotence="none",
    partial_failures=True,
    batch_size=500,
    request_records_max=500,
    request_bytes_max=REQUEST_BYTES_MAX,  # PutRecordBatch takes 4 MiB
    record_bytes_max=1000 << 10,  # before base64
)
# What Firehose answers beyond its quota; other services mean an outage by it.
_BUSY_CODES = frozenset({"ServiceUnavailable", "ServiceUnavailableException"})


class FirehoseSettings(PayloadSettings):
    stream: Annotated[str, Field(examples=["orders"], pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    """Name of the Firehose stream; its source must be Direct PUT."""
    newline: bool = True
    """Whether a newline ends each record: Firehose puts records one behind the other."""


def encode(record: Record, settings: FirehoseSettings) -> tuple[Entry, int]:
    """An entry of PutRecordBatch, and the bytes that count."""
    data = payload(record, settings.payload) + (b"\n" if settings.newline else b"")
    return {"Data": data}, len(data)


def _permissions(settings: FirehoseSettings) -> list[Permission]:
    target = resource_arn("firehose", "deliverystream/", settings.stream)
    name = settings.stream.rpartition("/")[2]
    actions = ("firehose:DescribeDeliveryStream", "firehose:PutRecordBatch")
    return [Permission(purpose=f"put records into {name}", actions=actions, resources=(target,))]


@asynccontextmanager
async def _open(settings: FirehoseSettings, context: SinkContext) -> AsyncIterator[Writer]:
    target = Target(
        name=f"firehose: the stream {settings.stream}",
        permission="firehose:DescribeDeliveryStream",
        creation=f"aws firehose create-delivery-stream --delivery-stream-name {settings.stream} …",
    )
    async with open_client(context, "firehose", aws=settings.aws, busy_codes=_BUSY_CODES) as client:
        answer = await client.look("describe_delivery_stream", target, DeliveryStreamName=settings.stream)
        found = answer.get("DeliveryStreamDescription", {})
        status, kind = found.get("DeliveryStreamStatus", "ACTIVE"), found.get("DeliveryStreamType", "DirectPut")
        if status != "ACTIVE":
            raise ConfigError(f"{target.name} cannot be used: it is {status}; wait until it is ACTIVE, or make it anew")
        if kind != "DirectPut":
            raise ConfigError(f"{target.name} cannot be used: it is {kind}; make one whose source is Direct PUT")
        yield EntriesWriter(partial(encode, settings=settings), partial(_send, client, settings.stream), _CAPABILITIES)


async def _send(client: Client, stream: str, entries: Sequence[Entry]) -> Outcomes:
    answer = await client.call("put_record_batch", DeliveryStreamName=stream, Records=list(entries))
    return by_position(answer.get("RequestResponses"), len(entries), proof="RecordId", busy_codes=_BUSY_CODES)


firehose = SinkPlugin(
    name="firehose",
    api_version="1.0",
    summary="Puts each record into a Firehose stream, which delivers it to S3, Redshift, OpenSearch or others.",
    settings=FirehoseSettings,
    examples={"stream": {"stream": "orders"}, "image": {"stream": "orders", "payload": "image"}},
    open=_open,
    capabilities=_CAPABILITIES,
    permissions=_permissions,
)
