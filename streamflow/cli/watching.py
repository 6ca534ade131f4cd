"""A fleet watched: look after look at its leases and its stream, told as lines, as JSON and as metrics. Nothing is written."""

from __future__ import annotations

import datetime as dt
import json
import signal
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.to_thread
import click
from prometheus_client import CollectorRegistry

from streamflow.admin.server import open_admin
from streamflow.cli import leased, looking
from streamflow.cli.measuring import open_measurements
from streamflow.cli.serving import say
from streamflow.clock import SystemClock
from streamflow.errors import StreamflowError
from streamflow.leases import LeaseLayout, LeaseState
from streamflow.observe.fleet import LEASE_DURATION_S, Sightings, entry, figures
from streamflow.observe.fleet_metrics import FleetMetrics
from streamflow.observe.health import Verdict
from streamflow.observe.metrics import RETENTION_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow.cli.leased import Placed, PlacedStream
    from streamflow.cli.measuring import Measurements
    from streamflow.clock import Clock
    from streamflow.http_options import HttpOptions
    from streamflow.observe.fleet import Figures
    from streamflow.protocols import CountedLeaseStore, StateStore


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """`lag_shards` is how many shards of the stream one look may ask for; `once` ends after the first look."""

    every_s: float
    http: HttpOptions | None
    lag_shards: int
    once: bool
    as_json: bool


async def watch(at: Placed, options: WatchOptions) -> int:
    """Look until a signal comes, or `once`; the exit code.

    Raises:
        StreamflowError: the store, the stream or the address of the pages cannot be opened.
    """
    code = 0
    async with leased.opened(at) as (store, streams):
        placed = await streams.of(to_read=options.lag_shards > 0)
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_end, signals, tasks.cancel_scope, name="signals")
                code = await _watch(store, placed, options)
                tasks.cancel_scope.cancel()
    return code


async def _end(signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


async def _watch(store: StateStore, placed: Sequence[PlacedStream], options: WatchOptions) -> int:
    clock, registry, telling = SystemClock(), CollectorRegistry(), Telling(as_json=options.as_json)
    metrics = FleetMetrics(registry)
    async with AsyncExitStack() as stack:
        measurements = await stack.enter_async_context(open_measurements(placed, most=options.lag_shards, clock=clock))
        lookout = Lookout(store, placed, measurements, clock=clock)
        if options.http is not None:
            url = await stack.enter_async_context(open_admin(options.http, registry=registry, health=telling))
            say(f"admin server: {url}")
        while True:
            found, problem = await lookout.look()
            metrics.note(found, failed=problem is not None)
            if not await telling.tell(found, problem, at_s=clock.wall()) or options.once:
                return int(options.once and problem is not None)
            await anyio.sleep(options.every_s)


class Lookout:
    """Looks at leases and stream, and remembers what it saw."""

    def __init__(
        self, store: StateStore, streams: Sequence[PlacedStream], measurements: Measurements, *, clock: Clock
    ) -> None:
        self._store = store
        self._streams = streams
        self._measurements = measurements
        self._clock = clock
        self._sightings = Sightings()
        native = store.layout is LeaseLayout.NATIVE
        self._patience_s = LEASE_DURATION_S if native else cast("CountedLeaseStore", store).failover_s

    async def look(self) -> tuple[Figures | None, str | None]:
        """Figures, unless the store failed, and what went wrong, if anything did."""
        try:
            seen = await looking.look(self._store, self._streams)
        except StreamflowError as error:
            return None, str(error)
        silence_s = self._sightings.note(seen.rows, seen.workers, now=self._clock.monotonic())
        problems = await self._measurements.measure(seen.rows)
        found = figures(
            seen.rows,
            seen.workers,
            pipelines=[stream.pipeline for stream in self._streams],
            layout=seen.layout,
            silence_s=silence_s,
            patience_s=self._patience_s,
            measured=self._measurements.measured,
            at_s=self._clock.wall(),
            retention_s=RETENTION_S,
        )
        return found, "\n".join(problems) or None


# --- how it is told --------------------------------------------------------------------------------------------------


class Telling:
    """One JSON object a look, or a line for each pipeline; problems on stderr, when they change. Answers probes, too."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._problem: str | None = None
        self._looked = False

    async def tell(self, found: Figures | None, problem: str | None, *, at_s: float) -> bool:
        """Whether anybody still reads it."""
        if problem != self._problem:
            say(f"error: {problem}" if problem is not None else "looking works again")
        self._problem, self._looked = problem, True
        lines = [json.dumps(look_entry(found, problem, at_s=at_s))] if self._as_json else told(found)
        try:
            # A reader that is slow must hold up neither the pages nor the way out.
            await anyio.to_thread.run_sync(_write, lines, abandon_on_cancel=True)
        except BrokenPipeError:
            return False
        return True

    def live(self) -> Verdict:
        return Verdict(ok=True)

    def ready(self) -> Verdict:
        """Ready means that the last look succeeded."""
        if not self._looked:
            return Verdict(ok=False, reasons=("there was no look yet",))
        reasons = () if self._problem is None else (self._problem,)
        return Verdict(ok=not reasons, reasons=reasons)


def _write(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(line)


def look_entry(found: Figures | None, problem: str | None, *, at_s: float) -> dict[str, Any]:
    """A look, ready for JSON; `pipelines` and `owners` are empty where the store did not answer."""
    at = dt.datetime.fromtimestamp(at_s, dt.UTC).isoformat(timespec="seconds")
    return {"at": at, "problem": problem, **({"pipelines": [], "owners": []} if found is None else entry(found))}


def told(found: Figures | None) -> list[str]:
    """A look for people: a line for each pipeline."""
    if found is None:
        return []
    time = dt.datetime.fromtimestamp(found.at_s, dt.UTC).strftime("%H:%M:%S")
    lines = []
    for each in found.pipelines:
        parts = [
            f"{each.shards.get(LeaseState.ACTIVE, 0)} unfinished",
            f"{each.unowned} unowned",
            f"{each.workers} {'worker' if each.workers == 1 else 'workers'}",
        ]
        if each.lag_s:
            shard_id, lag_s = max(each.lag_s.items(), key=lambda item: item[1])
            parts.append(f"lag up to {lag_s:.0f} s ({shard_id})" if lag_s else "no lag")
        parts += [
            f"{owner} silent for {found.silence_s[owner]:.0f} s" for owner in sorted(found.silent & set(each.held))
        ]
        lines.append(f"{time} {each.pipeline}: {', '.join(parts)}")
    return lines
