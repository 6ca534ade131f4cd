"""SQS, SNS and S3 as destinations against MiniStack, a server that nobody here wrote, read back with boto3."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import boto3
import pytest

from cancelling import everywhere
from discards import IDENTITY, discarded, record
from outages import closed_port, reachable
from streamflow.aws.session import open_aws
from streamflow.destinations.aws import open_destination
from streamflow.destinations.invocation_record import invocation_record, s3_key, s3_record
from streamflow.errors import DestinationError
from streamflow.pipeline import AwsOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from streamflow.protocols import Destination

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

REGION = "eu-west-3"  # of queue and topic; the session's is another
QUEUE = f"arn:aws:sqs:{REGION}:000000000000:orders-failed"
TOPIC = f"arn:aws:sns:{REGION}:000000000000:orders-failed"
BUCKET = "arn:aws:s3:::orders-failed"
MISSING = {
    QUEUE: {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"},
    TOPIC: {"NotFound", "NotFoundException"},
    BUCKET: {"NoSuchBucket"},
}


class Far:
    """The other end: what boto3 finds in queue, topic and bucket."""

    def __init__(self, endpoint: str) -> None:
        self.sqs = boto3.client("sqs", endpoint_url=endpoint, region_name=REGION)
        self.sns = boto3.client("sns", endpoint_url=endpoint, region_name=REGION)
        self.s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        self._queue_url = ""

    def create(self, arn: str) -> None:
        """Make the queue, the topic with a queue that subscribes to it, or the bucket."""
        if arn == BUCKET:
            self.s3.create_bucket(Bucket="orders-failed")
            return
        self._queue_url = self.sqs.create_queue(QueueName="orders-failed")["QueueUrl"]
        if arn == TOPIC:
            assert self.sns.create_topic(Name="orders-failed")["TopicArn"] == TOPIC
            self.sns.subscribe(TopicArn=TOPIC, Protocol="sqs", Endpoint=QUEUE)

    def received(self, arn: str) -> list[Any]:
        """The records that are there."""
        if arn == BUCKET:
            return [json.loads(body) for body, _ in self.objects().values()]
        answer = self.sqs.receive_message(QueueUrl=self._queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=5)
        bodies = [json.loads(message["Body"]) for message in answer.get("Messages", [])]
        return [json.loads(body["Message"]) for body in bodies] if arn == TOPIC else bodies

    def objects(self) -> dict[str, tuple[bytes, str]]:
        """Key to content and content type."""
        keys = [found["Key"] for found in self.s3.list_objects_v2(Bucket="orders-failed").get("Contents", [])]
        answers = {key: self.s3.get_object(Bucket="orders-failed", Key=key) for key in keys}
        return {key: (answer["Body"].read(), answer["ContentType"]) for key, answer in answers.items()}

    def close(self) -> None:
        for client in (self.sqs, self.sns, self.s3):
            client.close()


@pytest.fixture
def far(ministack: str) -> Iterator[Far]:
    found = Far(ministack)
    yield found
    found.close()


@asynccontextmanager
async def destination_at(endpoint: str, arn: str) -> AsyncIterator[Destination]:
    async with (
        open_aws(AwsOptions(region="us-east-1", endpoint_url=endpoint)) as aws,
        open_destination(arn, aws=aws, identity=IDENTITY) as destination,
    ):
        yield destination


def expected(arn: str) -> dict[str, Any]:
    make = s3_record if arn == BUCKET else invocation_record
    return make(discarded([record(0), record(1)]), IDENTITY)


@pytest.mark.parametrize("arn", [QUEUE, TOPIC, BUCKET])
async def test_exactly_the_record_arrives(ministack: str, far: Far, arn: str) -> None:
    far.create(arn)
    async with destination_at(ministack, arn) as destination:
        await destination.send(discarded([record(0), record(1)]))
    (found,) = far.received(arn)
    assert json.dumps(found) == json.dumps(expected(arn))


@pytest.mark.parametrize("arn", [QUEUE, TOPIC, BUCKET])
async def test_a_send_that_is_cancelled_can_be_sent_again(ministack: str, far: Far, arn: str) -> None:
    far.create(arn)
    batch = discarded([record(0), record(1)])
    async with destination_at(ministack, arn) as destination:
        assert await everywhere(lambda: destination.send(batch), anyio.lowlevel.checkpoint)
        await destination.send(batch)
    found = far.received(arn)
    assert found
    assert all(each == expected(arn) for each in found)


async def test_a_repeated_send_leaves_one_object(ministack: str, far: Far) -> None:
    far.create(BUCKET)
    async with destination_at(ministack, BUCKET) as destination:
        await destination.send(discarded())
        await destination.send(discarded())
        await destination.send(discarded(condition="RecordAgeExceeded"))
    found = far.objects()
    assert s3_key(discarded(), IDENTITY) in found
    assert len(found) == 2
    assert {content_type for _, content_type in found.values()} == {"application/octet-stream"}


async def test_a_batch_of_six_megabytes_fits_into_an_object(ministack: str, far: Far) -> None:
    far.create(BUCKET)
    large = discarded([record(number, note='"ü' * 66_000) for number in range(20)])
    assert large.batch.lambda_event_bytes > 5_000_000
    async with destination_at(ministack, BUCKET) as destination:
        await destination.send(large)
    (found,) = far.received(BUCKET)
    assert json.loads(found["payload"]) == json.loads(large.batch.lambda_event_json())


@pytest.mark.parametrize("arn", [QUEUE, TOPIC, BUCKET])
async def test_what_is_missing_is_an_error_until_it_is_made(ministack: str, far: Far, arn: str) -> None:
    async with destination_at(ministack, arn) as destination:
        with pytest.raises(DestinationError, match=f"{arn} did not take the batch.*; make it: aws ") as failure:
            await destination.send(discarded())
        assert failure.value.code in MISSING[arn]
        far.create(arn)
        await destination.send(discarded([record(0), record(1)]))
    assert far.received(arn) == [expected(arn)]


@pytest.mark.parametrize("arn", [QUEUE, TOPIC, BUCKET])
async def test_a_server_that_is_down_is_an_error_until_it_is_up_again(ministack: str, far: Far, arn: str) -> None:
    far.create(arn)
    port = await closed_port(ministack)
    async with destination_at(f"http://127.0.0.1:{port}", arn) as destination:
        with pytest.raises(DestinationError, match="cannot reach the service") as failure:
            await destination.send(discarded())
        assert failure.value.code == "EndpointConnectionError"
        async with reachable(ministack, port=port):
            await destination.send(discarded([record(0), record(1)]))
        assert far.received(arn) == [expected(arn)]
        with pytest.raises(DestinationError):
            await destination.send(discarded())
        async with reachable(ministack, port=port):
            await destination.send(discarded())
