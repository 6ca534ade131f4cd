"""Batches made into what a target takes: what is refused holds back what must not overtake it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from streamflow.sdk import RecordRefusedError, encode_in_order
from streamflow.testing.sink_contract import Changes

if TYPE_CHECKING:
    from streamflow.records import Record

pytestmark = pytest.mark.anyio


def _encode(record: Record) -> str:
    if "refused" in (record.new_image or {}):
        raise RecordRefusedError("it cannot be held")
    return record.sequence_number


async def test_all_records_are_encoded_in_their_order() -> None:
    changes = Changes()
    changes.put_many(600, items=7)
    encoded = await encode_in_order(changes.batch(*changes.records), _encode)
    assert encoded.entries == [record.sequence_number for record in changes.records]
    assert encoded.failures == []


@pytest.mark.parametrize(
    ("stops_at_first", "kinds"),
    [
        (False, {1: "refused", 2: "waiting", 4: "refused"}),
        (True, {1: "refused", 2: "waiting", 3: "waiting", 4: "waiting"}),
    ],
    ids=["item", "shard"],
)
async def test_what_is_refused_holds_back_later_changes(stops_at_first: bool, kinds: dict[int, str]) -> None:
    changes = Changes()
    changes.put("good")
    changes.put("bad", refused={"BOOL": True})
    changes.put("bad")
    changes.put("good")
    changes.put("worse", refused={"BOOL": True})
    encoded = await encode_in_order(changes.batch(*changes.records), _encode, stops_at_first=stops_at_first)
    assert {changes.records.index(each.record): each.kind for each in encoded.failures} == kinds
    left = [record.sequence_number for place, record in enumerate(changes.records) if place not in kinds]
    assert encoded.entries == left


async def test_other_tasks_come_in_between() -> None:
    changes = Changes()
    changes.put_many(600)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        await encode_in_order(changes.batch(*changes.records), _encode)
        tasks.cancel_scope.cancel()
    assert turns >= 2
