"""SQS: each record as a message of a standard or a FIFO queue."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import Field

from streamflow.sdk import Capabilities, Permission, SinkPlugin
from streamflow_aws.clients import Target, open_client
from streamflow_aws.messages import MessageSettings, capabilities, encoded
from streamflow_aws.sending import EntriesWriter, by_id, numbered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow.sdk import Record, SinkContext, Writer
    from streamflow_aws.clients import Client
    from streamflow_aws.sending import Entry, Outcomes

# Of SendMessageBatch and of a message; the queue's MaximumMessageSize may be lower.
_BYTES_MAX = 1 << 20


class SqsSettings(MessageSettings):
    queue_url: Annotated[
        str,
        Field(
            examples=["https://sqs.eu-west-1.amazonaws.com/123456789012/orders.fifo"], pattern=r"^https?://\S+/[^/\s]+$"
        ),
    ]
    """URL of the queue. One that ends with `.fifo` is that of a FIFO queue."""

    @property
    def is_fifo(self) -> bool:
        return self.queue_url.endswith(".fifo")


def encode(record: Record, settings: SqsSettings) -> tuple[Entry, int]:
    """An entry of SendMessageBatch but for its id, and its bytes."""
    return encoded(record, settings, text_member="MessageBody", is_fifo=settings.is_fifo)


def _capabilities(settings: SqsSettings) -> Capabilities:
    return capabilities(is_fifo=settings.is_fifo, bytes_max=_BYTES_MAX)


def _permissions(settings: SqsSettings) -> list[Permission]:
    """A queue's URL has its account and its name, and on AWS its region."""
    url = urlsplit(settings.queue_url)
    account, name = ["", *url.path.split("/")][-2:]
    host = str(url.hostname).split(".")
    region = host[1] if host[0] == "sqs" and "amazonaws" in host else "{region}"
    queue = f"arn:{{partition}}:sqs:{region}:{account if account.isdigit() else '{account}'}:{name}"
    actions = ("sqs:GetQueueAttributes", "sqs:SendMessage")
    return [Permission(purpose=f"send messages to {name}", actions=actions, resources=(queue,))]


@asynccontextmanager
async def _open(settings: SqsSettings, context: SinkContext) -> AsyncIterator[Writer]:
    async with open_client(context, "sqs", aws=settings.aws) as client:
        url, target = settings.queue_url, _target(settings)
        answer = await client.look("get_queue_attributes", target, QueueUrl=url, AttributeNames=["MaximumMessageSize"])
        bytes_max = int(answer.get("Attributes", {}).get("MaximumMessageSize", _BYTES_MAX))
        yield EntriesWriter(
            partial(encode, settings=settings),
            partial(_send, client, url),
            replace(_capabilities(settings), record_bytes_max=min(bytes_max, _BYTES_MAX)),
        )


def _target(settings: SqsSettings) -> Target:
    name = settings.queue_url.rpartition("/")[2]
    attribute = " --attributes FifoQueue=true" if settings.is_fifo else ""
    return Target(
        name=f"sqs: the queue {settings.queue_url}",
        permission="sqs:GetQueueAttributes",
        creation=f"aws sqs create-queue --queue-name {name}{attribute}",
    )


async def _send(client: Client, queue_url: str, entries: Sequence[Entry]) -> Outcomes:
    answer = await client.call("send_message_batch", QueueUrl=queue_url, Entries=numbered(entries))
    return by_id(answer, len(entries))


sqs = SinkPlugin(
    name="sqs",
    api_version="1.0",
    summary="Sends each record as a message of an SQS queue, standard or FIFO.",
    settings=SqsSettings,
    examples={
        "standard": {"queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/orders"},
        "fifo": {"queue_url": "https://sqs.eu-west-1.amazonaws.com/123456789012/orders.fifo", "payload": "change"},
    },
    open=_open,
    capabilities=_capabilities,
    permissions=_permissions,
)
