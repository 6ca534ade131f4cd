"""SQS, SNS and S3 as destinations: one call for each batch, under the identity that polls the stream (esm.md 3.8)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import orjson
from botocore.exceptions import ClientError

from streamflow.aws.errors import EXPIRED_CODES, translate
from streamflow.destinations.invocation_record import invocation_record, s3_key, s3_record
from streamflow.errors import ConfigError, DestinationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.aws.session import Aws
    from streamflow.dead_letters import DiscardedBatch
    from streamflow.destinations.invocation_record import MappingIdentity
    from streamflow.protocols import Destination

# All attempts of the SDK together: a send that hangs would hold the shard without a word.
SEND_TIMEOUT_S = 30.0

_MISSING = frozenset(
    {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NotFound", "NotFoundException", "NoSuchBucket"}
)
_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "AuthorizationError", "KMS.AccessDeniedException", "KMSAccessDenied"}
)


@asynccontextmanager
async def open_destination(target: str, *, aws: Aws, identity: MappingIdentity) -> AsyncIterator[Destination]:
    """The destination with the ARN `target`. Does not connect: one that is down must not keep a pipeline from starting.

    Raises:
        ConfigError: no destination has such an ARN, or there is no such endpoint.
    """
    place = _place(target, identity)
    async with aws.client(place.service, region=place.region) as client:
        yield _AwsDestination(target, place, aws, client)


class _Place(Protocol):
    """Where one kind of destination puts a batch, by one call of its service."""

    service: str
    region: str | None
    """None is the session's."""
    permission: str
    creation: str
    """The command that makes it."""

    async def put(self, client: Any, discarded: DiscardedBatch) -> None: ...


class _AwsDestination:
    """Keeps `streamflow.protocols.Destination`; any number of shards may send at the same time."""

    def __init__(self, arn: str, place: _Place, aws: Aws, client: Any) -> None:
        self.name = arn
        self._place = place
        self._aws = aws
        self._client = client

    async def send(self, discarded: DiscardedBatch, /) -> None:
        """See `Destination.send`.

        Raises:
            DestinationError: with the service's code, `Timeout`, or the name of what went wrong on the way.
        """
        with anyio.move_on_after(SEND_TIMEOUT_S) as scope:
            try:
                await self._put(discarded)
            except Exception as error:
                raise self._told(error) from error
        if scope.cancelled_caught:
            raise DestinationError(
                f"{self.name} did not take the batch within {SEND_TIMEOUT_S:g} s; it may have it all the same",
                code="Timeout",
            )

    async def _put(self, discarded: DiscardedBatch) -> None:
        try:
            await self._place.put(self._client, discarded)
        except ClientError as error:
            if _code(error) not in EXPIRED_CODES:
                raise
            # A client keeps the keys it was made with; the session may have others by now (`Identity.renew`).
            async with self._aws.client(self._place.service, region=self._place.region) as renewed:
                await self._place.put(renewed, discarded)

    def _told(self, error: Exception) -> DestinationError:
        found = translate(error)
        code = found.code or type(error).__name__
        text = f"{self.name} did not take the batch: {found}"
        if code in _MISSING:
            text += f"; make it: {self._place.creation}"
        elif code in _DENIED:
            text += (
                f"; it takes {self._place.permission} on {self.name}, and where that is encrypted with KMS, "
                "kms:GenerateDataKey and kms:Decrypt on its key"
            )
        return DestinationError(text, code=code)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


# --- the three kinds -------------------------------------------------------------------------------------------------


def _place(arn: str, identity: MappingIdentity) -> _Place:
    match arn.split(":", 5):
        case ["arn", _, "sqs", region, account, name]:
            return _Queue(region, account, name, identity)
        case ["arn", _, "sns", region, _, name]:
            return _Topic(arn, region, name, identity)
        case ["arn", _, "s3", "", "", bucket]:
            return _Bucket(bucket, identity)
    raise ConfigError(f"{arn!r} is no destination: name the ARN of an SQS queue, of an SNS topic, or of an S3 bucket")


class _Queue:
    service = "sqs"
    permission = "sqs:SendMessage"

    def __init__(self, region: str, account: str, name: str, identity: MappingIdentity) -> None:
        self.region: str | None = region
        self.creation = f"aws sqs create-queue --queue-name {name} --region {region}"
        self._account = account
        self._name = name
        self._identity = identity
        self._url: str | None = None

    async def put(self, client: Any, discarded: DiscardedBatch) -> None:
        url = self._url or await self._look_up(client)
        body = orjson.dumps(invocation_record(discarded, self._identity)).decode()
        await client.send_message(QueueUrl=url, MessageBody=body)
        self._url = url

    async def _look_up(self, client: Any) -> str:
        """The queue's URL. Looking it up takes a permission (sqs:GetQueueUrl) that Lambda does not ask for.

        Where the service says no, the URL is the one that every queue has, and sending tells what is really wrong.
        """
        found: dict[str, str] = {}
        try:
            found = await client.get_queue_url(QueueName=self._name, QueueOwnerAWSAccountId=self._account)
        except ClientError as error:
            if _code(error) not in _DENIED | _MISSING:
                raise
        return found.get("QueueUrl") or f"{client.meta.endpoint_url.rstrip('/')}/{self._account}/{self._name}"


class _Topic:
    service = "sns"
    permission = "sns:Publish"

    def __init__(self, arn: str, region: str, name: str, identity: MappingIdentity) -> None:
        self.region: str | None = region
        self.creation = f"aws sns create-topic --name {name} --region {region}"
        self._arn = arn
        self._identity = identity

    async def put(self, client: Any, discarded: DiscardedBatch) -> None:
        message = orjson.dumps(invocation_record(discarded, self._identity)).decode()
        await client.publish(TopicArn=self._arn, Message=message)


class _Bucket:
    service = "s3"
    region: str | None = None
    permission = "s3:PutObject"

    def __init__(self, name: str, identity: MappingIdentity) -> None:
        self.creation = f"aws s3 mb s3://{name}"
        self._name = name
        self._identity = identity

    async def put(self, client: Any, discarded: DiscardedBatch) -> None:
        """Writing again is idempotent by the key."""
        await client.put_object(
            Bucket=self._name,
            Key=s3_key(discarded, self._identity),
            Body=orjson.dumps(s3_record(discarded, self._identity)),
            ContentType="application/octet-stream",
        )
