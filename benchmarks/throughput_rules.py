"""Claims: what the rules of an event source mapping cost.

Ours and the peer are the same pipeline over the same pages; ours has three filters, which look at every record, and four
lanes, which look at every key besides. Filters are there to leave records out: those of the first claim let some 54 % of
the replayed ones pass. Those of the second let all pass, which is the worst case: all of the work, and nothing saved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.claims import Claim, Contender, Goal
from benchmarks.floors import DROPPED
from benchmarks.pipelines import run_pipeline, streamflow

if TYPE_CHECKING:
    from benchmarks.claims import Measurement
    from benchmarks.replay_stream import Shape

# Inserts; changes of the lines 1 and 10 to 19; deletes by time to live, of which there are none.
_CHOOSING = (
    '{"eventName": ["INSERT"]}',
    '{"eventName": ["MODIFY"], "dynamodb": {"Keys": {"line": {"N": [{"prefix": "1"}]}}}}',
    '{"eventName": ["REMOVE"], "userIdentity": {"type": ["Service"], "principalId": ["dynamodb.amazonaws.com"]}}',
)
# Inserts; changes of orders; deletes of orders.
_PASSING = (
    '{"eventName": ["INSERT"]}',
    '{"eventName": ["MODIFY"], "dynamodb": {"Keys": {"order": {"S": [{"prefix": "order-"}]}}}}',
    '{"eventName": ["REMOVE"], "dynamodb": {"Keys": {"line": {"N": [{"anything-but": ["0"]}]}}}}',
)


async def with_rules(url: str, shape: Shape) -> Measurement:
    """Three filters that leave out almost half of the records, and four batches of each shard at the same time."""
    return await run_pipeline(url, shape, filters=_CHOOSING, parallelization_factor=4)


async def with_rules_all_pass(url: str, shape: Shape) -> Measurement:
    """Three filters that leave nothing out, and four batches of each shard at the same time."""
    return await run_pipeline(url, shape, filters=_PASSING, parallelization_factor=4)


# As in `throughput_envelope`, so that it runs once for both.
_WITHOUT = Contender(name="streamflow, neither", work=streamflow, pages=150)

CLAIM = Claim(
    name="throughput_rules",
    words=(
        "The same pipeline with three filters, which let 54 % of the records pass, and a parallelization factor of 4,\n"
        "batches of 100 in each lane: it reads at least 60 % of the records per second that it reads without them."
    ),
    unit="records/s",
    ours=Contender(name="streamflow, 3 filters, 4 lanes", work=with_rules, pages=60),
    peers=(_WITHOUT,),
    floors=(DROPPED,),
    goal=Goal(peer_ratio_min=0.6),
)

WORST_CASE = Claim(
    name="throughput_rules_all_pass",
    words="The same with filters that leave nothing out: all of their work, and nothing saved. Nothing is promised here.",
    unit="records/s",
    ours=Contender(name="streamflow, 3 filters, 4 lanes", work=with_rules_all_pass, pages=40),
    peers=(_WITHOUT,),
    floors=(DROPPED,),
    goal=Goal(),
)
