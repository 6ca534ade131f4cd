"""`streamflow run`: one worker in the foreground, until a signal, the end of its streams, or a failure."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import anyio
import click

from streamflow.cli import options
from streamflow.cli.serving import say, serve
from streamflow.config.load import load_app
from streamflow.errors import ConfigError
from streamflow.observe import progress
from streamflow.observe.logs import configure_logging
from streamflow.pipeline import App, DynamoDBStream, HttpOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from streamflow.launch import Running
    from streamflow.pipeline import Pipeline

_REDRAW_INTERVAL_S = 0.25
_LINE_INTERVAL_S = 30.0
_JSON_INTERVAL_S = 1.0


@click.command(short_help="Run a pipeline file or an app.")
@click.argument("target", metavar="TARGET")
@click.option("--store", metavar="URL", help="Where leases and checkpoints are kept: sqlite:///PATH or memory:")
@click.option(
    "--http", metavar="[HOST:]PORT", help="Serve /metrics, /livez and /readyz there; port 0 picks a free one."
)
@click.option("--worker-id", metavar="ID", help="Owner of the leases; a restart under the same id continues at once.")
@options.endpoint_url
@options.region
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to log, on stderr.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="What to log from.",
)
@options.as_json("Print progress as one JSON object a line on stdout, the last one at the end.")
@options.debug
@click.pass_context
def run(
    context: click.Context,
    target: str,
    *,
    store: str | None,
    http: str | None,
    worker_id: str | None,
    endpoint_url: str | None,
    region: str | None,
    log_format: Literal["text", "json"],
    log_level: str,
    as_json: bool,
) -> None:
    """Run TARGET: a pipeline file, module:app or path/file.py:app, where app is an App or a Pipeline.

    The options stand in for what TARGET says. SIGTERM or Ctrl-C finishes what is in flight, stores how far it is and
    exits with 0; a second one stops at once and says which records will be delivered again.
    """
    app = load_app(target)
    app = options.changed(app, {"store": store, "worker_id": worker_id, "http": served_at(http, app.http)})
    app = redirected(app, {"endpoint_url": endpoint_url, "region": region})
    configure_logging(log_format, log_level.upper())
    context.exit(_run(app, show_json if as_json else show_live if log_format == "text" else show_lines))


def _run(app: App, show: Callable[[Running], Coroutine[Any, Any, None]]) -> int:
    async def beside(worker: Running) -> None:
        if worker.admin_url is not None:
            say(f"admin server: {worker.admin_url}")
        await show(worker)

    endings = anyio.run(serve, app, beside)
    for told in endings.lines():
        say(told)
    return 0 if endings.clean else 1


# --- what the options change -----------------------------------------------------------------------------------------


def served_at(text: str | None, declared: HttpOptions | None) -> HttpOptions | None:
    """`PORT`, `HOST:PORT` or `[IPV6]:PORT`; a host that is not given stays as declared.

    Raises:
        ConfigError: it is none of these.
    """
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ConfigError(f"--http: {text!r} is no address: write PORT or HOST:PORT")
    declared = declared or HttpOptions()
    return HttpOptions(host=host.strip("[]") or declared.host, port=int(port))


def redirected(app: App, changes: Mapping[str, str | None]) -> App:
    """`app` with AWS reached as `changes` say, for every stream of it."""

    def redirect(pipeline: Pipeline) -> Pipeline:
        source = pipeline.source
        if not isinstance(source, DynamoDBStream) or source.aws is None:
            return pipeline
        return options.changed(
            pipeline, {"source": options.changed(source, {"aws": options.changed(source.aws, changes)})}
        )

    pipelines = tuple(redirect(pipeline) for pipeline in app.pipelines)
    return options.changed(app, {"aws": options.changed(app.aws, changes), "pipelines": pipelines})


# --- progress --------------------------------------------------------------------------------------------------------


async def show_lines(worker: Running) -> None:
    """A log line now and then: for log files and services."""
    while True:
        await anyio.sleep(_LINE_INTERVAL_S)
        logging.getLogger("streamflow.progress").info(progress.line(worker.progress.snapshot()))


async def show_json(worker: Running) -> None:
    """A JSON object a line, the last one when everything has stopped."""
    try:
        while True:
            await anyio.sleep(_JSON_INTERVAL_S)
            _print_json(worker)
    finally:
        _print_json(worker)


def _print_json(worker: Running) -> None:
    print(json.dumps(progress.as_json(worker.progress.snapshot())), flush=True)


async def show_live(worker: Running) -> None:
    """A table that is redrawn in place; what is logged scrolls by above it. Lines where stderr is not a terminal."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        await show_lines(worker)
        return
    with Live(console=console, auto_refresh=False, redirect_stdout=sys.stdout.isatty()) as live, _logs_above():
        try:
            while True:
                live.update(progress.render(worker.progress.snapshot()), refresh=True)
                await anyio.sleep(_REDRAW_INTERVAL_S)
        finally:
            live.update(progress.render(worker.progress.snapshot()), refresh=True)


@contextmanager
def _logs_above() -> Iterator[None]:
    """Log to the stderr of the moment, which a live display has replaced by one that writes above it."""
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler)]
    before = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            if stream is not None:
                handler.setStream(stream)
