"""Running an app in the foreground: what signals do, and how it ended.

Only here are signal handlers installed. The first SIGTERM or SIGINT drains; the second gives up what is in flight.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import anyio
import click

from streamflow.events import PipelineStopped
from streamflow.launch import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from streamflow.events import Event
    from streamflow.launch import Running
    from streamflow.pipeline import App


class Endings:
    """An observer that remembers how each pipeline stopped."""

    def __init__(self) -> None:
        self._stopped: list[PipelineStopped] = []

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, PipelineStopped):
            self._stopped.append(event)

    @property
    def clean(self) -> bool:
        return all(event.drained for event in self._stopped)

    def lines(self) -> list[str]:
        """What will be delivered again, one line per shard."""
        return [
            f"{event.pipeline}: {shard_id}: what was handed over since {position} will be delivered again"
            for event in self._stopped
            for shard_id, position in sorted(event.repeating.items())
        ]


async def serve(app: App, beside: Callable[[Running], Coroutine[Any, Any, None]]) -> Endings:
    """Run until the app ends, by itself or by a signal. `beside` runs next to it and is cancelled at the end.

    Raises:
        StreamflowError: why it failed; it may be inside an exception group.
    """
    endings = Endings()
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            obedience = _Obedience(give_up_start=tasks.cancel_scope.cancel)
            tasks.start_soon(obedience.listen, signals, name="signals")
            async with running(app, observers=(endings,)) as worker:
                obedience.worker = worker
                async with anyio.create_task_group() as companions:
                    companions.start_soon(beside, worker, name="beside")
                    await worker.wait()
                    companions.cancel_scope.cancel()
            tasks.cancel_scope.cancel()
    return endings


class _Obedience:
    """Does what signals say. Until the worker is there, nothing is in flight and the start is given up."""

    def __init__(self, *, give_up_start: Callable[[], None]) -> None:
        self.worker: Running | None = None
        self._give_up_start = give_up_start
        self._draining = False

    async def listen(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for number in signals:
            if self.worker is None:
                self._give_up_start()
            elif not self._draining:
                self._draining = True
                say(f"{number.name}: finishing what is in flight; once more stops at once")
                self.worker.stop()
            else:
                say(f"{number.name} again: stopping at once")
                self.worker.stop_now()


def say(line: str) -> None:
    """One line for whoever watches; stdout is left to data."""
    click.echo(line, err=True)
