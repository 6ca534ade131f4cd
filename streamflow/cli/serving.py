"""Running an app in the foreground: what signals do, and how it ended.

Only here are signal handlers installed. The first SIGTERM or SIGINT drains; the second gives up what is in flight. Each has a
deadline, after which the process is left as it is: with a handler that nothing stops, no more can be done for it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import anyio
import click

from streamflow.cli.signals import Listener, keep_armed
from streamflow.events import CancellationIgnored, PipelineStopped
from streamflow.observe.logs import LossyStream

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Coroutine

    from streamflow.events import Event
    from streamflow.launch import Running
    from streamflow.pipeline import App

STUCK = 70
"""Exit code of a process that was left with something in it that did not stop."""
LATE_S = 10.0
"""Beyond `drain_timeout_s`, for the last checkpoints, the leases and the sinks."""
AT_ONCE_S = 1.0
"""From a second signal on, until the event loop has to have heard of it."""
STOP_S = 5.0
"""For the same as `LATE_S`, when it is to stop at once. A supervisor kills after as long."""
_SIGNALS_OBEYED = 2
_PLACES_TOLD = 8
_LAST_WORDS_S = 1.0


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


def run_app(app: App, beside: Beside, *, signals_told: bool = True, hang_limit_s: float = 0.0) -> int:
    """Serve the app, say what will be delivered again, and return the exit code."""
    serving = partial(serve, app, beside, signals_told=signals_told, hang_limit_s=hang_limit_s)
    endings = anyio.run(serving)
    for told in endings.lines():
        say(told)
    return 0 if endings.clean else 1


async def serve(app: App, beside: Beside, *, signals_told: bool = True, hang_limit_s: float = 0.0) -> Endings:
    """Run until the app ends, by itself or by a signal; an event loop that stands still for `hang_limit_s` ends the process.

    Raises:
        StreamflowError: why it failed; it may be inside an exception group.
    """
    from streamflow.launch import running

    endings = Endings()
    async with anyio.create_task_group() as tasks:
        obedience = _Obedience(
            asyncio.get_running_loop(),
            drain_timeout_s=app.drain_timeout_s,
            give_up_start=tasks.cancel_scope.cancel,
            tell=_tell if signals_told else lambda _line: None,
        )
        with obedience.listener.listening():
            if hang_limit_s:
                tasks.start_soon(keep_armed, hang_limit_s, name="hang limit")
            async with running(app, observers=(endings, obedience)) as worker:
                obedience.worker = worker
                async with anyio.create_task_group() as companions:
                    companions.start_soon(beside, worker, name="beside")
                    await worker.wait()
                    companions.cancel_scope.cancel()
            tasks.cancel_scope.cancel()
    return endings


class _Obedience:
    """Does what signals say, in the end by force. Until the worker is there, nothing is in flight and the start is given up.

    An observer, too: what goes on although a drain has cancelled it is not waited for any longer.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        drain_timeout_s: float,
        give_up_start: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self.worker: Running | None = None
        self.listener = Listener(self._hear, self._leave_late)
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._drain_timeout_s = drain_timeout_s
        self._give_up_start = give_up_start
        self._tell = tell
        self._heard = self._obeyed = 0

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, CancellationIgnored) and self.worker is not None and self.worker.stopping:
            self._leave(f"{event.task} goes on although it was cancelled, at {event.where}")

    def _hear(self, number: signal.Signals) -> None:
        """In the listener's thread."""
        self._heard += 1
        if self._heard > _SIGNALS_OBEYED:
            self._leave(f"{number.name} once more")
        self.listener.leave_in(self._drain_timeout_s + LATE_S if self._heard == 1 else AT_ONCE_S)
        self._loop.call_soon_threadsafe(self._obey, number)

    def _obey(self, number: signal.Signals) -> None:
        """In the event loop."""
        self._obeyed += 1
        if self.worker is None:
            self._give_up_start()
        elif self._obeyed == 1:
            self._tell(f"{number.name}: finishing what is in flight; once more stops at once")
            self.worker.stop()
        else:
            self._tell(f"{number.name} again: stopping at once")
            self.listener.leave_in(STOP_S)
            self.worker.stop_now()

    def _leave_late(self) -> None:
        if self._obeyed < self._heard:
            self._leave("the event loop stands still")
        else:
            self._leave("the worker has not stopped in time")

    def _leave(self, why: str) -> NoReturn:
        """End the process, with what is in flight, here and now."""
        from streamflow.engine.watchdog import stack_of_thread

        lines = [f"leaving by force: {why}"]
        if threading.get_ident() != self._loop_thread:
            lines += [f"  {place}" for place in stack_of_thread(self._loop_thread)[-_PLACES_TOLD:]]
        with suppress(RuntimeError):  # the other thread changes it at this moment
            repeating = {} if self.worker is None else self.worker.repeating()
            lines += [
                f"{pipeline}: {shard_id}: what was handed over since {position} will be delivered again"
                for pipeline, shards in repeating.items()
                for shard_id, position in sorted(shards.items())
            ]
        # A pipe that nobody reads holds up no end.
        words = threading.Thread(target=_say_last, args=("\n".join(lines),), daemon=True)  # noqa: TID251 - the process is to end although its loop hangs
        words.start()
        words.join(_LAST_WORDS_S)
        os._exit(STUCK)


def _tell(line: str) -> None:
    """As `say`, where nobody may be held up by whoever reads it."""
    LossyStream(sys.stderr).write(f"{line}\n")


def _say_last(lines: str) -> None:
    say(lines)
    logging.shutdown()
    sys.stdout.flush()


def say(line: str) -> None:
    """One line for whoever watches; stdout is left to data."""
    click.echo(line, err=True)
