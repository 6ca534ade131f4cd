"""The streams of open shards that the benchmarks read, and what their claims say of them. Nothing is timed."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest

from benchmarks import backlog, idle_shards, latency, shards_scale
from benchmarks.claims import Claim, Contender, Goal, Measurement, Verdict, summarise
from benchmarks.harness import PROFILES, sharing
from benchmarks.live_server import LiveStreams
from benchmarks.live_stream import DRIPS_PER_S, Dripping, Filled, Mixed, drips, empty_page, open_shape
from benchmarks.replay_pages import Body, Template
from benchmarks.replay_server import RefusedError
from benchmarks.replay_stream import RECORDS_PER_PAGE, Shape, parse_iterator
from streamflow.records import Record, Shard

SHAPE = open_shape(2, 3)
SECOND_NS = 1_000_000_000
TABLE = {"TableName": SHAPE.table}


@pytest.fixture(scope="module")
def templates() -> Template:
    return Template()


@pytest.fixture
def filled(templates: Template) -> LiveStreams:
    return LiveStreams(Filled(templates), templates)


@pytest.fixture(scope="module")
def dripping() -> Dripping:
    return Dripping(wall_ahead_ns=1_767_225_600 * SECOND_NS)


def content(body: Body) -> Any:
    return orjson.loads(b"".join(body.parts))


def poll(streams: LiveStreams, iterator: str) -> Any:
    return content(streams.answer("GetRecords", {"ShardIterator": iterator}))


def test_half_of_the_shards_of_a_mixed_stream_drip_or_stay_empty(templates: Template, dripping: Dripping) -> None:
    filled = Filled(templates)
    for others, expected in ((dripping, DRIPS_PER_S), (None, 0)):
        pages = [content(Mixed(filled, others).page(SHAPE, shard, 0, since_ns=0, now_ns=SECOND_NS)) for shard in (0, 1)]
        assert [len(page["Records"]) for page in pages] == [RECORDS_PER_PAGE, expected]


# --- open shards -----------------------------------------------------------------------------------------------------


def test_a_shard_is_empty_and_leads_to_itself_until_the_stream_is_released(filled: LiveStreams) -> None:
    assert poll(filled, SHAPE.iterator(1, 0)) == {"Records": [], "NextShardIterator": SHAPE.iterator(1, 0)}


def test_a_released_shard_has_its_pages_and_then_the_tip_for_ever(filled: LiveStreams) -> None:
    filled.answer("Release", TABLE)
    request = {"StreamArn": SHAPE.stream_arn, "ShardId": SHAPE.shard_id(1), "ShardIteratorType": "TRIM_HORIZON"}
    iterator = content(filled.answer("GetShardIterator", request))["ShardIterator"]
    sizes, places = [], []
    for _ in range(6):
        places.append(parse_iterator(iterator))
        page = poll(filled, iterator)
        sizes.append(len(page["Records"]))
        iterator = page["NextShardIterator"]
    assert sizes == [RECORDS_PER_PAGE] * 3 + [0] * 3
    assert places == [(SHAPE, 1, place) for place in (0, 1, 2, 3, 3, 3)]


def test_the_stream_is_enabled_and_lists_open_shards_only(filled: LiveStreams) -> None:
    description = content(filled.answer("DescribeStream", {"StreamArn": SHAPE.stream_arn}))["StreamDescription"]
    assert description["StreamStatus"] == "ENABLED"
    assert [shard["ShardId"] for shard in description["Shards"]] == [SHAPE.shard_id(0), SHAPE.shard_id(1)]
    assert [list(shard["SequenceNumberRange"]) for shard in description["Shards"]] == [["StartingSequenceNumber"]] * 2


def test_polls_are_counted_for_each_stream_and_forgotten_when_another_run_begins(filled: LiveStreams) -> None:
    def polls(shape: Shape) -> Any:
        return content(filled.answer("Polls", {"TableName": shape.table}))

    other = open_shape(3, 3)
    for iterator in (SHAPE.iterator(0, 0), SHAPE.iterator(1, 0), SHAPE.iterator(1, 0), other.iterator(0, 0)):
        poll(filled, iterator)
    assert polls(SHAPE) == {"Polls": 3, "Shards": 2}
    assert polls(other) == {"Polls": 1, "Shards": 1}
    filled.answer("Release", TABLE)
    filled.answer("Begin", TABLE)
    assert polls(SHAPE) == {"Polls": 0, "Shards": 0}
    assert polls(other) == {"Polls": 1, "Shards": 1}
    assert poll(filled, SHAPE.iterator(0, 0))["Records"] == []


@pytest.mark.parametrize(
    ("operation", "request_", "code"),
    [
        ("Release", {"TableName": "orders"}, "ResourceNotFoundException"),
        ("GetRecords", {"ShardIterator": "live"}, "ValidationException"),
        ("PutItem", {}, "UnknownOperationException"),
    ],
)
def test_what_a_live_stream_does_not_have_is_refused(
    filled: LiveStreams, operation: str, request_: dict[str, str], code: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        filled.answer(operation, request_)
    assert refused.value.code == code


# --- one record after the other --------------------------------------------------------------------------------------


def test_a_dripping_shard_gets_each_record_once_in_order_at_any_pace(dripping: Dripping) -> None:
    place, now_ns = 0, 0
    numbers: list[int] = []
    while len(numbers) < drips(SHAPE):
        due = dripping.due(SHAPE, 1, place, since_ns=0, now_ns=now_ns)
        numbers += [drip.number for drip in due]
        assert all(drip.visible_ns <= now_ns for drip in due)
        place, now_ns = len(numbers), now_ns + 33_000_000
    assert numbers == list(range(3 * DRIPS_PER_S))
    assert dripping.due(SHAPE, 1, place, since_ns=0, now_ns=10**12) == []


def test_records_drip_at_all_phases_each_in_its_own_slot(dripping: Dripping) -> None:
    slot_ns = SECOND_NS // DRIPS_PER_S
    due = dripping.due(open_shape(1, 20), 0, 0, since_ns=5, now_ns=10**12)
    phases = [drip.visible_ns - 5 - drip.number * slot_ns for drip in due]
    assert len(phases) == 1_000
    assert all(0 <= phase < slot_ns for phase in phases)
    assert all(80 <= sum(phase * 10 // slot_ns == tenth for phase in phases) <= 120 for tenth in range(10))


def test_a_record_says_when_it_was_visible_and_when_its_poll_was_answered(dripping: Dripping) -> None:
    page = dripping.page(SHAPE, 1, 7, since_ns=SECOND_NS, now_ns=2 * SECOND_NS)
    found = msgspec.json.decode(b"".join(page.parts), type=dict[str, Any])
    first, last = found["Records"][0], found["Records"][-1]
    visible_ns, answered_ns = latency.wire_moments(first)
    assert SECOND_NS + 7 * SECOND_NS // DRIPS_PER_S <= visible_ns <= answered_ns == 2 * SECOND_NS
    assert int(first["dynamodb"]["SequenceNumber"]) < int(last["dynamodb"]["SequenceNumber"])
    assert found["NextShardIterator"] == SHAPE.iterator(1, DRIPS_PER_S)
    record = Record(msgspec.Raw(orjson.dumps(first)), Shard(stream_arn=SHAPE.stream_arn, shard_id=SHAPE.shard_id(1)))
    assert latency.native_moments(record) == (visible_ns, answered_ns)
    assert record.created_at_s == 1_767_225_601


def test_a_dripping_shard_with_nothing_new_leads_to_the_same_place(dripping: Dripping) -> None:
    page = dripping.page(SHAPE, 1, 7, since_ns=SECOND_NS, now_ns=SECOND_NS)
    assert content(page) == content(empty_page(SHAPE, 1, 7))


# --- claims ----------------------------------------------------------------------------------------------------------


def test_the_latency_claims_expect_what_their_shards_get() -> None:
    assert latency.expected(Shape(20, 2)) == 20 * 2 * DRIPS_PER_S


@pytest.mark.parametrize("shards", [1, 100, 200])
def test_the_same_pages_are_spread_over_any_number_of_shards(shards: int) -> None:
    shape = Shape(1, 200)
    spread = shards_scale.spread(shape, shards)
    # One page more in each shard, for the tip.
    assert (spread.shards, spread.shards * (spread.pages - 1)) == (shards, shape.pages)


def test_pages_that_cannot_be_shared_out_evenly_are_refused() -> None:
    with pytest.raises(ValueError, match="250 pages are not shared out evenly among 100 shards"):
        shards_scale.spread(Shape(1, 250), 100)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_the_pages_of_each_run_can_be_spread_over_a_hundred_shards(profile: Any) -> None:
    for contender in shards_scale.CLAIM.contenders:
        assert profile.shape(shards_scale.CLAIM, contender).pages % 100 == 0


@pytest.mark.parametrize("claims", [latency.CLAIMS, backlog.CLAIMS, shards_scale.CLAIMS])
def test_claims_about_the_same_work_are_measured_in_the_same_runs(claims: tuple[Claim, ...]) -> None:
    assert [list(claims)] == sharing(claims, PROFILES["quick"])


def test_a_long_claim_has_fewer_rounds_and_in_a_quick_run_a_tenth_of_its_pages() -> None:
    claim = backlog.CLAIM
    assert (PROFILES["full"].rounds_of(claim), PROFILES["quick"].rounds_of(claim)) == (3, 1)
    assert PROFILES["full"].shape(claim, claim.ours).records >= 10_000_000
    assert 1_000_000 <= PROFILES["quick"].shape(claim, claim.ours).records < 1_100_000


def test_contenders_that_wait_by_design_are_no_cause_for_caution() -> None:
    measured = Measurement(count=10, wall_s=1.0, cpu_s=0.1)
    claim = idle_shards.CPU
    summaries = {contender.name: summarise([measured], claim.figure) for contender in claim.contenders}
    assert summaries[claim.ours.name].median == pytest.approx(10_000)
    assert Verdict(claim=claim, summaries=summaries).cautions() == []
    busy = Claim(
        name="busy",
        words="",
        unit="records/s",
        ours=Contender(name=claim.ours.name, work=claim.ours.work, pages=1),
        peers=(),
        floors=(),
        goal=Goal(),
    )
    assert len(Verdict(claim=busy, summaries=summaries).cautions()) == 1
