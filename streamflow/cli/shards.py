"""`streamflow shards`: the lineage of a stream as a tree, with the positions and owners that a store holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from streamflow.cli import options
from streamflow.errors import ConfigError
from streamflow.leases import STREAM_ROW
from streamflow.rules.resets import is_loss

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from streamflow.leases import Gap, Lease
    from streamflow.pipeline import AwsOptions, DynamoDBStream
    from streamflow.protocols import StreamInfo
    from streamflow.records import Shard


@click.command(short_help="Show the shards of a stream as a tree, with stored positions.")
@click.argument("table", metavar="TABLE|ARN")
@click.option("--store", metavar="URL", help="Store to read positions and owners from, such as sqlite:///orders.db.")
@click.option("--pipeline", metavar="NAME", help="Whose positions; goes with --store.")
@options.endpoint_url
@options.region
@options.as_json("Print one JSON object.")
@options.debug
def shards(
    table: str,
    *,
    store: str | None,
    pipeline: str | None,
    endpoint_url: str | None,
    region: str | None,
    as_json: bool,
) -> None:
    """Show the shards of a table's stream as a tree: open or closed, and where a pipeline is in each.

    TABLE names a table, whose latest stream is shown; ARN is that of a stream.
    """
    if (store is None) != (pipeline is None):
        raise click.UsageError("--store and --pipeline go together.")
    aws = options.aws_options(endpoint_url, region)
    described, listed = anyio.run(_listing, options.stream(table), aws)
    leases: Iterable[Lease] = ()
    if store is not None and pipeline is not None:
        leases = anyio.run(_leases, store, pipeline, described.stream_arn)
    rows = shard_rows(listed, leases)
    if as_json:
        click.echo(json.dumps(_report(described, rows)))
    else:
        click.echo("\n".join([_headline(described, rows), *tree(rows)]))


async def _listing(declared: DynamoDBStream, options: AwsOptions) -> tuple[StreamInfo, Mapping[str, Shard]]:
    from streamflow.aws.session import open_aws
    from streamflow.sources.dynamodb import open_dynamodb_stream

    async with open_aws(options) as aws, open_dynamodb_stream(aws, declared) as source:
        return await source.describe(), await source.shards()


async def _leases(url: str, pipeline: str, stream_arn: str) -> Iterable[Lease]:
    from streamflow.plugins import open_store

    path = url.removeprefix("sqlite:///")
    if path != url and not await anyio.Path(path).exists():  # opening it would make an empty one
        raise ConfigError(f"--store: there is no file {Path(path)}")
    async with open_store(url) as store:
        return await store.list(pipeline, stream_arn)


def shard_rows(listed: Mapping[str, Shard], leases: Iterable[Lease]) -> dict[str, dict[str, Any]]:
    """One row per shard that is listed or has a lease, ready for JSON, by shard id in order."""
    by_id = {lease.shard_id: lease for lease in leases if lease.shard_id != STREAM_ROW}
    return {
        shard_id: _row(shard_id, listed.get(shard_id), by_id.get(shard_id)) for shard_id in sorted({*listed, *by_id})
    }


def _row(shard_id: str, shard: Shard | None, lease: Lease | None) -> dict[str, Any]:
    parents = shard.parents if shard is not None else lease.parents if lease is not None else ()
    row: dict[str, Any] = {
        "shard_id": shard_id,
        "parents": list(parents),
        "state": "forgotten" if shard is None else "closed" if shard.closed else "open",
    }
    if lease is not None:
        row |= {
            "lease": lease.state.value,
            "checkpoint": str(lease.checkpoint),
            "owner": lease.owner,
            "epoch": lease.epoch,
            "gaps": [gap_entry(gap) for gap in lease.gaps],
        }
    return row


def gap_entry(gap: Gap) -> dict[str, str]:
    """Where records are missing, and why; or from where somebody moved the checkpoint back, which loses none."""
    return {"lost_from" if is_loss(gap) else "moved_from": str(gap.lost_from), "cause": gap.cause}


def _gap_text(entry: dict[str, str]) -> str:
    if "lost_from" in entry:
        return f"LOST from {entry['lost_from']} ({entry['cause']})"
    return f"{entry['cause']} from {entry['moved_from']}"


def tree(rows: Mapping[str, dict[str, Any]]) -> list[str]:
    """The rows as a tree, a child below its first known parent, each with its state and what the store says."""
    drawn = list(_drawn(rows))
    width = max((len(name) for name, _ in drawn), default=0)
    return [f"{name:<{width}}  {_state(row)}".rstrip() for name, row in drawn]


def _drawn(rows: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    children: dict[str | None, list[str]] = {}
    for shard_id, row in rows.items():
        children.setdefault(next((parent for parent in row["parents"] if parent in rows), None), []).append(shard_id)
    roots = children.get(None, [])
    # A stack instead of recursion: a store may remember a lineage thousands of generations deep.
    waiting = [(shard_id, "", "") for shard_id in reversed(roots)]
    while waiting:
        shard_id, branch, below = waiting.pop()
        yield f"{branch}{shard_id}", rows[shard_id]
        inner = children.get(shard_id, [])
        for index in range(len(inner) - 1, -1, -1):
            last = index == len(inner) - 1
            waiting.append((inner[index], below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")))


def _state(row: dict[str, Any]) -> str:
    parts = [f"{row['state']:<6}"]
    if "lease" in row:
        parts += [row["checkpoint"], f"owner {row['owner'] or 'nobody'}"]
        parts += [_gap_text(gap) for gap in row["gaps"]]
    return "  ".join(parts)


def _headline(described: StreamInfo, rows: Mapping[str, dict[str, Any]]) -> str:
    counts = [row["state"] for row in rows.values()]
    state = "enabled" if described.enabled else "disabled"
    return (
        f"{described.name}  {described.stream_arn}  {state}  {described.view_type}  "
        f"{counts.count('open')} open, {counts.count('closed')} closed"
    )


def _report(described: StreamInfo, rows: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": described.name,
        "stream_arn": described.stream_arn,
        "enabled": described.enabled,
        "view_type": described.view_type,
        "shards": list(rows.values()),
    }
