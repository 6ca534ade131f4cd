"""What a fleet costs: the formulas against figures worked out by hand, and how they are told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kept import Command
from streamflow.leases import LeaseLayout
from streamflow.rules.cost import MONTH_S, Calls, Fleet, calls, cost, lease_rows
from streamflow.rules.pacing import PollPace


def fleet(**options: Any) -> Fleet:
    values = {
        "shards": 100,
        "workers": 4,
        "lease_rows": 701,
        "busy_share": 0.25,
        "pace": PollPace(interval_s=0.25),
        "checkpoint_interval_s": 5.0,
        "lease_duration_s": 10.0,
        "layout": LeaseLayout.NATIVE,
        **options,
    }
    return Fleet(**values)


def test_a_native_fleet_writes_one_heartbeat_for_each_worker() -> None:
    found = calls(fleet())
    assert found._asdict() == pytest.approx(
        {
            "polls": 25 * 4 + 75 / 1.05,
            "heartbeats": 1.2,
            "renewals": 0.0,
            "checkpoints": 5.0,
            "lease_listings": 4 * 1_500 / 701,  # 1,500 rows a second for each worker
            "worker_listings": 4 * 1_500 / 701,
            "describes": 8 / 600 + 100 / 14_400,
        }
    )


def test_a_fleet_of_the_kcls_layout_renews_each_lease() -> None:
    found = calls(fleet(layout=LeaseLayout.KCL))
    # 75 idle leases and the stream's, three times in 10 s; between two checkpoints of a busy one there is one renewal.
    assert found.renewals == pytest.approx(76 * 0.3 + 25 * 1 / 5)
    assert found.heartbeats == found.worker_listings == 0.0
    assert found.lease_listings == pytest.approx(4 / (701 / 800))


@pytest.mark.parametrize(("checkpoint_interval_s", "renewals"), [(1.0, 0), (3.0, 0), (5.0, 1), (8.0, 2), (60.0, 17)])
def test_a_checkpoint_is_a_renewal(checkpoint_interval_s: float, renewals: int) -> None:
    busy = fleet(layout=LeaseLayout.KCL, busy_share=1.0, checkpoint_interval_s=checkpoint_interval_s)
    assert calls(busy).renewals == pytest.approx(0.3 + 100 * renewals / checkpoint_interval_s)


def test_idle_shards_are_polled_as_seldom_as_the_options_say() -> None:
    for pace, idle in (
        (PollPace(interval_s=0.25, polling="latency"), 75 / 1.05),
        (PollPace(interval_s=0.25, polling="cost"), 75 / 10.5),
        (PollPace(interval_s=0.25, idle_interval_s=0.25), 75 * 4),
        # What is below the other interval changes nothing, as in the engine.
        (PollPace(interval_s=0.25, idle_interval_s=0.1), 75 * 4),
        (PollPace(interval_s=0.25, polling="cost", idle_polls_per_s_max=5.0), 75 / 100 * 5 / 1.05),
    ):
        assert calls(fleet(pace=pace)).polls == pytest.approx(25 * 4 + idle), pace


def test_the_figures_of_polling_are_those_that_are_known() -> None:
    """1 000 shards polled once a second cost 525 USD, ten of them 4.76."""
    for shards, usd in ((1_000, 525.1), (10, 4.756), (1, 0.0256)):
        found = calls(fleet(shards=shards, busy_share=1.0, pace=PollPace(interval_s=1.0)))
        assert cost(fleet(), found).polls == pytest.approx(usd, rel=0.001)


def test_the_free_tier_is_not_less_than_nothing() -> None:
    quiet = calls(fleet(shards=1, busy_share=0.0, pace=PollPace(interval_s=0.25, polling="cost")))
    assert cost(fleet(), quiet).polls == 0.0


def test_writes_and_reads_of_leases_are_paid_in_dynamodb_only() -> None:
    kcl = fleet(layout=LeaseLayout.KCL)
    each = Calls(
        polls=0.0, heartbeats=0.0, renewals=1.0, checkpoints=1.0, lease_listings=1.0, worker_listings=0.0, describes=9.0
    )
    found = cost(kcl, each, write=1.0, read=1.0)
    assert found.lease_writes == pytest.approx(2 * MONTH_S / 1e6)
    assert found.lease_reads == pytest.approx((78 + 1) * MONTH_S / 1e6)  # 701 rows of 450 bytes in units of 4 KB
    assert found.total == pytest.approx(81 * MONTH_S / 1e6)
    assert cost(fleet(), each).total == 0.0


def test_shards_that_ended_have_rows_as_long_as_they_are_listed() -> None:
    assert lease_rows(100) == 701


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_a_table_and_what_it_rests_on(capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = Command(capsys)("cost", "--shards", "1000", "--workers", "10", "--store", "dynamodb", "--polling", "cost")
    table, _, notes = out.partition("\n\n")
    lines = table.splitlines()
    assert lines[0].split() == ["what", "calls/s", "calls/month", "USD/month"]
    assert lines[1].split() == ["GetRecords", "485.7", "1,276,457,143", "254.79"]
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "GetRecords", "renewals of leases", "checkpoints", "listings of leases", "DescribeStream", "writes of leases",
        "reads of leases", "total",
    ]  # fmt: skip
    assert "GetRecords: 0.2 USD a million (list price, us-east-1, not looked up again, November 2026)" in notes


def test_the_command_takes_other_prices_and_rows(capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(capsys)
    out, _ = command("cost", "--shards", "10", "--leases", "12", "--price-get-records", "1", "--json")
    found = json.loads(out)
    assert (found["lease_rows"], found["layout"]) == (12, "native")
    polls = 4 + 9 / 1.05
    assert found["calls_per_s"]["polls"] == pytest.approx(polls)
    assert (found["idle_pause_s"], found["idle_pause_max_s"]) == pytest.approx((1.05, 1.1))
    assert found["usd_per_month"] == {
        "polls": pytest.approx((polls * MONTH_S - 2_500_000) / 1e6),
        "lease_writes": None,
        "lease_reads": None,
        "total": pytest.approx((polls * MONTH_S - 2_500_000) / 1e6),
    }
    assert "GetRecords: 1 USD a million (as you say)" in found["assumptions"]


def test_the_command_says_how_long_records_wait(capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(capsys)
    out, _ = command("cost", "--shards", "1000", "--idle-polls-per-s-max", "50")
    assert "an idle shard is polled every 21 s, so its next record waits for 22 s at most\n" in out
    assert "are not kept" not in out
    out, _ = command("cost", "--shards", "20000", "--idle-polls-per-s-max", "50")
    assert "50 polls a second are not kept: no shard is polled less often than every 300 s\n" in out


def test_the_command_needs_to_know_how_many_shards(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--shards" in Command(capsys)("cost", code=2)[1]


WORKERS = Path(__file__).parents[2] / "docs" / "workers.md"
ROW = re.compile(r"^\| (?P<shards>[\d,]+) \| (?P<options>`.+`) \| (?P<figures>.+) \|$", flags=re.MULTILINE)


def test_the_table_of_the_guide_is_what_the_command_says(capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(capsys)
    rows = list(ROW.finditer(WORKERS.read_text("utf-8")))
    assert len(rows) > 10
    for row in rows:
        options = [
            part.strip('"')
            for name, value in re.findall(r"`(\w+) = (.+?)`", row["options"])
            for part in (f"--{name.replace('_', '-')}", value)
        ]
        out, _ = command("cost", "--shards", row["shards"].replace(",", ""), "--busy-share", "0", *options, "--json")
        found = json.loads(out)
        figures = found["calls_per_s"]["polls"], found["usd_per_month"]["polls"], found["idle_pause_max_s"]
        assert row["figures"] == "{:,.4g} | {:,.2f} | {:.3g} s".format(*figures), row[0]
