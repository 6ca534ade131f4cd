"""A command of one file with click and aioboto3, imported at the top as people do: reads a stream."""

from __future__ import annotations

import asyncio
from typing import Any

import aioboto3
import click

from benchmarks.cold_programs.marking import mark


@click.command()
@click.argument("arn")
def main(arn: str) -> None:
    """Print how many records the stream ARN holds."""
    click.echo(asyncio.run(_read(arn)))


async def _read(arn: str) -> int:
    count = 0
    opening: Any = aioboto3.Session().client("dynamodbstreams")
    async with opening as client:
        described = await client.describe_stream(StreamArn=arn)
        for shard in described["StreamDescription"]["Shards"]:
            answer = await client.get_shard_iterator(
                StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )
            iterator = answer["ShardIterator"]
            while iterator:
                page = await client.get_records(ShardIterator=iterator)
                for _record in page["Records"]:
                    if not count:
                        mark()
                    count += 1
                iterator = page.get("NextShardIterator")
    return count


if __name__ == "__main__":
    main()
