"""The harness of the sink benchmark: that both sides do the same work, and that it is looked at. Nothing is timed."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
import pytest

from benchmarks import harness, report, sinks
from benchmarks.__main__ import CLAIMS, GROUPS, named
from benchmarks.claims import Claim, Contender, Goal, Measurement, Verdict, summarise
from benchmarks.harness import Cores, Profile
from benchmarks.replay_pages import Template
from benchmarks.replay_stream import RECORDS_PER_PAGE, Shape
from benchmarks.sink_targets.http_receiver import Receiver
from benchmarks.sink_targets.target import (
    Pages,
    Place,
    Target,
    is_delete,
    item_key,
    lambda_record,
    no_server,
    on_core,
    plain,
    split,
)
from streamflow.payloads import payload
from streamflow.records import Record, Shard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from benchmarks.sink_targets.target import WritePage

SHAPE = Shape(2, 3)


@pytest.fixture(scope="module")
def pages() -> list[list[dict[str, Any]]]:
    """Of both shards, one after the other."""
    template = Template()
    bodies = [template.page(SHAPE, shard, page) for shard in range(SHAPE.shards) for page in range(SHAPE.pages)]
    return [orjson.loads(b"".join(body.parts))["Records"] for body in bodies]


# --- claims ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sinks.TARGETS)
def test_every_target_is_a_claim_that_says_what_is_at_the_other_end(name: str) -> None:
    claim = CLAIMS[f"sink_{name}"]
    assert sinks.TARGETS[name].server in claim.target
    assert claim.goal.peer_ratio_min == 0.8
    for contender in claim.contenders:
        module, _, function = contender.target.partition(":")
        assert getattr(import_module(module), function) is contender.work


def test_a_contender_finds_its_sink_in_its_environment() -> None:
    claim = CLAIMS["sink_jsonl"]
    assert claim.serve is not None
    with claim.serve(0) as environment:
        assert environment == {sinks.SINK: "jsonl", sinks.ADDRESS: ""}


def test_the_target_runs_while_its_claim_is_measured_and_contenders_are_told_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[object] = []

    @contextmanager
    def serve(core: int) -> Iterator[Mapping[str, str]]:
        events.append(f"served on {core}")
        yield {"WHERE": "here"}
        events.append("ended")

    def contend(*arguments: Any, **_: object) -> Measurement:
        events.append(arguments[-1])
        return Measurement(count=1, wall_s=1, cpu_s=1)

    monkeypatch.setattr(harness, "contend", contend)
    claim = _claim(serve=serve)
    harness.measure([claim], Profile(rounds=1, volume=1), "http://127.0.0.1:1", Cores(contender=0, server=7))
    assert events == ["served on 7", {"WHERE": "here"}, "ended"]


def test_a_table_names_the_target_and_waiting_for_it_is_no_caution() -> None:
    verdict = _waited(_claim(target="a file"))
    assert "Target: a file." in report.table(verdict)
    assert verdict.cautions() == []
    assert len(_waited(_claim()).cautions()) == 1
    assert report.results([verdict], profile="quick", machine={})["claims"][0]["target"] == "a file"


async def _nothing(url: str, shape: Shape) -> Measurement:
    raise AssertionError(f"nothing is run in these tests: {url} {shape}")


def _claim(**members: Any) -> Claim:
    ours = Contender(name="ours", work=_nothing, pages=1)
    return Claim(name="x", words="It is.", unit="records/s", ours=ours, peers=(), floors=(), goal=Goal(), **members)


def _waited(claim: Claim) -> Verdict:
    waited = summarise([Measurement(count=1, wall_s=1, cpu_s=0.1)], claim.figure)
    return Verdict(claim=claim, summaries={"ours": waited})


# --- the same work ---------------------------------------------------------------------------------------------------


def test_a_loop_writes_what_the_sink_writes(pages: list[list[dict[str, Any]]]) -> None:
    shard = Shard(stream_arn=SHAPE.stream_arn, shard_id=SHAPE.shard_id(0))
    for wire in pages[0][:50]:
        record = Record(msgspec.Raw(orjson.dumps(wire)), shard)
        event = orjson.loads(payload(record, "lambda"))
        assert event.pop("eventSourceARN") == SHAPE.stream_arn
        assert orjson.loads(orjson.dumps(lambda_record(wire))) == event
        if not is_delete(wire):
            assert plain(wire["dynamodb"]["NewImage"]) == orjson.loads(payload(record, "image"))


def test_a_record_of_aioboto3_has_a_time_that_becomes_a_number(pages: list[list[dict[str, Any]]]) -> None:
    from datetime import UTC, datetime

    wire = pages[0][0]
    created = wire["dynamodb"]["ApproximateCreationDateTime"]
    parsed = {
        **wire,
        "dynamodb": {**wire["dynamodb"], "ApproximateCreationDateTime": datetime.fromtimestamp(created, UTC)},
    }
    assert lambda_record(parsed) == lambda_record(wire)


def test_a_page_is_split_into_items_that_live_and_keys_of_those_that_do_not(pages: list[list[dict[str, Any]]]) -> None:
    deleted = next(record for record in pages[0] if is_delete(record))
    put = next(record for record in pages[0] if not is_delete(record))
    living, gone = split([put, deleted])
    assert living == [(item_key(put), plain(put["dynamodb"]["NewImage"]))]
    assert gone == [item_key(deleted)]
    gone_again = {**put, "eventName": "REMOVE"}
    assert split([put, gone_again]) == ([], [item_key(put)])


def test_no_item_is_in_two_pages(pages: list[list[dict[str, Any]]]) -> None:
    keys = [{item_key(record) for record in page} for page in pages]
    assert len(set.union(*keys)) == sum(map(len, keys))


def test_sets_of_the_replay_have_no_member_twice(pages: list[list[dict[str, Any]]]) -> None:
    images = [record["dynamodb"]["NewImage"] for record in pages[0] if not is_delete(record)]
    assert all(len(set(image["tags"]["SS"])) == len(image["tags"]["SS"]) for image in images)


# --- looking whether it arrived ----------------------------------------------------------------------------------------


class Memory:
    """A target in the test's memory that loses the first `lost` records of every page."""

    def __init__(self, lost: int = 0) -> None:
        self.lost = lost
        self.arrived: list[str] = []

    def target(self) -> Target:
        return Target(
            name="memory",
            server="memory",
            loop="append",
            holds="changes",
            pages=Pages(ours=1, peer=1, floor=1),
            serve=no_server,
            open_place=self.open_place,
        )

    @asynccontextmanager
    async def open_place(self, _: str) -> AsyncIterator[Place]:
        async def count() -> int:
            return len(self.arrived)

        yield Place(sink=None, open_loop=self.open_loop, count=count)  # type: ignore[arg-type]

    @asynccontextmanager
    async def open_loop(self) -> AsyncIterator[WritePage]:
        async def write(records: Sequence[Mapping[str, Any]]) -> None:
            self.arrived += [record["eventID"] for record in records[self.lost :]]

        yield write


