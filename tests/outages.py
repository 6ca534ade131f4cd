"""Destinations on a real server: what is in them, and outages of the way there."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import anyio.abc
import boto3

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

QUEUE = "arn:aws:sqs:us-east-1:000000000000:orders-failed"
TOPIC = "arn:aws:sns:us-east-1:000000000000:orders-failed"
BUCKET = "arn:aws:s3:::orders-failed"
_NAME = "orders-failed"
_HOST = "127.0.0.1"


class Failed:
    """The far end of one destination, seen with boto3. `records` are those that were taken out of it, in order of arrival."""

    def __init__(self, endpoint: str, arn: str) -> None:
        self.arn = arn
        self.records: list[dict[str, Any]] = []
        self._queue_url = ""
        self._sqs, self._sns, self._s3 = (
            boto3.client(service, endpoint_url=endpoint, region_name="us-east-1") for service in ("sqs", "sns", "s3")
        )

    def create(self) -> None:
        """Make the queue, the topic with a queue that subscribes to it, or the bucket."""
        if self.arn == BUCKET:
            self._s3.create_bucket(Bucket=_NAME)
            return
        self._queue_url = self._sqs.create_queue(QueueName=_NAME)["QueueUrl"]
        if self.arn == TOPIC:
            self._sns.create_topic(Name=_NAME)
            self._sns.subscribe(TopicArn=TOPIC, Protocol="sqs", Endpoint=QUEUE)

    def delete(self) -> None:
        """Take out what is there, and delete the destination."""
        self.take()
        if self.arn == BUCKET:
            self._s3.delete_bucket(Bucket=_NAME)
            return
        if self.arn == TOPIC:
            self._sns.delete_topic(TopicArn=TOPIC)
        self._sqs.delete_queue(QueueUrl=self._queue_url)

    def take(self) -> int:
        """Take out what is there now; the answer is how many records were ever taken."""
        if self.arn == BUCKET:
            self._take_objects()
        else:
            self._take_messages()
        return len(self.records)

    def _take_objects(self) -> None:
        for found in self._s3.list_objects_v2(Bucket=_NAME).get("Contents", []):
            body = self._s3.get_object(Bucket=_NAME, Key=found["Key"])["Body"]
            self.records.append(json.loads(body.read()))
            self._s3.delete_object(Bucket=_NAME, Key=found["Key"])

    def _take_messages(self) -> None:
        while messages := self._received():
            for message in messages:
                body = json.loads(message["Body"])
                self.records.append(json.loads(body["Message"]) if self.arn == TOPIC else body)
                self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"])

    def _received(self) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(QueueUrl=self._queue_url, MaxNumberOfMessages=10)
        found: list[dict[str, Any]] = answer.get("Messages", [])
        return found

    def close(self) -> None:
        for client in (self._sqs, self._sns, self._s3):
            client.close()


async def closed_port(endpoint: str) -> int:
    """A port at which every connection is refused, until `reachable` opens it."""
    async with reachable(endpoint, port=0) as port:
        return port


@asynccontextmanager
async def reachable(endpoint: str, *, port: int) -> AsyncIterator[int]:
    """Let the server at `endpoint` be reached at this port, too, for the length of the block; 0 looks for one. Yields it."""
    there = urlsplit(endpoint)

    async def relay(near: anyio.abc.SocketStream) -> None:
        far = await anyio.connect_tcp(str(there.hostname), int(there.port or 0))
        async with near, far, anyio.create_task_group() as pumps:
            pumps.start_soon(_pump, near, far)
            await _pump(far, near)
            pumps.cancel_scope.cancel()

    listener = await anyio.create_tcp_listener(local_host=_HOST, local_port=port)
    async with listener, anyio.create_task_group() as connections:
        connections.start_soon(listener.serve, relay)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        connections.cancel_scope.cancel()


async def _pump(source: anyio.abc.SocketStream, sink: anyio.abc.SocketStream) -> None:
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        async for chunk in source:
            await sink.send(chunk)
        await sink.send_eof()
