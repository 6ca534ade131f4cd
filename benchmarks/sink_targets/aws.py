"""Services of AWS, as MiniStack has them: the clients are real, and what they talk to is an emulator.

The loops call the batch operation of each service with as many records as it takes, one call after the other.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count as counting
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import orjson

from benchmarks.replay_stream import REGION
from benchmarks.sink_targets.target import (
    Pages,
    Place,
    Target,
    is_delete,
    item_key,
    lambda_record,
    on_core,
    own_name,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from benchmarks.sink_targets.target import Record, WritePage
    from streamflow.sdk import SinkDeclaration

Client: TypeAlias = Any
Clients: TypeAlias = Callable[[str], Awaitable[Client]]
"""By the name of the service; open for as long as the place is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """`write` writes `records_max` records, by hand, and raises where one of them was not taken."""

    sink: SinkDeclaration
    records_max: int
    write: Callable[[Client, Sequence[Record]], Awaitable[None]]
    count: Callable[[], Awaitable[int]]


@contextmanager
def _serve(core: int) -> Iterator[str]:
    with on_core(core):
        from servers.ministack import running_ministack

        with running_ministack() as endpoint:
            yield endpoint


@asynccontextmanager
async def _open_place(
    service: str, prepare: Callable[[Clients, dict[str, str]], Awaitable[_Prepared]], endpoint: str
) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:

        async def client(name: str) -> Client:
            return await stack.enter_async_context(_client(name, endpoint))

        prepared = await prepare(client, {"endpoint_url": endpoint, "region": REGION})
        yield Place(
            sink=prepared.sink, open_loop=partial(_open_loop, service, endpoint, prepared), count=prepared.count
        )


@asynccontextmanager
async def _open_loop(service: str, endpoint: str, prepared: _Prepared) -> AsyncIterator[WritePage]:
    async with _client(service, endpoint) as client:

        async def write(records: Sequence[Record]) -> None:
            for start in range(0, len(records), prepared.records_max):
                await prepared.write(client, records[start : start + prepared.records_max])

        yield write


def _client(service: str, endpoint: str) -> Any:
    import aioboto3

    return aioboto3.Session().client(service, endpoint_url=endpoint)


def _text(record: Record) -> str:
    return orjson.dumps(lambda_record(record)).decode()


def _all_taken(failures: object) -> None:
    if failures:
        raise RuntimeError("a record was not taken")


# --- queues and topics -----------------------------------------------------------------------------------------------


async def _sqs(clients: Clients, aws: dict[str, str]) -> _Prepared:
    from streamflow_aws.sqs import sqs

    client = await clients("sqs")
    url = (await client.create_queue(QueueName=own_name()))["QueueUrl"]

    async def write(client: Client, records: Sequence[Record]) -> None:
        entries = [
            {"Id": str(place), "MessageBody": _text(record), "MessageAttributes": _attributes(record)}
            for place, record in enumerate(records)
        ]
        answer = await client.send_message_batch(QueueUrl=url, Entries=entries)
        _all_taken(answer.get("Failed"))

    return _Prepared(
        sink=sqs(queue_url=url, aws=aws), records_max=10, write=write, count=partial(_messages, client, url)
    )


async def _sns(clients: Clients, aws: dict[str, str]) -> _Prepared:
    from streamflow_aws.sns import sns

    client, queues = await clients("sns"), await clients("sqs")
    topic = (await client.create_topic(Name=own_name()))["TopicArn"]
    url, arn = await _queue(queues)
    await client.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    async def write(client: Client, records: Sequence[Record]) -> None:
        entries = [
            {"Id": str(place), "Message": _text(record), "MessageAttributes": _attributes(record)}
            for place, record in enumerate(records)
        ]
        answer = await client.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
        _all_taken(answer.get("Failed"))

    return _Prepared(
        sink=sns(topic_arn=topic, aws=aws), records_max=10, write=write, count=partial(_messages, queues, url)
    )


async def _eventbridge(clients: Clients, aws: dict[str, str]) -> _Prepared:
    from streamflow_aws.eventbridge import eventbridge

    client, queues = await clients("events"), await clients("sqs")
    bus = own_name()
    await client.create_event_bus(Name=bus)
    url, arn = await _queue(queues)
    await client.put_rule(Name=bus, EventBusName=bus, EventPattern='{"source":["streamflow"]}')
    await client.put_targets(Rule=bus, EventBusName=bus, Targets=[{"Id": "queue", "Arn": arn}])

    async def write(client: Client, records: Sequence[Record]) -> None:
        entries = [
            {"EventBusName": bus, "Source": "streamflow", "DetailType": record["eventName"], "Detail": _text(record)}
            for record in records
        ]
        answer = await client.put_events(Entries=entries)
        _all_taken(answer["FailedEntryCount"])

    return _Prepared(
        sink=eventbridge(bus=bus, aws=aws), records_max=10, write=write, count=partial(_messages, queues, url)
    )


