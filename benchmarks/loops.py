"""Peers: the loops that people write by hand, `get_records` until there is no next iterator, shard after shard.

One shard after the other, because such loops are bound by the CPU: several at once would not be faster. They keep no
checkpoints. They are measured from the first GetRecords on: the first call of a client takes longer, and is its opening.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.claims import Contender
from benchmarks.contend import Stopwatch
from benchmarks.replay_stream import RECORDS_PER_PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.claims import Measurement
    from benchmarks.replay_stream import Shape

ReadRecord: TypeAlias = dict[str, Any]
"""A record as boto3 and aioboto3 give it, typed attribute values and all."""

Take: TypeAlias = "Callable[[Sequence[ReadRecord]], int]"
"""What is done with the records of a page; says how many there were."""


async def aioboto3_loop(url: str, shape: Shape) -> Measurement:
    """What people write first, counting what came."""
    return await read_by_aioboto3(url, shape, len)


async def boto3_loop(url: str, shape: Shape) -> Measurement:
    """The same without asyncio."""
    return read_by_boto3(url, shape, len)


async def read_by_aioboto3(url: str, shape: Shape, take: Take) -> Measurement:
    import aioboto3

    count = 0
    opening: Any = aioboto3.Session().client("dynamodbstreams", endpoint_url=url)
    async with opening as client:
        starts = [await client.get_shard_iterator(**_start(shape, shard)) for shard in range(shape.shards)]
        watch = Stopwatch()
        for start in starts:
            iterator = start["ShardIterator"]
            while iterator:
                page = await client.get_records(ShardIterator=iterator, Limit=RECORDS_PER_PAGE)
                count += take(page["Records"])
                iterator = page.get("NextShardIterator")
        return watch.read(count)


def read_by_boto3(url: str, shape: Shape, take: Take) -> Measurement:
    import boto3

    count = 0
    client = boto3.client("dynamodbstreams", endpoint_url=url)
    starts = [client.get_shard_iterator(**_start(shape, shard)) for shard in range(shape.shards)]
    watch = Stopwatch()
    for start in starts:
        iterator = start["ShardIterator"]
        while iterator:
            page = client.get_records(ShardIterator=iterator, Limit=RECORDS_PER_PAGE)
            count += take(page["Records"])
            iterator = page.get("NextShardIterator")
    measurement = watch.read(count)
    client.close()
    return measurement


def _start(shape: Shape, shard: int) -> dict[str, str]:
    return {
        "StreamArn": shape.stream_arn,
        "ShardId": shape.shard_id(shard),
        "ShardIteratorType": "TRIM_HORIZON",
    }


AIOBOTO3 = Contender(name="aioboto3 get_records loop", work=aioboto3_loop, pages=3)
BOTO3 = Contender(name="boto3 get_records loop", work=boto3_loop, pages=3, quick=False)
