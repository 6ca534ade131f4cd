"""Writing a batch to a service that takes several records in one request, and says of each what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, TypeVar

import anyio

from streamflow.errors import (
    FencedError,
    MalformedRecordError,
    RecordRefusedError,
    SinkBusyError,
    error_text,
    leading_error,
)
from streamflow.failures import RecordFailure, RecordsFailedError
from streamflow.rules.requests import packed, waves

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streamflow.batches import Batch
    from streamflow.records import Record
    from streamflow.sdk.capabilities import Capabilities

T = TypeVar("T")

BEHIND = "behind a change of the same item that was not written"


@dataclass(frozen=True, slots=True)
class Rejection:
    """What became of an entry that the service did not take; `kind` as in `RecordFailure`."""

    kind: Literal["failed", "refused", "waiting"]
    reason: str


Answers: TypeAlias = "Sequence[Rejection | None] | None"
"""One for each entry of the request, in order; None for an entry that was taken, or for all of them."""


@dataclass(frozen=True, slots=True)
class _Entry(Generic[T]):
    place: int
    record: Record
    key: str
    content: T
    bytes: int


async def write_in_requests(
    batch: Batch,
    *,
    encode: Callable[[Record], tuple[T, int]],
    send: Callable[[Sequence[T]], Awaitable[Answers]],
    capabilities: Capabilities,
    concurrency: int = 8,
) -> None:
    """Send the batch in requests within the limits of `capabilities`, up to `concurrency` at the same time.

    `encode` gives what to send for a record, and its bytes in the request. Where the capabilities promise order of some
    kind, no request holds two changes of one item, and a later change waits for the answer to the earlier one: if that was
    not taken, the later one is not sent.

    What `send` raises counts for all entries of its request: `SinkBusyError` as "waiting", `FencedError` ends everything,
    any other error as "failed".

    Raises:
        RecordsFailedError: some records were not written; where nothing was, and for one reason, that reason as it is.
    """
    progress: _Progress[T] = _Progress(batch, send, capabilities, anyio.CapacityLimiter(concurrency))
    entries = progress.encoded(encode)
    if capabilities.order == "none":
        await progress.send_side_by_side(entries)
    else:
        for places in waves([entry.key for entry in entries]):
            await progress.send_side_by_side(progress.unhindered([entries[place] for place in places]))
    progress.finish()


class _Progress(Generic[T]):
    """What became of one batch so far."""

    def __init__(
        self,
        batch: Batch,
        send: Callable[[Sequence[T]], Awaitable[Answers]],
        capabilities: Capabilities,
        limiter: anyio.CapacityLimiter,
    ) -> None:
        self._batch = batch
        self._send = send
        self._capabilities = capabilities
        self._limiter = limiter
        self._failures: dict[int, RecordFailure] = {}  # by place in the batch
        self._hindered: dict[str, int] = {}  # item to the place of its first change that was not written
        self._errors: list[Exception] = []
        self._answered_single = False  # the target told single records apart, in one request at least
        self._retry_after_s: float | None = None

    def encoded(self, encode: Callable[[Record], tuple[T, int]]) -> list[_Entry[T]]:
        """What can be sent; what cannot is refused."""
        ordered = self._capabilities.order != "none"
        bytes_max = self._capabilities.record_bytes_max
        entries: list[_Entry[T]] = []
        for place, record in enumerate(self._batch):
            key = key_of(record) if ordered else ""
            try:
                content, size = encode(record)
            except (RecordRefusedError, MalformedRecordError) as error:
                self._fail(place, record, key, Rejection("refused", str(error)))
                continue
            if bytes_max is not None and size > bytes_max:
                reason = f"it has {size} bytes, and the target takes {bytes_max}"
                self._fail(place, record, key, Rejection("refused", reason))
            else:
                entries.append(_Entry(place, record, key, content, size))
        return entries

    def unhindered(self, entries: Sequence[_Entry[T]]) -> list[_Entry[T]]:
        """Those whose item has no earlier change that was not written; the others wait."""
        free: list[_Entry[T]] = []
        for entry in entries:
            if self._hindered.get(entry.key, entry.place) < entry.place:
                self._fail(entry.place, entry.record, entry.key, Rejection("waiting", BEHIND))
            else:
                free.append(entry)
        return free

    async def send_side_by_side(self, entries: Sequence[_Entry[T]]) -> None:
        limits = self._capabilities
        requests = list(
            packed(
                entries,
                [entry.bytes for entry in entries],
                records_max=limits.request_records_max,
                bytes_max=limits.request_bytes_max,
            )
        )
        if len(requests) == 1:
            await self._request(requests[0])
            return
        try:
            async with anyio.create_task_group() as tasks:
                for request in requests:
                    tasks.start_soon(self._request, request, name=f"{self._batch.pipeline}/request")
        except BaseExceptionGroup as group:
            raise leading_error(group) from None

    async def _request(self, request: Sequence[_Entry[T]]) -> None:
        answers: Answers
        async with self._limiter:
            try:
                answers = await self._send([entry.content for entry in request])
            except FencedError:
                raise
            except SinkBusyError as error:
                self._errors.append(error)
                self._retry_after_s = max(self._retry_after_s or 0.0, error.retry_after_s)
                self._fail_each(request, Rejection("waiting", str(error)))
                return
            except Exception as error:  # noqa: BLE001 - told for each record of the request, or as it is
                self._errors.append(error)
                self._fail_each(request, Rejection("failed", f"{type(error).__name__}: {error_text(error)}"))
                return
        if answers is not None:
            for entry, answer in zip(request, answers, strict=True):
                if answer is not None:
                    self._answered_single = True
                    self._fail(entry.place, entry.record, entry.key, answer)

    def _fail_each(self, entries: Sequence[_Entry[T]], rejection: Rejection) -> None:
        for entry in entries:
            self._fail(entry.place, entry.record, entry.key, rejection)

    def _fail(self, place: int, record: Record, key: str, rejection: Rejection) -> None:
        self._failures[place] = RecordFailure(record, rejection.kind, rejection.reason)
        self._hindered[key] = min(place, self._hindered.get(key, place))

    def finish(self) -> None:
        """Raises what is to be told of the batch."""
        if not self._failures:
            return
        failures = [self._failures[place] for place in sorted(self._failures)]
        whole = len(failures) == len(self._batch) and not any(failure.kind == "refused" for failure in failures)
        reasons = {(type(error), error_text(error)) for error in self._errors}
        if whole and len(reasons) == 1 and not self._answered_single:
            raise max(self._errors, key=lambda error: getattr(error, "retry_after_s", 0.0))
        raise RecordsFailedError(failures, retry_after_s=self._retry_after_s)


def key_of(record: Record) -> str:
    """A record without a readable key is an item of its own."""
    try:
        return record.item_key
    except MalformedRecordError:
        return f"unreadable {id(record)}"