def _attributes(record: Record) -> dict[str, dict[str, str]]:
    """Those that the sink sends."""
    values = {
        "event_id": record["eventID"],
        "event_name": record["eventName"],
        "sequence_number": record["dynamodb"]["SequenceNumber"],
        "shard_id": "shard",
    }
    return {name: {"DataType": "String", "StringValue": value} for name, value in values.items()}


async def _queue(client: Client) -> tuple[str, str]:
    """URL and ARN of a queue that shows what arrived."""
    url = (await client.create_queue(QueueName=own_name()))["QueueUrl"]
    answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, answer["Attributes"]["QueueArn"]


async def _messages(client: Client, url: str) -> int:
    name = "ApproximateNumberOfMessages"
    answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])
    return int(answer["Attributes"][name])


# --- streams ---------------------------------------------------------------------------------------------------------


async def _kinesis(clients: Clients, aws: dict[str, str]) -> _Prepared:
    from streamflow_aws.kinesis import kinesis

    client = await clients("kinesis")
    stream = own_name()
    await client.create_stream(StreamName=stream, ShardCount=4)
    await client.get_waiter("stream_exists").wait(StreamName=stream, WaiterConfig={"Delay": 1})

    async def write(client: Client, records: Sequence[Record]) -> None:
        entries = [{"Data": _text(record), "PartitionKey": item_key(record)} for record in records]
        answer = await client.put_records(StreamName=stream, Records=entries)
        _all_taken(answer["FailedRecordCount"])

    async def count() -> int:
        found = 0
        for shard in (await client.list_shards(StreamName=stream))["Shards"]:
            answer = await client.get_shard_iterator(
                StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )
            iterator = answer["ShardIterator"]
            while (page := await client.get_records(ShardIterator=iterator))["Records"]:
                found += len(page["Records"])
                iterator = page["NextShardIterator"]
        return found

    return _Prepared(sink=kinesis(stream=stream, aws=aws), records_max=500, write=write, count=count)


async def _firehose(clients: Clients, aws: dict[str, str]) -> _Prepared:
    from streamflow_aws.firehose import firehose

    client, objects = await clients("firehose"), await clients("s3")
    stream = own_name()
    bucket = stream.replace("_", "-")
    await objects.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    await client.create_delivery_stream(
        DeliveryStreamName=stream,
        ExtendedS3DestinationConfiguration={
            "BucketARN": f"arn:aws:s3:::{bucket}",
            "RoleARN": "arn:aws:iam::000000000000:role/firehose",
        },
    )

    async def write(client: Client, records: Sequence[Record]) -> None:
        entries = [{"Data": _text(record) + "\n"} for record in records]
        answer = await client.put_record_batch(DeliveryStreamName=stream, Records=entries)
        _all_taken(answer["FailedPutCount"])

    async def count() -> int:
        """MiniStack makes an object of each record, at once."""
        pages = objects.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return sum([len(page.get("Contents", ())) async for page in pages])

    return _Prepared(sink=firehose(stream=stream, aws=aws), records_max=500, write=write, count=count)


# --- items and objects -----------------------------------------------------------------------------------------------


