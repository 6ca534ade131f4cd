"""The pure parts of the benchmarks: what is computed from measurements, and that the replayed bytes are a real stream."""

from __future__ import annotations

import zlib

import orjson
import pytest

from benchmarks import report
from benchmarks.claims import Claim, Contender, Goal, Measurement, Verdict, summarise
from benchmarks.harness import PROFILES, environment
from benchmarks.replay_server import RefusedError, answer
from benchmarks.replay_stream import RECORDS_PER_PAGE, Shape, Template, parse_iterator

MACHINE = {"cores": 2, "cpu": "a processor", "python": "3.11.7", "system": "Linux x86_64"}


async def work(url: str, shape: Shape) -> Measurement:
    raise AssertionError(f"nothing is run in these tests: {url} {shape}")


def contender(name: str, pages: int = 10) -> Contender:
    return Contender(name=name, work=work, pages=pages)


def verdict(
    *, ours: float, peer: float, floor: float, goal: Goal | None = None, less_is_better: bool = False, busy: float = 1.0
) -> Verdict:
    """A claim with one round, in records per second; `busy` is the floor's share of CPU time."""
    claim = Claim(
        name="speed",
        words="It is fast.",
        unit="records/s",
        ours=contender("ours"),
        peers=(contender("peer"),),
        floors=(contender("floor"),),
        goal=goal or Goal(),
        less_is_better=less_is_better,
    )
    figures = {"ours": (ours, 1.0), "peer": (peer, 1.0), "floor": (floor, busy)}
    return Verdict(
        claim=claim,
        summaries={
            name: summarise([Measurement(count=1, wall_s=1 / figure, cpu_s=share / figure)], claim.figure)
            for name, (figure, share) in figures.items()
        },
    )


# --- statistics ------------------------------------------------------------------------------------------------------


def test_a_summary_is_the_median_and_the_spread_around_it() -> None:
    rounds = [Measurement(count=100, wall_s=wall_s, cpu_s=wall_s / 2) for wall_s in (1.0, 0.5, 4.0)]
    summary = summarise(rounds, lambda measurement: measurement.count / measurement.wall_s)
    assert summary.rounds == (100.0, 200.0, 25.0)
    assert summary.median == 100.0
    assert summary.spread == pytest.approx(1.75)
    assert summary.cpu_share == pytest.approx(0.5)


def test_ratios_say_how_many_times_better_than_the_peer_and_worse_than_the_floor() -> None:
    found = verdict(ours=300, peer=10, floor=1_200)
    assert found.ratio_to_peer == pytest.approx(30)
    assert found.ratio_to_floor == pytest.approx(4)


def test_ratios_turn_where_less_is_better() -> None:
    found = verdict(ours=10, peer=300, floor=2.5, less_is_better=True)
    assert found.ratio_to_peer == pytest.approx(30)
    assert found.ratio_to_floor == pytest.approx(4)


def test_a_goal_that_is_reached_exactly_is_met() -> None:
    assert verdict(ours=256, peer=8, floor=1_024, goal=Goal(peer_ratio_min=32, floor_ratio_max=4)).unmet() == []


def test_every_goal_that_is_not_met_has_a_line() -> None:
    lines = verdict(ours=200, peer=10, floor=1_000, goal=Goal(peer_ratio_min=25, floor_ratio_max=4)).unmet()
    assert lines == [
        "speed: 20.0x the peer, the goal is 25x or more",
        "speed: 5.0x from floor, the goal is 4x or less",
    ]


def test_a_goal_without_a_peer_is_not_met() -> None:
    found = verdict(ours=200, peer=10, floor=1_000)
    claim = Claim(
        name="alone",
        words="",
        unit="records/s",
        ours=found.claim.ours,
        peers=(),
        floors=(),
        goal=Goal(peer_ratio_min=2),
    )
    assert len(Verdict(claim=claim, summaries=found.summaries).unmet()) == 1


def test_a_floor_that_waited_is_told() -> None:
    assert verdict(ours=1, peer=1, floor=1, busy=0.95).cautions() == []
    (line,) = verdict(ours=1, peer=1, floor=1, busy=0.6).cautions()
    assert line == "speed: floor ran for 60% of its time and waited for the rest"


# --- report ----------------------------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_contender_and_its_ratio() -> None:
    lines = report.table(verdict(ours=300_000, peer=10_000, floor=1_200_000)).splitlines()
    assert lines[:2] == ["speed [records/s]", "It is fast."]
    rows = {line.split()[0]: line.split()[1:] for line in lines[-3:]}
    assert rows == {
        "peer": ["10,000", "0%", "100%", "30.0x"],
        "ours": ["300,000", "0%", "100%"],
        "floor": ["1,200,000", "0%", "100%", "4.0x"],
    }


def test_results_hold_the_figures_the_ratios_and_the_machine() -> None:
    found = verdict(ours=300, peer=10, floor=1_200, goal=Goal(peer_ratio_min=55), busy=0.5)
    results = orjson.loads(orjson.dumps(report.results([found], profile="quick", machine=MACHINE)))
    (claim,) = results["claims"]
    assert results["profile"] == "quick"
    assert (claim["name"], claim["unit"], claim["spread"]) == ("speed", "records/s", 0)
    assert (claim["ours"], claim["peer"], claim["floor"]) == pytest.approx((300, 10, 1_200))
    assert (claim["ratio_to_peer"], claim["ratio_to_floor"]) == (30, 4)
    assert claim["machine"] == MACHINE
    assert claim["unmet"] == ["speed: 30.0x the peer, the goal is 55x or more"]
    assert len(claim["cautions"]) == 1
    assert set(claim["contenders"]) == {"ours", "peer", "floor"}


