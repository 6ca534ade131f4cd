"""Progress on a terminal, as log lines, or as JSON: of one worker, or of several as one."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Coroutine
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from streamflow.observe import progress
from streamflow.observe.progress import ProgressSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

_REDRAW_INTERVAL_S = 0.25
_LINE_INTERVAL_S = 30.0
_JSON_INTERVAL_S = 1.0

Show: TypeAlias = Callable[[Callable[[], ProgressSnapshot]], Coroutine[Any, Any, None]]
"""Shows what it is given, until it is cancelled."""


async def show_lines(snapshot: Callable[[], ProgressSnapshot]) -> None:
    """A log line now and then: for log files and services."""
    while True:
        await anyio.sleep(_LINE_INTERVAL_S)
        logging.getLogger("streamflow.progress").info(progress.line(snapshot()))


async def show_json(snapshot: Callable[[], ProgressSnapshot]) -> None:
    """A JSON object a line, the last one when everything has stopped."""
    try:
        while True:
            await anyio.sleep(_JSON_INTERVAL_S)
            _print_json(snapshot())
    finally:
        _print_json(snapshot())


def _print_json(snapshot: ProgressSnapshot) -> None:
    """A reader that is gone is no reason to stop the work."""
    with suppress(BrokenPipeError):
        print(json.dumps(progress.as_json(snapshot)), flush=True)


async def show_live(snapshot: Callable[[], ProgressSnapshot]) -> None:
    """A table that is redrawn in place; what is logged scrolls by above it. Lines where stderr is not a terminal."""
    if not sys.stderr.isatty():  # rich knows more of terminals, and takes a while to load
        await show_lines(snapshot)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        await show_lines(snapshot)
        return
    with Live(console=console, auto_refresh=False, redirect_stdout=sys.stdout.isatty()) as live, _logs_above():
        try:
            while True:
                live.update(progress.render(snapshot()), refresh=True)
                await anyio.sleep(_REDRAW_INTERVAL_S)
        finally:
            live.update(progress.render(snapshot()), refresh=True)


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