def _run_loop(memory: Memory, pages: list[list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> Measurement:
    async def read(url: str, shape: Shape) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
        for page in pages:
            yield page

    monkeypatch.setattr(sinks, "TARGETS", {"memory": memory.target()})
    monkeypatch.setattr(sinks, "_pages_by_aiohttp", read)
    monkeypatch.setenv(sinks.SINK, "memory")
    monkeypatch.setenv(sinks.ADDRESS, "")
    return asyncio.run(sinks.aiohttp_loop("http://127.0.0.1:1", SHAPE))


def test_a_loop_counts_what_it_read_and_wrote(
    pages: list[list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory()
    assert _run_loop(memory, pages, monkeypatch).count == SHAPE.records == len(set(memory.arrived))


def test_a_contender_fails_whose_records_did_not_arrive(
    pages: list[list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match="5994 of 6000 changes arrived"):
        _run_loop(Memory(lost=1), pages, monkeypatch)


def test_a_table_is_expected_to_hold_the_items_that_are_left(pages: list[list[dict[str, Any]]]) -> None:
    left = sum(len(split(page)[0]) for page in pages)
    assert sinks.expected_count(sinks.TARGETS["sqlite"], SHAPE) == left < SHAPE.records
    assert sinks.expected_count(sinks.TARGETS["jsonl"], SHAPE) == SHAPE.records == len(pages) * RECORDS_PER_PAGE


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)


def test_the_receiver_of_webhooks_counts_records_by_path_however_their_bytes_arrive() -> None:
    receiver, transport = Receiver({}), Transport()
    receiver.connection_made(transport)
    body = b'[{"eventID":"1"},{"eventID":"2"}]'
    request = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    asked = b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n"
    for byte in request + asked:
        receiver.data_received(bytes([byte]))
    answers = transport.sent.split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in answers] == [b"204", b"200", b"200"]
    assert [answer[-1:] for answer in answers[1:]] == [b"2", b"0"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to a core")
def test_a_server_is_started_on_its_core_and_we_stay_where_we_were() -> None:
    before = os.sched_getaffinity(0)
    core = max(before)
    with on_core(core):
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before


def test_groups_stand_for_their_claims_and_each_is_measured_once() -> None:
    assert named(()) == list(GROUPS["engine"])
    assert named(("sink_http", "sinks")) == list(dict.fromkeys(["sink_http", *GROUPS["sinks"]]))
    assert {*GROUPS["engine"], *GROUPS["sinks"]} == set(CLAIMS)