# --- running ---------------------------------------------------------------------------------------------------------


def test_a_quick_round_reads_less_and_never_nothing() -> None:
    claim = verdict(ours=1, peer=1, floor=1).claim
    assert PROFILES["full"].shape(claim, contender("x", pages=10)) == Shape(4, 10)
    assert PROFILES["quick"].shape(claim, contender("x", pages=10)) == Shape(4, 3)
    assert PROFILES["quick"].shape(claim, contender("x", pages=1)) == Shape(4, 1)


def test_a_contender_is_found_by_the_name_of_its_function() -> None:
    assert contender("x").target == f"{__name__}:work"


def test_contenders_see_nothing_of_this_machines_aws_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "secret")
    found = environment("http://127.0.0.1:1")
    assert "AWS_PROFILE" not in found
    assert "AWS_SESSION_TOKEN" not in found
    assert found["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"


# --- the replayed stream ---------------------------------------------------------------------------------------------

SHAPE = Shape(2, 3)


@pytest.fixture(scope="module")
def template() -> Template:
    return Template()


def read(template: Template, shard: int, page: int) -> dict[str, list[dict[str, dict[str, str]]]]:
    content: dict[str, list[dict[str, dict[str, str]]]] = orjson.loads(
        b"".join(template.page(SHAPE, shard, page).parts)
    )
    return content


def test_a_page_has_a_thousand_records_of_about_770_bytes(template: Template) -> None:
    assert len(read(template, 0, 0)["Records"]) == RECORDS_PER_PAGE
    assert 750 <= len(template.page(SHAPE, 0, 0)) / RECORDS_PER_PAGE <= 790


def test_sequence_numbers_grow_within_a_shard_and_event_ids_are_unique_in_the_stream(template: Template) -> None:
    shards = [[r for page in range(SHAPE.pages) for r in read(template, shard, page)["Records"]] for shard in (0, 1)]
    for records in shards:
        numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in records]
        assert numbers == sorted(set(numbers))
    ids = [str(record["eventID"]) for records in shards for record in records]
    assert len(set(ids)) == SHAPE.records
    assert {len(event_id) for event_id in ids} == {32}


@pytest.mark.parametrize(("shard", "page"), [(0, 0), (0, 2), (1, 1), (1, 2)])
def test_the_checksum_put_together_from_digits_is_that_of_the_bytes(template: Template, shard: int, page: int) -> None:
    body = template.page(SHAPE, shard, page)
    assert body.crc32 == zlib.crc32(b"".join(body.parts))


def test_following_the_iterators_reads_every_page_once_and_ends(template: Template) -> None:
    request = {"StreamArn": SHAPE.stream_arn, "ShardId": SHAPE.shard_id(1), "ShardIteratorType": "TRIM_HORIZON"}
    iterator: str | None = reply(template, "GetShardIterator", request)["ShardIterator"]
    seen = []
    while iterator:
        seen.append(parse_iterator(iterator))
        iterator = reply(template, "GetRecords", {"ShardIterator": iterator}).get("NextShardIterator")
    assert seen == [(SHAPE, 1, page) for page in range(SHAPE.pages)]


def reply(template: Template, operation: str, request: dict[str, str]) -> dict[str, str]:
    content: dict[str, str] = orjson.loads(b"".join(answer(template, operation, request).parts))
    return content


def test_reading_goes_on_behind_a_page_and_not_in_the_middle_of_one(template: Template) -> None:
    request = {
        "StreamArn": SHAPE.stream_arn,
        "ShardId": SHAPE.shard_id(1),
        "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
    }
    behind = request | {"SequenceNumber": SHAPE.sequence_number(1, 0, RECORDS_PER_PAGE - 1)}
    assert reply(template, "GetShardIterator", behind)["ShardIterator"] == SHAPE.iterator(1, 1)
    with pytest.raises(RefusedError, match="behind a whole page"):
        answer(template, "GetShardIterator", request | {"SequenceNumber": SHAPE.sequence_number(1, 0, 500)})


def test_the_listing_is_complete_over_its_pages_and_every_shard_is_closed(template: Template) -> None:
    shape, listed = Shape(230, 1), []
    start: dict[str, str] = {}
    while True:
        content = b"".join(answer(template, "DescribeStream", {"StreamArn": shape.stream_arn} | start).parts)
        description = orjson.loads(content)["StreamDescription"]
        assert description["StreamStatus"] == "DISABLED"
        listed += description["Shards"]
        if "LastEvaluatedShardId" not in description:
            break
        start = {"ExclusiveStartShardId": description["LastEvaluatedShardId"]}
    assert [shard["ShardId"] for shard in listed] == [shape.shard_id(shard) for shard in range(230)]
    assert all("EndingSequenceNumber" in shard["SequenceNumberRange"] for shard in listed)


@pytest.mark.parametrize(
    ("operation", "request_", "code"),
    [
        ("PutItem", {}, "UnknownOperationException"),
        ("DescribeTable", {"TableName": "orders"}, "ResourceNotFoundException"),
        ("GetRecords", {"ShardIterator": "replay"}, "ValidationException"),
    ],
)
def test_what_the_replay_does_not_have_is_refused(
    template: Template, operation: str, request_: dict[str, str], code: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        answer(template, operation, request_)
    assert refused.value.code == code
