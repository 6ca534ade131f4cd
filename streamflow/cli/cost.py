"""`streamflow cost`: what a fleet calls and costs, by the formulas of `streamflow.rules.cost`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import click

from streamflow.cli import letters, options
from streamflow.leases import LeaseLayout
from streamflow.rules import cost as rules
from streamflow.rules.cost import Calls, Cost, Fleet
from streamflow.rules.pacing import IDLE_INTERVAL_MAX_S, PollPace

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.rules.pacing import Polling

_TITLES = ("what", "calls/s", "calls/month", "USD/month")
_LABELS = {
    "polls": "GetRecords",
    "heartbeats": "heartbeats of workers",
    "renewals": "renewals of leases",
    "checkpoints": "checkpoints",
    "lease_listings": "listings of leases",
    "worker_listings": "listings of workers",
    "describes": "DescribeStream",
}


def _seconds(name: str, default: float | None, help_text: str) -> Callable[[options.F], options.F]:
    return click.option(
        name,
        type=click.FloatRange(min=0.01),
        default=default,
        show_default=default is not None,
        metavar="SECONDS",
        help=help_text,
    )


def _price(name: str, price: rules.Price, help_text: str) -> Callable[[options.F], options.F]:
    return click.option(
        name, type=click.FloatRange(min=0), default=price.usd, show_default=True, metavar="USD", help=help_text
    )


@click.command(short_help="Estimate calls and monthly cost of a fleet.")
@click.option("--shards", type=click.IntRange(min=1), required=True, metavar="N", help="Open shards of the stream.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, metavar="W", help="Workers.")
@click.option("--leases", type=click.IntRange(min=1), metavar="ROWS", help="Rows in the store; by default 7 N and 1.")
@click.option(
    "--store",
    type=click.Choice(["native", "dynamodb"]),
    default="native",
    show_default=True,
    help="Layout: one heartbeat for each worker, or each lease renewed as in the KCL.",
)
@click.option(
    "--busy-share",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    metavar="D",
    help="Share of shards with new records at every poll.",
)
@_seconds("--poll-interval-s", 0.25, "As poll_interval_s of the pipeline.")
@click.option(
    "--polling",
    type=click.Choice(["latency", "cost"]),
    default="latency",
    show_default=True,
    help="As polling of the pipeline: idle shards are polled once a second, or every 10 s.",
)
@_seconds("--idle-poll-interval-s", None, "As idle_poll_interval_s of the pipeline; goes before --polling.")
@click.option(
    "--idle-polls-per-s-max",
    type=click.FloatRange(min=0.01),
    metavar="N",
    help="As idle_polls_per_s_max of the pipeline.",
)
@_seconds("--checkpoint-interval-s", 1.0, "As checkpoint_interval_s of the pipeline.")
@_seconds("--lease-duration-s", 10.0, "As lease_duration_s of the app.")
@_price("--price-get-records", rules.PRICE_GET_RECORDS, "A million of GetRecords.")
@_price("--price-write", rules.PRICE_WRITE, "A million of writes of 1 KB.")
@_price("--price-read", rules.PRICE_READ, "A million of consistent reads of 4 KB.")
@options.as_json("Print one JSON object.")
@options.debug
def cost(
    *,
    shards: int,
    workers: int,
    leases: int | None,
    store: Literal["native", "dynamodb"],
    busy_share: float,
    poll_interval_s: float,
    polling: Polling,
    idle_poll_interval_s: float | None,
    idle_polls_per_s_max: float | None,
    checkpoint_interval_s: float,
    lease_duration_s: float,
    price_get_records: float,
    price_write: float,
    price_read: float,
    as_json: bool,
) -> None:
    """Estimate what a fleet calls in a second and costs in a month, while nothing happens to it.

    Nothing is connected to. Prices are in US dollars, and yours may be others.
    """
    fleet = Fleet(
        shards=shards,
        workers=workers,
        lease_rows=leases or rules.lease_rows(shards),
        busy_share=busy_share,
        pace=PollPace(
            interval_s=poll_interval_s,
            polling=polling,
            idle_interval_s=idle_poll_interval_s,
            idle_polls_per_s_max=idle_polls_per_s_max,
        ),
        checkpoint_interval_s=checkpoint_interval_s,
        lease_duration_s=lease_duration_s,
        layout=LeaseLayout.NATIVE if store == "native" else LeaseLayout.KCL,
    )
    calls = rules.calls(fleet)
    found = rules.cost(fleet, calls, get_records=price_get_records, write=price_write, read=price_read)
    notes = assumptions(fleet, get_records=price_get_records, write=price_write, read=price_read)
    if as_json:
        click.echo(json.dumps(report(fleet, calls, found, notes)))
    else:
        click.echo("\n".join([*letters.table(_TITLES, rows(calls, found)), "", *notes]))


def rows(calls: Calls, found: Cost) -> list[list[str]]:
    """What is called, and below it what is paid for in all."""
    paid = {"polls": found.polls, "describes": 0.0}
    lines = [
        [_LABELS[name], f"{per_s:.4g}", f"{per_s * rules.MONTH_S:,.0f}", f"{paid[name]:,.2f}" if name in paid else ""]
        for name, per_s in calls._asdict().items()
        if per_s
    ]
    if found.lease_writes is not None and found.lease_reads is not None:
        lines += [
            ["writes of leases", "", "", f"{found.lease_writes:,.2f}"],
            ["reads of leases", "", "", f"{found.lease_reads:,.2f}"],
        ]
    return [*lines, ["total", "", "", f"{found.total:,.2f}"]]


def assumptions(fleet: Fleet, *, get_records: float, write: float, read: float) -> list[str]:
    """What the figures rest on, one line each."""

    def priced(what: str, usd: float, known: rules.Price) -> str:
        return f"{what}: {usd:g} USD a million ({known.source if usd == known.usd else 'as you say'})"

    lines = [
        f"a month has {rules.MONTH_S:,.0f} s; {fleet.lease_rows:,} rows of leases; shards are open for 4 h, listed for 24 h",
        f"{fleet.busy_share:.0%} of the shards have records at every poll, the others have none",
        *idle_notes(fleet),
        priced("GetRecords", get_records, rules.PRICE_GET_RECORDS),
        f"the first {rules.GET_RECORDS_FREE:,} calls of GetRecords are free once for an account in a region",
        "DescribeStream and GetShardIterator are free",
    ]
    if fleet.native:
        return [*lines, "the store is yours: what its reads and writes cost is not counted"]
    return [
        *lines,
        priced("writes", write, rules.PRICE_WRITE),
        priced("reads", read, rules.PRICE_READ),
        f"a lease has {rules.LEASE_BYTES} bytes; a listing reads them all, consistently",
    ]


def idle_notes(fleet: Fleet) -> list[str]:
    """How long a record may wait in an idle shard, and whether there are too many of them for what they may cost."""
    mean_s, longest_s, most = fleet.idle_pause_s, fleet.idle_pause_max_s, fleet.pace.idle_polls_per_s_max
    lines = [f"an idle shard is polled every {mean_s:.3g} s, so its next record waits for {longest_s:.3g} s at most"]
    if most is not None and fleet.shards / most > IDLE_INTERVAL_MAX_S:
        lines.append(
            f"{most:g} polls a second are not kept: no shard is polled less often than every {IDLE_INTERVAL_MAX_S:g} s"
        )
    return lines


def report(fleet: Fleet, calls: Calls, found: Cost, notes: list[str]) -> dict[str, object]:
    """Ready for JSON."""
    return {
        "shards": fleet.shards,
        "workers": fleet.workers,
        "lease_rows": fleet.lease_rows,
        "layout": fleet.layout.value,
        "calls_per_s": calls._asdict(),
        "idle_pause_s": fleet.idle_pause_s,
        "idle_pause_max_s": fleet.idle_pause_max_s,
        "usd_per_month": {**found._asdict(), "total": found.total},
        "assumptions": notes,
    }