async def _dynamodb(clients: Clients, aws: dict[str, str]) -> _Prepared:
    from streamflow_aws.dynamodb import dynamodb

    client = await clients("dynamodb")
    table = own_name()
    types = {"order": "S", "line": "N"}
    await client.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": type_} for name, type_ in types.items()],
        KeySchema=[{"AttributeName": "order", "KeyType": "HASH"}, {"AttributeName": "line", "KeyType": "RANGE"}],
    )

    async def put(client: Client, record: Record, limiter: anyio.CapacityLimiter) -> None:
        version = {"S": record["dynamodb"]["SequenceNumber"]}
        image = record["dynamodb"]["Keys"] if is_delete(record) else record["dynamodb"]["NewImage"]
        async with limiter:
            await client.put_item(
                TableName=table,
                Item={**image, "version": version},
                ConditionExpression="attribute_not_exists(version) OR version < :version",
                ExpressionAttributeValues={":version": version},
            )

    async def write(client: Client, records: Sequence[Record]) -> None:
        limiter = anyio.CapacityLimiter(_PUTS_AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for record in records:
                tasks.start_soon(put, client, record, limiter)

    async def count() -> int:
        pages = client.get_paginator("scan").paginate(
            TableName=table,
            Select="COUNT",
            FilterExpression="attribute_exists(#note)",
            ExpressionAttributeNames={"#note": "note"},
        )
        return sum([int(page["Count"]) async for page in pages])

    return _Prepared(sink=dynamodb(table=table, aws=aws), records_max=1_000, write=write, count=count)


async def _s3(clients: Clients, aws: dict[str, str]) -> _Prepared:
    import zstandard

    from streamflow_aws.s3 import s3

    client = await clients("s3")
    bucket = own_name().replace("_", "-")
    await client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    numbers = counting()

    async def write(client: Client, records: Sequence[Record]) -> None:
        body = zstandard.compress("\n".join([*map(_text, records), ""]).encode())
        await client.put_object(Bucket=bucket, Key=f"changes/{next(numbers)}.jsonl.zst", Body=body)

    async def count() -> int:
        lines = 0
        async for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", ()):
                answer = await client.get_object(Bucket=bucket, Key=found["Key"])
                reader = zstandard.ZstdDecompressor().stream_reader(await answer["Body"].read())
                lines += reader.read().count(b"\n")
        return lines

    return _Prepared(sink=s3(bucket=bucket, prefix="changes", aws=aws), records_max=1_000, write=write, count=count)


# --- calls -----------------------------------------------------------------------------------------------------------

_COUNTING = """
import os

def handler(event, context):
    with open(os.environ["COUNTS"], "a") as file:
        file.write(f"{len(event['Records'])}\\n")
"""


async def _lambda_invoke(clients: Clients, aws: dict[str, str]) -> _Prepared:
    from streamflow_aws.lambda_invoke import lambda_invoke

    client = await clients("lambda")
    name = own_name()
    counts = Path(gettempdir()) / f"{name}.counts"
    counts.unlink(missing_ok=True)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("function.py", _COUNTING)
    await client.create_function(
        FunctionName=name,
        Runtime="python3.11",
        Role="arn:aws:iam::000000000000:role/orders",
        Handler="function.handler",
        Code={"ZipFile": archive.getvalue()},
        Environment={"Variables": {"COUNTS": str(counts)}},
    )

    async def write(client: Client, records: Sequence[Record]) -> None:
        event = orjson.dumps({"Records": [lambda_record(record) for record in records]})
        answer = await client.invoke(FunctionName=name, Payload=event)
        _all_taken(answer.get("FunctionError"))

    async def count() -> int:
        found = sum(map(int, counts.read_text().split()))
        counts.unlink()
        return found

    return _Prepared(sink=lambda_invoke(function=name, aws=aws), records_max=100, write=write, count=count)


async def _aws_call(clients: Clients, aws: dict[str, str]) -> _Prepared:
    from streamflow_aws.aws_call import aws_call

    client = await clients("sqs")
    url, _ = await _queue(client)

    async def write(client: Client, records: Sequence[Record]) -> None:
        async with anyio.create_task_group() as tasks:
            for record in records:
                tasks.start_soon(partial(client.send_message, QueueUrl=url, MessageBody=_text(record)))

    parameters = {"QueueUrl": url, "MessageBody": "${payload}"}
    return _Prepared(
        sink=aws_call(service="sqs", operation="SendMessage", parameters=parameters, aws=aws),
        records_max=8,
        write=write,
        count=partial(_messages, client, url),
    )


def _target(name: str, service: str, operation: str, prepare: Any, pages: Pages, **others: Any) -> Target:
    return Target(
        name=name,
        server="MiniStack, an emulator of AWS",
        loop=f"aioboto3 {operation}",
        pages=pages,
        serve=_serve,
        open_place=partial(_open_place, service, prepare),
        **{"holds": "changes", **others},
    )


# As many as the sink has of them; no item is in a page twice.
_PUTS_AT_ONCE = 16

_FEW = Pages(ours=2, peer=2, floor=2)

TARGETS = (
    _target("sqs", "sqs", "send_message_batch of 10", _sqs, _FEW),
    _target("sns", "sns", "publish_batch of 10", _sns, _FEW),
    _target("eventbridge", "events", "put_events of 10", _eventbridge, _FEW),
    _target("kinesis", "kinesis", "put_records of 500", _kinesis, Pages(ours=10, peer=5, floor=10)),
    _target("firehose", "firehose", "put_record_batch of 500", _firehose, Pages(ours=4, peer=4, floor=4)),
    _target(
        "dynamodb",
        "dynamodb",
        "put_item of a newer version, 16 at a time: batches know no versions",
        _dynamodb,
        _FEW,
        holds="items",
    ),
    _target("lambda_invoke", "lambda", "invoke with 100 records", _lambda_invoke, _FEW),
    _target("aws_call", "sqs", "send_message, 8 at a time", _aws_call, Pages(ours=1, peer=1, floor=1)),
    _target("s3", "s3", "put_object of 1000 records", _s3, Pages(ours=10, peer=5, floor=10)),
)
