"""`streamflow shards` draws lineage."""

from __future__ import annotations

from streamflow.cli.shards import shard_rows, tree
from streamflow.leases import STREAM_ROW, Gap, Lease, LeaseState
from streamflow.positions import SHARD_END, TRIM_HORIZON, Position
from streamflow.records import Shard

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"


def shard(shard_id: str, *parents: str, closed: bool = False) -> Shard:
    return Shard(stream_arn=ARN, shard_id=shard_id, parents=parents, closed=closed)


def lease(shard_id: str, checkpoint: Position = TRIM_HORIZON, **fields: object) -> Lease:
    return Lease(pipeline="orders", stream_arn=ARN, shard_id=shard_id, checkpoint=checkpoint, **fields)  # type: ignore[arg-type]


def drawn(shards: list[Shard], leases: list[Lease]) -> list[str]:
    return tree(shard_rows({each.shard_id: each for each in shards}, leases))


def test_children_are_below_their_parents() -> None:
    shards = [
        shard("e", "gone"),
        shard("a", closed=True),
        shard("b", "a", closed=True),
        shard("c", "a"),
        shard("d", "b"),
    ]
    assert drawn(shards, []) == [
        "a        closed",
        "├─ b     closed",
        "│  └─ d  open",
        "└─ c     open",
        "e        open",
    ]


def test_a_merged_shard_is_shown_once() -> None:
    assert drawn([shard("a", closed=True), shard("b", closed=True), shard("c", "a", "b")], []) == [
        "a     closed",
        "└─ c  open",
        "b     closed",
    ]


def test_positions_owners_and_gaps_of_the_store_are_shown() -> None:
    gap = Gap(lost_from=Position.after("7"), found_at_s=0.0, cause="trimmed")
    leases = [
        lease(STREAM_ROW),
        lease("a", SHARD_END, state=LeaseState.ENDED),
        lease("b", Position.after("42"), owner="orders-0", gaps=(gap,), parents=("a",)),
    ]
    assert drawn([shard("b", "a")], leases) == [
        "a     forgotten  SHARD_END  owner nobody",
        "└─ b  open    AFTER_SEQUENCE_NUMBER:42  owner orders-0  LOST from AFTER_SEQUENCE_NUMBER:7 (trimmed)",
    ]


def test_a_row_is_ready_for_json() -> None:
    [row] = shard_rows({"a": shard("a")}, [lease("a", owner="orders-0", epoch=3)]).values()
    assert row == {
        "shard_id": "a",
        "parents": [],
        "state": "open",
        "lease": "active",
        "checkpoint": "TRIM_HORIZON",
        "owner": "orders-0",
        "epoch": 3,
        "gaps": [],
    }


def test_thousands_of_generations_are_drawn_without_recursion() -> None:
    generations = 3_000
    shards = [shard(f"{n:05}", *([f"{n - 1:05}"] if n else [])) for n in range(generations)]
    assert len(drawn(shards, [])) == generations


def test_no_shards_draw_nothing() -> None:
    assert drawn([], []) == []
