"""One process of a worker: started fresh, in a session of its own, with a channel to here."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from streamflow.cli.supervision.channel import Channel, open_channel
from streamflow.cli.supervision.relay import Output, open_relay
from streamflow.failpoints import armed

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator, Callable, Sequence

    from anyio.abc import Process

    from streamflow.cli.run_options import RunOptions
    from streamflow.cli.supervision.messages import Message

_AFTERWARDS_S = 1.0
"""Time to read what an ended process has left in its pipes; a process of its own making may keep them open for ever."""


def command(chosen: RunOptions, *, number: int, workers: int, name: str, channel: int, debug: bool) -> list[str]:
    """The command line of worker `number` of `workers`; `name` is its base id where nothing else says one."""
    # Modules in the current directory shadow others only where they already do so here.
    safe_path = [] if sys.path[0] in {"", str(Path.cwd())} else ["-P"]
    place = [f"--number={number}", f"--workers={workers}", f"--name={name}", f"--channel={channel}"]
    return [
        sys.executable,
        *safe_path,
        *("-m", "streamflow.testing.failpoints" if armed() else "streamflow.cli.main", "run-worker"),
        *place,
        *(["--debug"] if debug else []),
        *chosen.arguments(),
    ]


class WorkerProcess:
    """A process that runs, or has just ended."""

    def __init__(self, process: Process, channel: Channel) -> None:
        self._process = process
        self.channel = channel

    @property
    def id(self) -> int:
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Nothing happens where it has ended."""
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def wait(self) -> int:
        return await self._process.wait()


@asynccontextmanager
async def open_process(
    command_of: Callable[[int], Sequence[str]], *, stdout: Output, stderr: Output, heard: Callable[[Message], None]
) -> AsyncIterator[WorkerProcess]:
    """Start the process of `command_of(file descriptor of its channel)`; it is killed if the block is cancelled.

    What it writes is passed on, and what it sends is told to `heard`, also after it has ended, for as long as there is
    something to read. It has a session of its own: Ctrl-C on our terminal is ours alone to pass on.

    Raises:
        OSError: the machine can start no more processes.
    """
    with ExitStack() as our_ends:
        with ExitStack() as their_ends:
            channel_end, their_channel_end = socket.socketpair()
            our_ends.callback(channel_end.close)
            their_ends.callback(their_channel_end.close)
            out, their_out = _open_pipe(our_ends, their_ends)
            err, their_err = _open_pipe(our_ends, their_ends)
            process = await anyio.open_process(
                command_of(their_channel_end.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=their_out,
                stderr=their_err,
                start_new_session=True,
                pass_fds=[their_channel_end.fileno()],
            )
        our_ends.pop_all()
    channel = await open_channel(channel_end)
    async with process, open_relay(out) as from_stdout, open_relay(err) as from_stderr:
        try:
            async with anyio.create_task_group() as listening:
                listening.start_soon(from_stdout.run, stdout)
                listening.start_soon(from_stderr.run, stderr)
                listening.start_soon(_listen, channel, heard)
                yield WorkerProcess(process, channel)
                listening.cancel_scope.deadline = anyio.current_time() + _AFTERWARDS_S
        finally:
            await channel.aclose()


def _open_pipe(our_ends: ExitStack, their_ends: ExitStack) -> tuple[int, int]:
    """Ours, to read from, and theirs; each is closed with its stack."""
    reading_end, writing_end = os.pipe()
    our_ends.callback(os.close, reading_end)
    their_ends.callback(os.close, writing_end)
    return reading_end, writing_end


async def _listen(channel: Channel, heard: Callable[[Message], None]) -> None:
    async for message in channel.messages():
        heard(message)
