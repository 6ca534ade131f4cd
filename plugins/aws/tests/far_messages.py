"""The far end of the messaging sinks, seen with boto3 on MiniStack: everything that ever arrived, oldest first."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Sequence

REGION = "us-east-1"
ACCOUNT = "000000000000"


class Queue:
    """A queue and what was received from it: receiving takes messages away. `messages` are as boto3 has them."""

    def __init__(self, endpoint: str, name: str, *, region: str = REGION, **attributes: str) -> None:
        self._sqs = client("sqs", endpoint, region=region)
        if name.endswith(".fifo"):
            attributes = {"FifoQueue": "true", **attributes}
        self.url = str(self._sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])
        self.arn = f"arn:aws:sqs:{region}:{ACCOUNT}:{name}"
        self.messages: list[dict[str, Any]] = []

    def receive(self) -> list[str]:
        """The bodies of all messages that ever came."""
        while found := self._received():
            self.messages += found
            handles = [
                {"Id": str(place), "ReceiptHandle": message["ReceiptHandle"]} for place, message in enumerate(found)
            ]
            assert not self._sqs.delete_message_batch(QueueUrl=self.url, Entries=handles).get("Failed")
        return [message["Body"] for message in self.messages]

    def _received(self) -> Sequence[dict[str, Any]]:
        answer = self._sqs.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], AttributeNames=["All"]
        )
        found: list[dict[str, Any]] = answer.get("Messages", [])
        return found

    def close(self) -> None:
        self._sqs.close()


class Topic:
    """A topic with a queue that subscribes to it."""

    def __init__(self, endpoint: str, name: str) -> None:
        suffix = ".fifo" if name.endswith(".fifo") else ""
        self._sns = client("sns", endpoint)
        self.arn = str(
            self._sns.create_topic(Name=name, Attributes={"FifoTopic": "true"} if suffix else {})["TopicArn"]
        )
        self.queue = Queue(endpoint, f"subscriber{suffix}")
        self._sns.subscribe(TopicArn=self.arn, Protocol="sqs", Endpoint=self.queue.arn)

    def notifications(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.queue.receive()]

    def close(self) -> None:
        self.queue.close()
        self._sns.close()


class Bus:
    """An event bus with a rule that sends every event of one source to a queue."""

    def __init__(self, endpoint: str, name: str, *, source: str) -> None:
        self._events = client("events", endpoint)
        self._events.create_event_bus(Name=name)
        self.queue = Queue(endpoint, "events")
        self._events.put_rule(Name="all", EventBusName=name, EventPattern=json.dumps({"source": [source]}))
        self._events.put_targets(Rule="all", EventBusName=name, Targets=[{"Id": "queue", "Arn": self.queue.arn}])

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.queue.receive()]

    def close(self) -> None:
        self.queue.close()
        self._events.close()


class Stream:
    """A Kinesis stream of several shards."""

    def __init__(self, endpoint: str, name: str, *, shards: int = 2) -> None:
        self.name = name
        self._kinesis = client("kinesis", endpoint)
        self._kinesis.create_stream(StreamName=name, ShardCount=shards)
        self._kinesis.get_waiter("stream_exists").wait(StreamName=name)

    def records(self) -> list[dict[str, Any]]:
        """All records, shard by shard."""
        found: list[dict[str, Any]] = []
        for shard in self._kinesis.list_shards(StreamName=self.name)["Shards"]:
            iterator = self._kinesis.get_shard_iterator(
                StreamName=self.name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )["ShardIterator"]
            while records := (page := self._kinesis.get_records(ShardIterator=iterator))["Records"]:
                found += records
                iterator = page["NextShardIterator"]
        return found

    def close(self) -> None:
        self._kinesis.close()


class Delivery:
    """A Firehose stream that delivers to a bucket."""

    def __init__(self, endpoint: str, name: str) -> None:
        self.name = name
        self._bucket = f"{name}-delivered"
        self._s3, self._firehose = client("s3", endpoint), client("firehose", endpoint)
        self._s3.create_bucket(Bucket=self._bucket)
        self._firehose.create_delivery_stream(
            DeliveryStreamName=name,
            DeliveryStreamType="DirectPut",
            ExtendedS3DestinationConfiguration={
                "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/firehose",
                "BucketARN": f"arn:aws:s3:::{self._bucket}",
            },
        )

    def lines(self) -> list[bytes]:
        found: list[bytes] = []
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket):
            for each in page.get("Contents", []):
                found += self._s3.get_object(Bucket=self._bucket, Key=each["Key"])["Body"].read().splitlines()
        return found

    def close(self) -> None:
        self._s3.close()
        self._firehose.close()


def client(service: str, endpoint: str, *, region: str = REGION) -> Any:
    """With the keys of the environment as they are now; boto3 itself keeps those of the first client that it makes."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"total_max_attempts": 1}),
    )
