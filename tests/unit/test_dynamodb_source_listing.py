"""The listing of shards, from pages that are of different moments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripted_aws import ScriptedWire
from streamflow.errors import NotFoundError, RequestRefusedError, SourceError
from streamflow.records import Shard
from streamflow.sources.bucket import TokenBucket
from streamflow.sources.dynamodb_calls import StreamCalls
from streamflow.sources.dynamodb_listing import Listing, close_parents, doubts
from streamflow.testing.simulation.loop import SimulatedLoop

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"


def shard(shard_id: str, *parents: str, closed: bool = False) -> Shard:
    return Shard(stream_arn=ARN, shard_id=shard_id, parents=parents, closed=closed)


def in_virtual_time(function: Any) -> Any:
    """Run with the bucket's waiting costing nothing."""
    return anyio.run(function, backend_options={"loop_factory": SimulatedLoop})


@dataclass(slots=True)
class Pages:
    """DescribeStream: `passes` holds one listing for each pass, the last one for all further ones."""

    passes: list[list[Shard]]
    page_size: int = 100
    overlap: int = 0
    status: str = "ENABLED"
    filter_rule: str = "honoured"
    started: int = field(default=0)

    def __call__(self, operation: str, request: dict[str, Any]) -> object:
        wanted = request.get("ShardFilter")
        after = request.get("ExclusiveStartShardId")
        if wanted is None:
            self.started += after is None
        listed = self.passes[min(max(self.started, 1), len(self.passes)) - 1]
        if wanted is not None:
            if self.filter_rule == "rejected":
                raise RequestRefusedError("ValidationException: unknown ShardFilter")
            if self.filter_rule == "honoured":
                listed = [one for one in listed if wanted["ShardId"] in one.parents]
        start = 0
        if after is not None:
            start = next(index for index, one in enumerate(listed) if one.shard_id == after) + 1
        end = start + self.page_size
        shown = listed[max(start - self.overlap, 0) : end]
        description: dict[str, Any] = {
            "StreamArn": ARN,
            "StreamStatus": self.status,
            "Shards": [_wire_shard(one) for one in shown],
        }
        if end < len(listed):
            description["LastEvaluatedShardId"] = listed[end - 1].shard_id
        return {"StreamDescription": description}


def _wire_shard(one: Shard) -> dict[str, Any]:
    numbers = {"StartingSequenceNumber": "1", **({"EndingSequenceNumber": "2"} if one.closed else {})}
    return {
        "ShardId": one.shard_id,
        "SequenceNumberRange": numbers,
        **({"ParentShardId": one.parents[0]} if one.parents else {}),
    }


def listing_of(pages: Any) -> tuple[Listing, ScriptedWire]:
    wire = ScriptedWire(pages)
    return Listing(StreamCalls(wire, ARN)), wire


# --- complete listings -----------------------------------------------------------------------------------------------


def test_a_listing_of_many_pages_is_complete() -> None:
    expected = [shard(f"shard-{number:04d}") for number in range(250)]
    listing, wire = listing_of(Pages([expected]))
    assert in_virtual_time(listing.shards) == {one.shard_id: one for one in expected}
    assert len(wire.calls) == 3
    assert wire.calls[1][1] == {"StreamArn": ARN, "Limit": 100, "ExclusiveStartShardId": "shard-0099"}


def test_shards_that_two_pages_show_count_once() -> None:
    expected = [shard(f"shard-{number:04d}") for number in range(250)]
    listing, _ = listing_of(Pages([expected], overlap=3))
    assert list(in_virtual_time(listing.shards)) == [one.shard_id for one in expected]


@pytest.mark.fault("F52")
def test_a_shard_left_out_by_one_pass_is_found_by_the_next() -> None:
    complete = [shard("a", closed=True), shard("b", "a")]
    listing, wire = listing_of(Pages([complete[1:], complete]))
    assert set(in_virtual_time(listing.shards)) == {"a", "b"}
    assert len(wire.calls) == 2


@pytest.mark.fault("F52")
def test_a_shard_known_before_is_missed_only_after_a_second_look() -> None:
    both, one = [shard("a"), shard("b")], [shard("a")]
    pages = Pages([both, one, both, one, one])
    listing, _ = listing_of(pages)

    async def three_times() -> list[set[str]]:
        return [set(await listing.shards()) for _ in range(3)]

    assert in_virtual_time(three_times) == [{"a", "b"}, {"a", "b"}, {"a"}]
    assert pages.started == 5


def test_a_closed_leaf_is_looked_at_twice_and_then_believed() -> None:
    listed = [shard("a", closed=True)]
    pages = Pages([listed])
    listing, _ = listing_of(pages)

    async def twice() -> None:
        assert set(await listing.shards()) == {"a"}
        assert pages.started == 2
        assert set(await listing.shards()) == {"a"}
        assert pages.started == 3

    in_virtual_time(twice)


def test_a_disabled_streams_closed_leaves_are_normal() -> None:
    pages = Pages([[shard("a", closed=True)]], status="DISABLED")
    listing, _ = listing_of(pages)
    in_virtual_time(listing.shards)
    assert pages.started == 1


def test_a_parent_that_an_older_page_shows_open_is_closed() -> None:
    listing, _ = listing_of(Pages([[shard("a"), shard("b", "a")]]))
    found = in_virtual_time(listing.shards)
    assert found["a"].closed
    assert not found["b"].closed


