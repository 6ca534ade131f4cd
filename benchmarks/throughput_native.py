"""Claim: a handler that reads items as native Python gets them far faster than a loop with boto3's own deserializer.

Both read every attribute of the new image, or of the old one where the item was deleted, with numbers as `Decimal`:
nothing is gained by leaving an attribute undecoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from benchmarks.claims import Claim, Contender, Goal
from benchmarks.floors import DROPPED, PARSED
from benchmarks.loops import read_by_aioboto3, read_by_boto3
from benchmarks.pipelines import run_pipeline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from benchmarks.claims import Measurement
    from benchmarks.loops import ReadRecord
    from benchmarks.replay_stream import Shape
    from streamflow.records import Record

Item: TypeAlias = "Mapping[str, Any]"


async def streamflow(url: str, shape: Shape) -> Measurement:
    return await run_pipeline(url, shape, take=lambda batch: read_through(our_items(batch)))


async def aioboto3_loop(url: str, shape: Shape) -> Measurement:
    return await read_by_aioboto3(url, shape, lambda records: read_through(boto3_items(records)))


async def boto3_loop(url: str, shape: Shape) -> Measurement:
    return read_by_boto3(url, shape, lambda records: read_through(boto3_items(records)))


def read_through(items: Iterable[Item]) -> int:
    """Look at every attribute; how many items there were."""
    count = 0
    for item in items:
        for _value in item.values():
            pass
        count += 1
    return count


def our_items(records: Iterable[Record]) -> Iterator[Item]:
    for record in records:
        image = record.new_image if record.event_name != "REMOVE" else record.old_image
        assert image is not None
        yield image


def boto3_items(records: Iterable[ReadRecord]) -> Iterator[Item]:
    """As boto3's documentation shows it."""
    from boto3.dynamodb.types import TypeDeserializer

    deserialize = TypeDeserializer().deserialize
    for record in records:
        change = record["dynamodb"]
        image = change["NewImage"] if record["eventName"] != "REMOVE" else change["OldImage"]
        yield {name: deserialize(value) for name, value in image.items()}


CLAIM = Claim(
    name="throughput_native",
    words=(
        "The same pipeline, whose handler reads every attribute of each item as native Python, numbers as Decimal: it gets\n"
        "them many times faster than an aioboto3 loop that gives the same images to boto3's TypeDeserializer."
    ),
    unit="records/s",
    ours=Contender(name="streamflow, new_image", work=streamflow, pages=20),
    peers=(
        Contender(name="aioboto3 loop, TypeDeserializer", work=aioboto3_loop, pages=3),
        Contender(name="boto3 loop, TypeDeserializer", work=boto3_loop, pages=3, quick=False),
    ),
    floors=(DROPPED, PARSED),
    goal=Goal(peer_ratio_min=18.0),
)
