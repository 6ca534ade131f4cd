"""A redrive in the foreground: what signals do to it, and how it ended."""

from __future__ import annotations

import json
import signal
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import anyio
import click

from streamflow.cli import options
from streamflow.cli.letters import opened
from streamflow.cli.serving import say
from streamflow.observe.logs import configure_logging

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streamflow.cli.letters import Selection
    from streamflow.dead_letters import Drawer
    from streamflow.engine.redrive import Redrive, RedriveReport


def redrive_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option(
        "--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="At most N records per second."
    ),
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after N records."),
    click.option("--take-over", is_flag=True, help="Go on although a redrive that was killed has left its claim."),
    options.as_json("Print the report as one JSON object."),
    options.debug,
)


def redrive(
    selection: Selection,
    drawer: Drawer,
    *,
    rate: float | None,
    limit: int | None,
    take_over: bool,
    as_json: bool,
    nothing: str,
) -> int:
    """Run it and print its report; the answer is the exit code. `nothing` says that there are no such letters."""
    _, pipeline = selection.one_pipeline
    configure_logging("text", "WARNING")
    if not anyio.run(_count, selection, drawer):
        say(f"{nothing} of {pipeline}")
        return 0
    report = anyio.run(_run, selection, drawer, rate, limit, take_over)
    if report is None:
        say("stopped at once: what was in flight will be delivered again by the next one")
        return 1
    if as_json:
        click.echo(json.dumps({"pipeline": pipeline, **asdict(report)}))
    else:
        click.echo(f"{pipeline}: {report_text(report)}")
    return 1 if report.failed else 0


async def _count(selection: Selection, drawer: Drawer) -> int:
    async with opened(selection.store) as store:
        return sum([await store.count(query) for query in selection.queries(drawer)])


def report_text(report: RedriveReport) -> str:
    parts = [f"{report.delivered:,} delivered"]
    for count, text in (
        (report.dropped, "left out by middleware"),
        (report.failed, "failed again and kept"),
        (report.held_back, "held back behind a failed change of their item"),
        (report.skipped, "not matching"),
    ):
        if count:
            parts.append(f"{count:,} {text}")
    return ", ".join(parts) + ("; stopped, there may be more" if report.stopped else "")


async def _run(
    selection: Selection, drawer: Drawer, rate: float | None, limit: int | None, take_over: bool
) -> RedriveReport | None:
    """None: it was stopped at once."""
    # All that a worker imports, which the other commands of a group do not need.
    from streamflow.launch import open_redrive

    app, pipeline = selection.one_pipeline
    app = options.changed(app, {"store": selection.store})
    (query,) = selection.queries(drawer)
    accepts = selection.accepts()
    report = None
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            obedience = _Obedience(tasks.cancel_scope.cancel)
            tasks.start_soon(obedience.listen, signals, name="signals")
            async with open_redrive(app, pipeline, drawer, rate_max=rate, take_over=take_over) as redrive:
                obedience.redrive = redrive
                report = await redrive.run(query, accepts=accepts, limit=limit)
            tasks.cancel_scope.cancel()
    return report


class _Obedience:
    """Does what signals say: the first one ends the redrive after its invocation, the second one at once."""

    def __init__(self, give_up: Callable[[], None]) -> None:
        self.redrive: Redrive | None = None
        self._give_up = give_up
        self._stopping = False

    async def listen(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for number in signals:
            if self.redrive is None or self._stopping:
                self._give_up()
            else:
                self._stopping = True
                say(f"{number.name}: finishing what is in flight; once more stops at once")
                self.redrive.stop()
