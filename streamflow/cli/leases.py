"""`streamflow leases`: who owns which shard, and how a person changes that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import anyio
import click

from streamflow.cli import leased, letters, looking, options
from streamflow.cli.serving import say
from streamflow.cli.shards import gap_entry
from streamflow.errors import ConfigError
from streamflow.leases import LeaseLayout, LeaseState
from streamflow.rules.resets import shards_of
from streamflow.rules.steps import AskedFor, PassedOn
from streamflow.targets import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streamflow.cli.leased import Placed
    from streamflow.cli.looking import Look
    from streamflow.leases import Lease
    from streamflow.protocols import CountedLeaseStore, StateStore

_TITLES = (
    "pipeline", "shard", "state", "owner", "epoch", "version", "checkpoint", "claimant", "parents", "children", "gaps",
)  # fmt: skip
_WORKER_TITLES = ("worker", "may be silent", "version", "leases", "pipelines", "")


@click.group(short_help="Show who owns which shard, let leases go, or ask for them.")
def leases() -> None:
    """Show who owns which shard, let leases go, or ask for them on behalf of a worker."""


watching = click.option(
    "--watch",
    "watch_s",
    type=click.FloatRange(min=0, min_open=True, max=3_600),
    metavar="SECONDS",
    help="Look twice, so long apart: who wrote nothing meanwhile was silent.",
)


@leases.command("list", short_help="List leases with their owners, and the workers.")
@leased.placed()
@watching
@options.as_json("Print one JSON object a line.")
@options.debug
def list_command(*, at: Placed, watch_s: float | None, as_json: bool) -> None:
    """List the leases of FILE's pipelines, or of one pipeline of a store, and the workers that share them.

    One look cannot tell whether an owner lives; --watch can.
    """
    look = anyio.run(_look, at, watch_s)
    rows = sorted(look.rows, key=lambda row: (row.pipeline, row.shard_id))
    workers = worker_entries(look)
    if as_json:
        for entry in [*(lease_entry(row, look) for row in rows), *workers]:
            click.echo(json.dumps(entry))
        return
    if not rows:
        say("there are no leases: no worker has started such a pipeline with this store")
        return
    click.echo("\n".join(letters.table(_TITLES, [_cells(lease_entry(row, look)) for row in rows])))
    if workers:
        click.echo("\n".join(["", *letters.table(_WORKER_TITLES, [_worker_cells(entry) for entry in workers])]))


@leases.command(short_help="Watch a fleet: owners, silence and lag, as lines and metrics.")
@leased.placed()
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0.1, max=3_600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Pause between two looks.",
)
@click.option(
    "--http", metavar="[HOST:]PORT", help="Serve /metrics, /livez and /readyz there; port 0 picks a free one."
)
@click.option(
    "--lag-shards",
    type=click.IntRange(min=0, max=1_000),
    default=20,
    show_default=True,
    metavar="N",
    help="Ask the stream about so many shards a look; 0 for none.",
)
@click.option("--once", is_flag=True, help="Look once; exit code 1 if it fails.")
@options.as_json("Print one JSON object a look.")
@options.debug
@click.pass_context
def watch(
    context: click.Context,
    /,
    *,
    at: Placed,
    every_s: float,
    http: str | None,
    lag_shards: int,
    once: bool,
    as_json: bool,
) -> None:
    """Look at a fleet again and again, without taking part: who owns what, who is silent, how far shards are behind.

    It writes nothing. SIGTERM or Ctrl-C ends it with exit code 0.
    """
    from streamflow.cli.run_options import served_at
    from streamflow.cli.watching import WatchOptions
    from streamflow.cli.watching import watch as watch_fleet

    chosen = WatchOptions(
        every_s=every_s, http=served_at(http, None), lag_shards=lag_shards, once=once, as_json=as_json
    )
    context.exit(anyio.run(watch_fleet, at, chosen))


@leases.command(short_help="Let leases go, for any worker to take.")
@leased.placed("[SHARD]...")
@click.option("--all", "everything", is_flag=True, help="Every lease that has an owner.")
@watching
@click.option("--force", is_flag=True, help="Also where the owner seems to be alive.")
@options.debug
@click.pass_context
def release(
    context: click.Context,
    /,
    *,
    at: Placed,
    words: tuple[str, ...],
    everything: bool,
    watch_s: float | None,
    force: bool,
) -> None:
    """Take leases from owners that are gone, so that any worker may have them at once.

    A living owner loses such a lease with its next write: what it has in flight is delivered again by the next one.
    """
    if bool(words) == everything:
        raise click.UsageError("Name the shards, or say --all.")
    context.exit(anyio.run(_release, at, words, watch_s, force))


@leases.command(short_help="Ask the owners to pass leases on to a worker.")
@leased.placed("SHARD...")
@click.option("--for", "worker", required=True, metavar="WORKER", help="Id of the worker that is to have them.")
@options.debug
@click.pass_context
def take(context: click.Context, /, *, at: Placed, words: tuple[str, ...], worker: str) -> None:
    """Ask the owners of leases to finish what they have in flight, and to pass the leases on to WORKER."""
    if not words:
        raise click.UsageError("Missing argument 'SHARD...'.")
    context.exit(anyio.run(_take, at, words, worker))


# --- what is done ----------------------------------------------------------------------------------------------------


async def _look(at: Placed, watch_s: float | None) -> Look:
    async with leased.opened(at) as (store, streams):
        return await looking.look(store, await streams.of(), watch_s=watch_s)


async def _release(at: Placed, shard_ids: Sequence[str], watch_s: float | None, force: bool) -> int:
    async with leased.opened(at) as (store, streams):
        look = await looking.look(store, await streams.of(), watch_s=watch_s)
        rows = leased.chosen(look.rows, shard_ids) if shard_ids else [row for row in look.rows if row.owner is not None]
        free = [row for row in rows if row.owner is None]
        held = [row for row in rows if row.owner is not None]
        for row in free:
            say(f"{row.shard_id} has no owner")
        if not force:
            looking.refuse_living(look, held)
        return await _write_all(
            held,
            lambda row: leased.changed(store, row, PassedOn()),
            lambda row: f"{row.shard_id}: {row.owner} has it no more, and any worker may take it",
        )


async def _take(at: Placed, shard_ids: Sequence[str], worker: str) -> int:
    async with leased.opened(at) as (store, streams):
        look = await looking.look(store, await streams.of())
        rows = leased.chosen(look.rows, shard_ids)
        for pipeline in {row.pipeline for row in rows}:
            known = look.working_on(pipeline)
            if worker not in known:
                raise ConfigError(
                    f"--for: no worker {worker!r} works on {pipeline}{did_you_mean(worker, known)}; `streamflow leases list` "
                    "shows who does"
                )
        if problems := [problem for row in rows if (problem := _cannot_ask(row, worker))]:
            raise ConfigError(problems)
        return await _write_all(
            rows,
            lambda row: _ask(store, row, worker),
            lambda row: f"{row.shard_id}: {row.owner} was asked to pass it on to {worker}",
        )


def _cannot_ask(row: Lease, worker: str) -> str | None:
    if row.state is not LeaseState.ACTIVE:
        return f"{row.shard_id} is read to its end: there is nothing to pass on"
    if row.owner is None:
        return f"{row.shard_id} has no owner to ask: the next worker that looks takes it"
    if row.owner == worker:
        return f"{row.shard_id} belongs to {worker} already"
    if row.claimant is not None:
        return f"{row.shard_id} is about to go to {row.claimant} already"
    return None


async def _ask(store: StateStore, row: Lease, worker: str) -> bool:
    if store.layout is LeaseLayout.NATIVE:
        return await leased.changed(store, row, AskedFor(worker))
    return await cast("CountedLeaseStore", store).ask(row, worker) is not None


async def _write_all(
    rows: Sequence[Lease], write: Callable[[Lease], Awaitable[bool]], told: Callable[[Lease], str]
) -> int:
    """The exit code."""
    failed = 0
    for row in rows:
        if await write(row):
            click.echo(told(row))
        else:
            failed = 1
            say(f"error: {row.shard_id} was written by somebody else meanwhile: nothing was changed, look again")
    return failed


# --- how it is shown -------------------------------------------------------------------------------------------------


def lease_entry(row: Lease, look: Look) -> dict[str, Any]:
    """A lease, ready for JSON. `owner_has_row` and `owner_silent` are None where nobody can know."""
    native = look.layout is LeaseLayout.NATIVE
    return {
        "kind": "lease",
        "pipeline": row.pipeline,
        "stream_arn": row.stream_arn,
        "shard_id": row.shard_id,
        "state": row.state.value,
        "owner": row.owner,
        "owner_has_row": row.owner in look.workers if native and row.owner is not None else None,
        "owner_silent": None if look.silent is None or row.owner is None else row.owner in look.silent,
        "epoch": row.epoch,
        "version": row.version,
        "checkpoint": str(row.checkpoint),
        "claimant": row.claimant,
        "parents": list(row.parents),
        "children": list(row.children),
        "gaps": [gap_entry(gap) for gap in row.gaps],
    }


def worker_entries(look: Look) -> list[dict[str, Any]]:
    """The workers, ready for JSON. They share the store: there may be some that work on other pipelines."""
    held = [row.owner for row in shards_of(look.rows).values()]
    return [
        {
            "kind": "worker",
            "worker": worker_id,
            "pipelines": list(row.children),
            "lease_duration_s": row.duration_s,
            "version": row.version,
            "leases": held.count(worker_id),
            "silent": None if look.silent is None else worker_id in look.silent,
        }
        for worker_id, row in sorted(look.workers.items())
    ]


def _cells(entry: dict[str, Any]) -> list[str]:
    remarks = [
        *(["no worker row"] if entry["owner_has_row"] is False else []),
        *(["silent"] if entry["owner_silent"] else []),
    ]
    owner = entry["owner"] or "-"
    return [
        entry["pipeline"],
        entry["shard_id"],
        entry["state"],
        f"{owner} ({', '.join(remarks)})" if remarks else owner,
        str(entry["epoch"]),
        str(entry["version"]),
        entry["checkpoint"],
        entry["claimant"] or "-",
        *(str(len(entry[name])) for name in ("parents", "children", "gaps")),
    ]


def _worker_cells(entry: dict[str, Any]) -> list[str]:
    duration_s = entry["lease_duration_s"]
    return [
        entry["worker"],
        "?" if duration_s is None else f"{duration_s:g} s",
        str(entry["version"]),
        str(entry["leases"]),
        ", ".join(entry["pipelines"]) or "-",
        "silent" if entry["silent"] else "",
    ]
