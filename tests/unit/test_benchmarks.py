"""The harness of the benchmarks: what is computed from measurements, and which contenders run. Nothing is timed."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from benchmarks import harness, report
from benchmarks.__main__ import CLAIMS, GROUPS, named
from benchmarks.claims import Claim, Contender, Goal, Measurement, Verdict, summarise
from benchmarks.harness import PROFILES, Cores, Profile, environment, sharing
from benchmarks.replay_stream import Shape

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def test_a_figure_above_its_goal_is_not_met() -> None:
    goal = Goal(figure_max=150)
    assert verdict(ours=150, peer=1, floor=1, goal=goal, less_is_better=True).unmet() == []
    (line,) = verdict(ours=160, peer=1, floor=1, goal=goal, less_is_better=True).unmet()
    assert line == "speed: 160 records/s, the goal is 150 or less"


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


# --- which contenders run --------------------------------------------------------------------------------------------


async def other_work(url: str, shape: Shape) -> Measurement:
    raise AssertionError(f"nothing is run in these tests: {url} {shape}")


def claim_of(name: str, *, ours: Contender, peer: Contender | None = None, **members: Any) -> Claim:
    peers = () if peer is None else (peer,)
    return Claim(name=name, words="", unit="records/s", ours=ours, peers=peers, floors=(), goal=Goal(), **members)


def run_all(claims: list[Claim], monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[Verdict]]:
    """Names of the contenders that ran, in order, and what came of it; each is faster than the one before."""
    ran: list[str] = []

    def contend(
        contender: Contender, shape: Shape, url: str, cores: Cores, target: Mapping[str, str], *, expected: int
    ) -> Measurement:
        assert expected == shape.records
        ran.append(contender.name)
        return Measurement(count=len(ran), wall_s=1, cpu_s=1)

    monkeypatch.setattr(harness, "contend", contend)
    profile = Profile(rounds=2, volume=1)
    return ran, harness.measure(claims, profile, "http://127.0.0.1:1", Cores(contender=0, server=1))


def test_a_contender_of_two_claims_runs_once_in_a_round_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    peer, other = contender("peer"), Contender(name="other", work=other_work, pages=10)
    ran, verdicts = run_all(
        [claim_of("a", ours=other, peer=peer), claim_of("b", ours=contender("bigger", pages=20), peer=peer)],
        monkeypatch,
    )
    assert ran == ["peer", "other", "bigger"] * 2
    assert [verdict.claim.name for verdict in verdicts] == ["a", "b"]
    figures = [{name: list(summary.rounds) for name, summary in each.summaries.items()} for each in verdicts]
    assert figures == [{"peer": [1, 4], "other": [2, 5]}, {"peer": [1, 4], "bigger": [3, 6]}]


def test_claims_without_a_contender_in_common_run_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    ran, _ = run_all([claim_of("a", ours=contender("a")), claim_of("b", ours=contender("b", pages=20))], monkeypatch)
    assert ran == ["a", "a", "b", "b"]


def test_claims_are_together_when_a_third_has_a_contender_of_each() -> None:
    first, second = contender("first", pages=1), contender("second", pages=2)
    claims = [
        claim_of("a", ours=first),
        claim_of("b", ours=second),
        claim_of("c", ours=contender("c", pages=3)),
        claim_of("d", ours=first, peer=second),
    ]
    groups = sharing(claims, PROFILES["full"])
    assert [[claim.name for claim in group] for group in groups] == [["c"], ["b", "a", "d"]]


def test_other_records_and_a_target_of_its_own_make_it_another_contender() -> None:
    ours = contender("ours")
    claims = [
        claim_of("plain", ours=ours),
        claim_of("small", ours=ours, content="small"),
        claim_of("file", ours=ours, serve=lambda _: nullcontext({})),
        claim_of("queue", ours=ours, serve=lambda _: nullcontext({})),
    ]
    assert len(sharing(claims, PROFILES["full"])) == 4


def test_a_quick_run_leaves_out_what_says_so() -> None:
    slow = replace(contender("slow"), quick=False)
    claim = replace(
        verdict(ours=1, peer=1, floor=1).claim,
        peers=(contender("peer"), slow),
        floors=(contender("floor"), slow),
        ceiling=slow,
    )
    assert PROFILES["full"].claim(claim) is claim
    assert [each.name for each in PROFILES["quick"].claim(claim).contenders] == ["peer", "ours", "floor"]


def test_a_group_leaves_out_claims_that_are_too_long_for_a_quick_run() -> None:
    quick = named((), quick=True)
    assert quick == [name for name in GROUPS["engine"] if CLAIMS[name].quick]
    assert "throughput_envelope_large" not in quick
    assert "throughput_envelope_large" in named(())
    assert named(("throughput_envelope_large",), quick=True) == ["throughput_envelope_large"]


@pytest.mark.parametrize("name", CLAIMS)
def test_a_quick_run_compares_with_the_first_peer_and_the_first_floor_as_a_full_one_does(name: str) -> None:
    claim = CLAIMS[name]
    quick = claim.quickened()
    assert quick.peers[:1] == claim.peers[:1]
    assert quick.floors[:1] == claim.floors[:1]