@pytest.mark.fault("F52")
def test_pages_that_repeat_are_read_again_and_then_given_up() -> None:
    def answer(operation: str, request: dict[str, Any]) -> object:
        shards = [{"ShardId": "a"}]
        return {"StreamDescription": {"StreamArn": ARN, "Shards": shards, "LastEvaluatedShardId": "a"}}

    listing, wire = listing_of(answer)
    with pytest.raises(SourceError, match="goes in circles") as caught:
        in_virtual_time(listing.shards)
    assert type(caught.value) is SourceError
    assert len(wire.calls) == 4 * 2


@pytest.mark.fault("F52")
def test_one_pass_in_circles_is_mended_by_the_next() -> None:
    good = Pages([[shard("a"), shard("b")]])
    circling = 2

    def answer(operation: str, request: dict[str, Any]) -> object:
        nonlocal circling
        if not circling:
            return good(operation, request)
        circling -= 1
        return {"StreamDescription": {"StreamArn": ARN, "Shards": [], "LastEvaluatedShardId": "a"}}

    listing, _ = listing_of(answer)
    assert set(in_virtual_time(listing.shards)) == {"a", "b"}


def test_a_page_without_shards_is_no_empty_listing() -> None:
    listing, _ = listing_of(lambda operation, request: {"StreamDescription": {"StreamArn": ARN}})
    with pytest.raises(SourceError, match="truncated"):
        in_virtual_time(listing.shards)


@pytest.mark.fault("F45")
def test_a_stream_that_is_gone_is_not_found() -> None:
    def answer(operation: str, request: dict[str, Any]) -> object:
        raise NotFoundError("ResourceNotFoundException")

    listing, _ = listing_of(answer)
    with pytest.raises(NotFoundError):
        in_virtual_time(listing.shards)
    with pytest.raises(NotFoundError):
        in_virtual_time(lambda: listing.children(shard("a")))


# --- children --------------------------------------------------------------------------------------------------------

FAMILY = [shard("a", closed=True), shard("b", "a"), shard("c", "a"), shard("d", "z")]


@pytest.mark.parametrize(("rule", "calls"), [("honoured", 1), ("ignored", 3), ("rejected", 3)])
def test_children_are_found_with_and_without_the_services_filter(rule: str, calls: int) -> None:
    listing, wire = listing_of(Pages([FAMILY], filter_rule=rule))
    found = in_virtual_time(lambda: listing.children(FAMILY[0]))
    assert [child.shard_id for child in found] == ["b", "c"]
    assert wire.calls[0][1]["ShardFilter"] == {"Type": "CHILD_SHARDS", "ShardId": "a"}
    assert len(wire.calls) == calls  # a listing in which the parent of d is missing is read twice


def test_no_children_yet_is_an_answer() -> None:
    listing, wire = listing_of(Pages([FAMILY]))
    assert in_virtual_time(lambda: listing.children(FAMILY[1])) == []
    assert len(wire.calls) == 1


def test_children_on_several_pages_are_all_found() -> None:
    family = [shard("a", closed=True), *(shard(f"child-{number:03d}", "a") for number in range(150))]
    listing, wire = listing_of(Pages([family]))
    assert len(in_virtual_time(lambda: listing.children(family[0]))) == 150
    assert len(wire.calls) == 2


# --- the pure parts --------------------------------------------------------------------------------------------------


def test_what_looks_like_another_moment_is_doubted() -> None:
    seen = {one.shard_id: one for one in [shard("b", "a"), shard("c", closed=True)]}
    assert doubts(seen, known=frozenset({"b", "x"}), enabled=True) == {"a", "c", "x"}
    assert doubts(seen, known=frozenset(), enabled=False) == {"a"}


def test_closing_parents_leaves_the_others_as_they_are() -> None:
    seen = {one.shard_id: one for one in [shard("a"), shard("b", "a", "gone")]}
    assert close_parents(seen) == {"a": shard("a", closed=True), "b": shard("b", "a", "gone")}


# --- the token bucket ------------------------------------------------------------------------------------------------


@given(
    rate=st.integers(1, 50),
    burst=st.integers(1, 20),
    gaps=st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=60),
)
def test_no_window_holds_more_than_burst_and_rate_allow(rate: int, burst: int, gaps: list[float]) -> None:
    bucket = TokenBucket(rate_per_s=rate, burst=burst)
    now, used_at = 100.0, []
    for gap in gaps:
        now += gap
        used_at.append(now + bucket.reserve(now))
    assert used_at == sorted(used_at)
    for first, start in enumerate(used_at):
        for last in range(first, len(used_at)):
            assert last - first + 1 <= burst + (used_at[last] - start) * rate + 1e-6


def test_a_rested_bucket_gives_its_burst_at_once() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=3)
    assert [bucket.reserve(5.0) for _ in range(4)] == pytest.approx([0.0, 0.0, 0.0, 0.1])


@pytest.mark.fault("F32")
def test_describe_stream_keeps_to_ten_calls_a_second() -> None:
    async def thirty_calls() -> float:
        calls = StreamCalls(ScriptedWire(Pages([[]])), ARN)
        started = anyio.current_time()
        for _ in range(30):
            await calls.describe_stream()
        return anyio.current_time() - started

    assert in_virtual_time(thirty_calls) == pytest.approx(2.0, abs=0.01)
    assert in_virtual_time(thirty_calls) == pytest.approx(2.0, abs=0.01)  # another loop has a bucket of its own
