"""Claim: the rules of an event source mapping cost less than half of the engine's speed.

Ours and the peer are the same pipeline over the same pages; ours has filters that look at every record and lanes that look
at every key besides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.claims import Claim, Contender, Goal
from benchmarks.throughput_envelope import read_and_drop, run_pipeline, streamflow

if TYPE_CHECKING:
    from benchmarks.claims import Measurement
    from benchmarks.replay_stream import Shape

# Inserts; changes of orders; deletes of any line but the first. Of the replayed records some 0.3 % match none of them.
_FILTERS = (
    '{"eventName": ["INSERT"]}',
    '{"eventName": ["MODIFY"], "dynamodb": {"Keys": {"order": {"S": [{"prefix": "order-"}]}}}}',
    '{"eventName": ["REMOVE"], "dynamodb": {"Keys": {"line": {"N": [{"anything-but": ["1"]}]}}}}',
)


async def streamflow_with_rules(url: str, shape: Shape) -> Measurement:
    """Three filters, and four batches of each shard at the same time."""
    return await run_pipeline(url, shape, filters=_FILTERS, parallelization_factor=4)


CLAIM = Claim(
    name="throughput_rules",
    words=(
        "The same pipeline with three filters and a parallelization factor of 4, batches of 100 in each lane: it keeps at\n"
        "least 60 % of the throughput that it has without them."
    ),
    unit="records/s",
    ours=Contender(name="streamflow, 3 filters, 4 lanes", work=streamflow_with_rules, pages=200),
    peers=(Contender(name="streamflow, neither", work=streamflow, pages=400),),
    floors=(Contender(name="aiohttp, bytes dropped", work=read_and_drop, pages=800),),
    goal=Goal(peer_ratio_min=0.6),
)
