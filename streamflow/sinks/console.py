"""One line for each record on stdout or stderr: for the first run, and to see what a pipeline does."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from streamflow.errors import StreamflowError
from streamflow.payloads import PayloadForm
from streamflow.sdk.capabilities import Capabilities
from streamflow.sdk.declarations import SinkPlugin
from streamflow.sdk.permissions import nothing_at_aws
from streamflow.sdk.settings import Settings
from streamflow.sinks.lines import LinesWriter, performing
from streamflow.sinks.writing_thread import open_writing_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from streamflow.batches import Batch
    from streamflow.protocols import Writer
    from streamflow.sdk.context import SinkContext
    from streamflow.sinks.writing_thread import Perform


class ConsoleSettings(Settings):
    stream: Annotated[Literal["stdout", "stderr"], Field(examples=["stderr"])] = "stdout"
    """Where the lines go."""
    payload: Annotated[PayloadForm, Field(examples=["change"])] = "lambda"
    """What a line holds: the record as Lambda has it, the new image, or key, before and after."""


@asynccontextmanager
async def open_console(settings: ConsoleSettings, context: SinkContext) -> AsyncIterator[Writer]:  # noqa: ARG001 - needs none
    """A reader that does not read holds the pipeline, never the event loop."""

    @contextmanager
    def opened() -> Iterator[Perform[Batch]]:
        yield performing(lambda lines: write_lines(settings.stream, lines), settings.payload)

    async with open_writing_thread(opened, f"sink console {settings.stream}") as thread:
        yield LinesWriter(thread)


def write_lines(stream: Literal["stdout", "stderr"], lines: bytes) -> None:
    """Write and flush.

    Raises:
        StreamflowError: nobody reads it.
    """
    # Looked up each time: whoever captures output replaces it. JSON is UTF-8, whatever the terminal's encoding is.
    target = sys.stdout if stream == "stdout" else sys.stderr
    try:
        target.flush()
        target.buffer.write(lines)
        target.buffer.flush()
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "it is closed"
        raise StreamflowError(f"sink console: nothing can be written to {stream}: {reason}") from error


def _capabilities(settings: ConsoleSettings) -> Capabilities:
    return Capabilities(
        order="shard", idempotence="none", partial_failures=True, needs_images=settings.payload == "image"
    )


console = SinkPlugin(
    name="console",
    api_version="1.0",
    summary="One line of JSON for each record on stdout or stderr: for the first run, and to look on.",
    settings=ConsoleSettings,
    examples={"what Lambda would see": {}, "before and after": {"payload": "change"}},
    open=open_console,
    capabilities=_capabilities,
    permissions=nothing_at_aws,
)
