"""Payloads as JSON lines, appended to a file that is rotated by size and time."""

from __future__ import annotations

import errno
import os
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from streamflow.errors import ConfigError, SinkBusyError, StreamflowError
from streamflow.payloads import PayloadForm
from streamflow.sdk.capabilities import Capabilities
from streamflow.sdk.declarations import SinkPlugin
from streamflow.sdk.permissions import nothing_at_aws
from streamflow.sdk.settings import Settings
from streamflow.sinks.jsonl_file import Fsync, LinesFile
from streamflow.sinks.lines import LinesWriter, performing
from streamflow.sinks.writing_thread import open_writing_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from streamflow.batches import Batch
    from streamflow.protocols import Writer
    from streamflow.sdk.context import SinkContext
    from streamflow.sinks.writing_thread import Perform

# Nothing is wrong with a batch that finds no room: it waits until somebody made some.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_ROOM_PAUSE_S = 5.0


class JsonlSettings(Settings):
    path: Annotated[Path, Field(examples=["orders.jsonl"])]
    """The file to append to; it is made where it is missing, its directory is not."""
    payload: Annotated[PayloadForm, Field(examples=["change"])] = "lambda"
    """What a line holds: the record as Lambda has it, the new image, or key, before and after."""
    rotate_bytes: Annotated[int | None, Field(ge=1_024, examples=[104_857_600])] = None
    """A file that would grow beyond this is renamed first; None lets it grow."""
    rotate_interval_s: Annotated[float | None, Field(ge=1, examples=[86_400.0])] = None
    """A file holds what was written in one interval of this length, counted from 1970 UTC: 86400 is a day. None: no limit."""
    fsync: Annotated[Fsync, Field(examples=["rotation"])] = "batch"
    """When lines are forced to the disk: before a batch counts as written, when a file is rotated or closed, or never by us.

    Without "batch", a power cut may take what is acknowledged already; the end of a process never does.
    """


@asynccontextmanager
async def open_jsonl(settings: JsonlSettings, context: SinkContext) -> AsyncIterator[Writer]:
    """Open the file, or make it; a line that a killed writer left half is cut off.

    Raises:
        ConfigError: it cannot be written, or holds something else.
    """
    file = LinesFile(
        path=settings.path,
        rotate_bytes=settings.rotate_bytes,
        rotate_interval_s=settings.rotate_interval_s,
        fsync=settings.fsync,
        now=context.clock.wall,
    )

    def append(lines: bytes) -> None:
        try:
            file.append(lines)
        except OSError as error:
            raise _failure(error, settings.path) from error
        except StreamflowError as error:
            raise StreamflowError(f"sink jsonl: {error}") from None

    @contextmanager
    def opened() -> Iterator[Perform[Batch]]:
        try:
            file.open()
        except (OSError, StreamflowError) as error:
            reason = _not_opened(error, settings.path) if isinstance(error, OSError) else error
            raise ConfigError(f"sink jsonl: {reason}") from None
        try:
            yield performing(append, settings.payload)
        finally:
            file.close()

    async with open_writing_thread(opened, f"sink jsonl {settings.path.name}") as thread:
        yield LinesWriter(thread)


def _failure(error: OSError, path: Path) -> StreamflowError:
    text = f"sink jsonl: nothing was written to {path}: {os.strerror(error.errno or 0)}"
    if error.errno in _NO_ROOM:
        return SinkBusyError(f"{text}: make room; until then the pipeline waits", retry_after_s=_NO_ROOM_PAUSE_S)
    return StreamflowError(text)


def _not_opened(error: OSError, path: Path) -> str:
    directory = path.absolute().parent
    match error.errno:
        case errno.ENOENT:
            return f"the directory {directory} does not exist: create it, or name another path"
        case errno.EISDIR:
            return f"{path} is a directory: name a file in it"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return (
                f"{path} cannot be written by this user: change its owner or that of {directory}, or name another path"
            )
        case _:
            return f"{path} cannot be opened: {os.strerror(error.errno or 0)}"


def _capabilities(settings: JsonlSettings) -> Capabilities:
    return Capabilities(
        order="shard",
        idempotence="none",
        partial_failures=True,
        needs_images=settings.payload == "image",
        batch_size=1_000,
    )


jsonl = SinkPlugin(
    name="jsonl",
    api_version="1.0",
    summary="One line of JSON for each record, appended to a file that is rotated by size and time.",
    settings=JsonlSettings,
    examples={
        "one file": {"path": "orders.jsonl"},
        "a file a day, 100 MB at most": {
            "path": "orders.jsonl",
            "payload": "change",
            "rotate_bytes": 104_857_600,
            "rotate_interval_s": 86_400,
        },
    },
    open=open_jsonl,
    capabilities=_capabilities,
    permissions=nothing_at_aws,
)
