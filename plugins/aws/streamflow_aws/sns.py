"""SNS: each record as a message of a standard or a FIFO topic."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

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

# Of PublishBatch and of a message; the topic's MaximumMessageSize may say otherwise.
_BYTES_MAX = 256 << 10


class SnsSettings(MessageSettings):
    topic_arn: Annotated[
        str,
        Field(
            examples=["arn:aws:sns:eu-west-1:123456789012:orders"],
            pattern=r"^arn:[a-z-]+:sns:[a-z0-9-]+:[0-9]{12}:\S+$",
        ),
    ]
    """ARN of the topic. One that ends with `.fifo` is that of a FIFO topic."""

    @property
    def is_fifo(self) -> bool:
        return self.topic_arn.endswith(".fifo")


def encode(record: Record, settings: SnsSettings) -> tuple[Entry, int]:
    """An entry of PublishBatch but for its id, and its bytes."""
    return encoded(record, settings, text_member="Message", is_fifo=settings.is_fifo)


def _capabilities(settings: SnsSettings) -> Capabilities:
    return capabilities(is_fifo=settings.is_fifo, bytes_max=_BYTES_MAX)


def _permissions(settings: SnsSettings) -> list[Permission]:
    actions = ("sns:GetTopicAttributes", "sns:Publish")
    topic = settings.topic_arn.rpartition(":")[2]
    return [Permission(purpose=f"publish to {topic}", actions=actions, resources=(settings.topic_arn,))]


@asynccontextmanager
async def _open(settings: SnsSettings, context: SinkContext) -> AsyncIterator[Writer]:
    async with open_client(context, "sns", aws=settings.aws) as client:
        arn = settings.topic_arn
        answer = await client.look("get_topic_attributes", _target(settings), TopicArn=arn)
        bytes_max = int(answer.get("Attributes", {}).get("MaximumMessageSize", _BYTES_MAX))
        yield EntriesWriter(
            partial(encode, settings=settings),
            partial(_send, client, arn),
            replace(_capabilities(settings), record_bytes_max=bytes_max),
        )


def _target(settings: SnsSettings) -> Target:
    name = settings.topic_arn.rpartition(":")[2]
    attribute = " --attributes FifoTopic=true" if settings.is_fifo else ""
    return Target(
        name=f"sns: the topic {settings.topic_arn}",
        permission="sns:GetTopicAttributes",
        creation=f"aws sns create-topic --name {name}{attribute}",
    )


async def _send(client: Client, topic_arn: str, entries: Sequence[Entry]) -> Outcomes:
    answer = await client.call("publish_batch", TopicArn=topic_arn, PublishBatchRequestEntries=numbered(entries))
    return by_id(answer, len(entries))


sns = SinkPlugin(
    name="sns",
    api_version="1.0",
    summary="Publishes each record as a message to an SNS topic, standard or FIFO.",
    settings=SnsSettings,
    examples={
        "standard": {"topic_arn": "arn:aws:sns:eu-west-1:123456789012:orders"},
        "fifo": {"topic_arn": "arn:aws:sns:eu-west-1:123456789012:orders.fifo", "payload": "image"},
    },
    open=_open,
    capabilities=_capabilities,
    permissions=_permissions,
)
