"""Batches as lines of JSON for a target that takes bytes, and the writer that sinks of that kind share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from streamflow.failures import RecordsFailedError
from streamflow.payloads import payload
from streamflow.sdk.encoding import encoded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.batches import Batch
    from streamflow.payloads import PayloadForm
    from streamflow.records import Record
    from streamflow.sinks.writing_thread import Perform, Request, WritingThread

Append: TypeAlias = "Callable[[bytes], None]"
"""Writes lines, durably so far as the sink promises; what it raises means that none of them counts as written."""


@dataclass(frozen=True, slots=True)
class LinesWriter:
    """Keeps `streamflow.protocols.Writer`."""

    thread: WritingThread[Batch]

    async def write(self, batch: Batch, /) -> None:
        if failures := await self.thread.ask(batch):
            raise RecordsFailedError(failures)


def line(record: Record, form: PayloadForm) -> bytes:
    """Raises as `payload`."""
    return payload(record, form) + b"\n"


def performing(append: Append, form: PayloadForm) -> Perform[Batch]:
    """Append the lines of all requests at once; the result of each is the failures of its records."""

    def perform(requests: Sequence[Request[Batch]]) -> None:
        lines: list[bytes] = []
        for request in requests:
            found = encoded(request.content, partial(line, form=form))
            request.result = found.failures
            lines += found.entries
        if not lines:
            return
        try:
            append(b"".join(lines))
        except Exception as error:  # noqa: BLE001 - each caller hears of it
            for request in requests:
                request.error = error

    return perform
