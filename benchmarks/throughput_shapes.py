"""Claims: how the envelope's speed depends on what the records are like. Nothing is promised; in full runs only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.claims import Claim, Contender, Goal
from benchmarks.floors import raw_sockets, read_and_drop, read_and_parse
from benchmarks.loops import aioboto3_loop
from benchmarks.pipelines import streamflow

if TYPE_CHECKING:
    from benchmarks.replay_stream import Content


def _claim(content: Content, words: str, *, ours: int, peer: int, dropped: int, parsed: int) -> Claim:
    """The counting handler over other pages; the numbers are pages of each shard."""
    return Claim(
        name=f"throughput_envelope_{content}",
        words=words,
        unit="records/s",
        content=content,
        ours=Contender(name="streamflow", work=streamflow, pages=ours),
        peers=(Contender(name="aioboto3 get_records loop", work=aioboto3_loop, pages=peer),),
        floors=(
            Contender(name="aiohttp, bytes dropped", work=read_and_drop, pages=dropped),
            Contender(name="aiohttp, orjson.loads", work=read_and_parse, pages=parsed),
        ),
        ceiling=Contender(name="replay server, raw sockets", work=raw_sockets, pages=dropped),
        goal=Goal(),
        quick=False,
    )


CLAIMS = (
    _claim(
        "small",
        "The handler that counts, over records of 160 bytes, keys only: what is left is the cost of a record itself.",
        ours=250,
        peer=4,
        dropped=1_000,
        parsed=250,
    ),
    _claim(
        "large",
        "The handler that counts, over records of 20 KB, 50 to a page of 1 MB: what is left is the cost of a byte.",
        ours=200,
        peer=30,
        dropped=400,
        parsed=100,
    ),
    _claim(
        "recorded",
        "The handler that counts, over pages of 100 records as MiniStack answered them, with its spaces and its escapes.",
        ours=400,
        peer=12,
        dropped=1_000,
        parsed=300,
    ),
)
