"""`streamflow tail`: the records of a stream as they come. Its purpose is to show data."""

from __future__ import annotations

import datetime as dt
import re
import sys
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import click
import msgspec

from streamflow.cli import options
from streamflow.cli.serving import serve
from streamflow.errors import MalformedRecordError
from streamflow.observe.logs import configure_logging
from streamflow.pipeline import App, Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO, Literal

    from streamflow.attributes import NativeValue
    from streamflow.batches import Batch
    from streamflow.launch import Running
    from streamflow.records import Record

_PLAIN = re.compile(r"[\w.-]+")


@click.command(short_help="Print the records of a stream as they come.")
@click.argument("table", metavar="TABLE|ARN")
@click.option(
    "--from",
    "start",
    type=click.Choice(["TRIM_HORIZON", "LATEST"]),
    default="LATEST",
    show_default=True,
    help="Everything the stream still holds, or what comes from now on.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after N records.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), metavar="S", help="End after S seconds.")
@options.endpoint_url
@options.region
@options.as_json("Print each record as AWS Lambda would get it, one JSON object a line.")
@options.debug
def tail(
    table: str,
    *,
    start: Literal["TRIM_HORIZON", "LATEST"],
    limit: int | None,
    seconds: float | None,
    endpoint_url: str | None,
    region: str | None,
    as_json: bool,
) -> None:
    """Print the records of a table's stream as they come, every shard of it, children after their parents.

    TABLE names a table, whose latest stream is read; ARN is that of a stream. Nothing is stored. Ctrl-C ends it.
    """
    printer = Printer(sys.stdout.buffer, json_line if as_json else compact_line, limit=limit)
    pipeline = Pipeline(
        name="tail", source=options.stream(table), handler=printer, starting_position=start, on_trimmed="continue"
    )
    app = App(
        pipelines=(pipeline,), store="memory:", aws=options.aws_options(endpoint_url, region), drain_timeout_s=2.0
    )
    configure_logging("text", "WARNING")
    anyio.run(_follow, app, printer, seconds)


async def _follow(app: App, printer: Printer, seconds: float | None) -> None:
    async def until_enough(worker: Running) -> None:
        with anyio.move_on_after(seconds):
            await printer.done.wait()
        worker.stop()

    await serve(app, until_enough)


class Printer:
    """A handler that writes each record as one line, up to `limit` of them; `done` once there is no use in more."""

    def __init__(self, out: BinaryIO, line: Callable[[Record], bytes], *, limit: int | None) -> None:
        self.done = anyio.Event()
        self._out = out
        self._line = line
        self._left = limit

    async def __call__(self, batch: Batch) -> None:
        records = batch.records if self._left is None else batch.records[: self._left]
        if self._left is not None:
            self._left -= len(records)
        try:
            # A pager that does not read on must hold up this handler, not the event loop.
            await anyio.to_thread.run_sync(self._write, b"".join(self._shown(record) for record in records))
        except BrokenPipeError:
            self._left = 0
        if self._left == 0:
            self.done.set()

    def _shown(self, record: Record) -> bytes:
        try:
            return self._line(record) + b"\n"
        except MalformedRecordError as error:
            click.echo(f"error: {error}", err=True)
            return b""

    def _write(self, lines: bytes) -> None:
        self._out.write(lines)
        self._out.flush()


def json_line(record: Record) -> bytes:
    event = record.lambda_event_json()
    return msgspec.json.format(event, indent=-1) if b"\n" in event else event


def compact_line(record: Record) -> bytes:
    """Time (UTC), event, keys, shard, sequence number. Control characters in keys do not reach the terminal."""
    created = dt.datetime.fromtimestamp(record.created_at_s, dt.UTC)
    keys = " ".join(f"{_name(name)}={_value(value)}" for name, value in record.keys.items())
    line = (
        f"{created:%Y-%m-%dT%H:%M:%SZ} {record.event_name:<6} {keys}  {record.shard.shard_id} {record.sequence_number}"
    )
    return line.encode("utf-8", "backslashreplace")


def _name(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else repr(name)


def _value(value: NativeValue) -> str:
    """Key attributes are strings, numbers or binary."""
    return f"0x{value.hex()}" if isinstance(value, bytes) else repr(value) if isinstance(value, str) else str(value)
