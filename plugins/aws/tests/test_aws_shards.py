"""What a writer knows of its shards: bounded, and one task at a time for each."""

from __future__ import annotations

import anyio
import pytest

from streamflow.sdk import Shard
from streamflow_aws.shards import Shards

pytestmark = pytest.mark.anyio


def shard(number: int) -> Shard:
    return Shard(stream_arn="arn", shard_id=f"shard-{number}")


async def test_the_shard_that_was_not_used_for_longest_is_forgotten() -> None:
    shards: Shards[int] = Shards(shards_max=2)
    for number in (1, 2, 1, 3):
        async with shards.hold(shard(number)) as kept:
            kept.state = kept.state or number
    assert len(shards) == 2
    async with shards.hold(shard(1)) as kept:
        assert kept.state == 1
    async with shards.hold(shard(2)) as kept:
        assert kept.state is None


async def test_a_shard_that_is_held_is_not_forgotten() -> None:
    shards: Shards[int] = Shards(shards_max=1)
    async with shards.hold(shard(1)) as held, shards.hold(shard(2)), shards.hold(shard(3)):
        held.state = 1
        assert len(shards) == 3
    async with shards.hold(shard(1)) as kept:
        assert kept.state == 1


async def test_one_task_at_a_time_holds_a_shard() -> None:
    shards: Shards[int] = Shards()
    holding = most = 0

    async def work(number: int) -> None:
        nonlocal holding, most
        async with shards.hold(shard(number % 2)):
            holding += 1
            most = max(most, holding)
            await anyio.lowlevel.checkpoint()
            holding -= 1

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(work, number)
    assert most == 2
