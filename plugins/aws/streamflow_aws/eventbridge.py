"""EventBridge: each record as an event on a bus."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from streamflow.sdk import Capabilities, Permission, SinkPlugin, payload, resource_arn
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
    request_records_max=10,
    request_bytes_max=REQUEST_BYTES_MAX,
    record_bytes_max=999_999,  # PutEvents takes less than 1 MB, in one event as in all
)
_TIME_BYTES = 14  # whatever the time is
# Of an entry that cannot be taken, now or later.
_REFUSED_CODES = frozenset({"MalformedDetail"})


class EventBridgeSettings(PayloadSettings):
    bus: Annotated[str, Field(examples=["orders"], min_length=1, max_length=1600)] = "default"
    """Name or ARN of the event bus."""
    source: Annotated[str, Field(examples=["shop.orders"], min_length=1, max_length=256)] = "streamflow"
    """The event's `source`. It cannot begin with `aws.`, which is for AWS itself."""
    detail_type: Annotated[str, Field(examples=["order {event_name}"], min_length=1, max_length=128)] = "{event_name}"
    """The event's `detail-type`; `{event_name}` stands for INSERT, MODIFY or REMOVE."""

    @field_validator("source")
    @classmethod
    def _source_is_not_of_aws(cls, value: str) -> str:
        if value.lower().startswith("aws."):
            raise ValueError("cannot begin with aws., which is for AWS itself")
        return value


def encode(record: Record, settings: EventBridgeSettings) -> tuple[Entry, int]:
    """An entry of PutEvents, and its bytes as EventBridge counts them: time, source, detail, its type, and resources."""
    detail = payload(record, settings.payload)
    entry: Entry = {
        "Source": settings.source,
        "DetailType": settings.detail_type.replace("{event_name}", record.event_name),
        "Detail": detail.decode(),
        "Resources": [record.shard.stream_arn],
        "EventBusName": settings.bus,
    }
    if record.created_at_s:
        entry["Time"] = datetime.fromtimestamp(record.created_at_s, UTC)
    texts = (settings.source, entry["DetailType"], record.shard.stream_arn)
    return entry, _TIME_BYTES + len(detail) + sum(len(text.encode()) for text in texts)


def _permissions(settings: EventBridgeSettings) -> list[Permission]:
    target = resource_arn("events", "event-bus/", settings.bus)
    name = settings.bus.rpartition("/")[2]
    actions = ("events:DescribeEventBus", "events:PutEvents")
    return [Permission(purpose=f"put events on {name}", actions=actions, resources=(target,))]


@asynccontextmanager
async def _open(settings: EventBridgeSettings, context: SinkContext) -> AsyncIterator[Writer]:
    target = Target(
        name=f"eventbridge: the event bus {settings.bus}",
        permission="events:DescribeEventBus",
        creation=f"aws events create-event-bus --name {settings.bus}",
    )
    async with open_client(context, "events", aws=settings.aws) as client:
        await client.look("describe_event_bus", target, Name=settings.bus)
        yield EntriesWriter(partial(encode, settings=settings), partial(_send, client), _CAPABILITIES)


async def _send(client: Client, entries: Sequence[Entry]) -> Outcomes:
    answer = await client.call("put_events", Entries=list(entries))
    return by_position(answer.get("Entries"), len(entries), proof="EventId", refused_codes=_REFUSED_CODES)


eventbridge = SinkPlugin(
    name="eventbridge",
    api_version="1.0",
    summary="Puts each record as an event on an EventBridge bus.",
    settings=EventBridgeSettings,
    examples={
        "bus": {"bus": "orders", "source": "shop.orders"},
        "image": {"bus": "orders", "source": "shop.orders", "detail_type": "order {event_name}", "payload": "image"},
    },
    open=_open,
    capabilities=_CAPABILITIES,
    permissions=_permissions,
)
