"""Running an app in the foreground: what signals do, and how it ended.

Only here are signal handlers installed. The first SIGTERM or SIGINT drains; the second gives up what is in flight.
"""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
import click

from streamflow.events import PipelineStopped

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


Beside: TypeAlias = "Callable[[Running], Coroutine[Any, Any, None]]"
"""What runs next to a worker, from its opening on, and is cancelled at its end."""


def run_app(app: App, beside: Beside, *, signals_told: bool = True) -> int:
    """Serve the app, say what will be delivered again, and return the exit code."""
    endings = anyio.run(partial(serve, app, beside, signals_told=signals_told))
    for told in endings.lines():
        say(told)
    return 0 if endings.clean else 1


async def serve(app: App, beside: Beside, *, signals_told: bool = True) -> Endings:
    """Run until the app ends, by itself or by a signal.

    Raises:
        StreamflowError: why it failed; it may be inside an exception group.
    """
    from streamflow.launch import running

    endings = Endings()
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            obedience = _Obedience(
                give_up_start=tasks.cancel_scope.cancel, tell=say if signals_told else lambda _line: None
            )
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

    def __init__(self, *, give_up_start: Callable[[], None], tell: Callable[[str], None]) -> None:
        self.worker: Running | None = None
        self._give_up_start = give_up_start
        self._tell = tell
        self._draining = False

    async def listen(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for number in signals:
            if self.worker is None:
                self._give_up_start()
            elif not self._draining:
                self._draining = True
                self._tell(f"{number.name}: finishing what is in flight; once more stops at once")
                self.worker.stop()
            else:
                self._tell(f"{number.name} again: stopping at once")
                self.worker.stop_now()


def say(line: str) -> None:
    """One line for whoever watches; stdout is left to data."""
    click.echo(line, err=True)
