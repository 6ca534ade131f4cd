"""Claim: a handler that counts records gets them far faster than a plain aioboto3 loop hands them over.

Every contender reads the pages of the same closed shards, to their end, in one process on one core.
"""

from __future__ import annotations

from benchmarks.claims import Claim, Contender, Goal
from benchmarks.floors import CEILING, DROPPED, PARSED
from benchmarks.loops import AIOBOTO3, BOTO3
from benchmarks.pipelines import streamflow

CLAIM = Claim(
    name="throughput_envelope",
    words=(
        "One process on one core, with metrics, checkpoints in SQLite, four layers of middleware and batches of 100:\n"
        "a handler that counts gets records many times faster than a plain aioboto3 get_records loop over the same pages."
    ),
    unit="records/s",
    ours=Contender(name="streamflow", work=streamflow, pages=150),
    peers=(AIOBOTO3, BOTO3),
    floors=(DROPPED, PARSED),
    ceiling=CEILING,
    goal=Goal(peer_ratio_min=55.0, floor_ratio_max=4.0),
)
