"""One shard: the only loop that asks a source for pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from streamflow import events
from streamflow.errors import (
    IteratorExpiredError,
    NotFoundError,
    RequestRefusedError,
    SourceError,
    ThrottledError,
    TrimmedError,
)
from streamflow.failpoints import reach
from streamflow.records import newest_outline
from streamflow.rules.pacing import READ_BACKOFF, phase_of

if TYPE_CHECKING:
    from streamflow.engine.buffer import ShardBuffer
    from streamflow.engine.flow import Flow
    from streamflow.positions import Position
    from streamflow.protocols import Page, ShardReader

# DynamoDB Streams takes 1..1000 for the Limit of GetRecords.
RECORDS_MAX = 1_000


def error_code(error: BaseException) -> str:
    """The service's own code where the error carries one, else the error's name."""
    code = getattr(error, "code", None)
    return code if isinstance(code, str) and code else type(error).__name__


async def read_shard(flow: Flow, shard_id: str, reader: ShardReader, buffer: ShardBuffer) -> None:
    """Read pages into the buffer until the shard ends, or until cancelled because the flow stops.

    Where the records at this position are gone, the buffer's end says so, and the shard decides what to do.

    Raises:
        RequestRefusedError: the service will never answer this request.
        LeaseLostError: where the start was a time, its place could not be stored.
    """
    pace, phase = flow.options.pace, phase_of(shard_id)
    clock = flow.around.clock
    # Patience is for shards that had records: of this one nothing is known yet.
    heard_at, failures = clock.monotonic() - pace.patience_s, 0
    while not (flow.stopping.is_set() or buffer.ended):
        await buffer.wait_room()
        started, asked_at_s = clock.monotonic(), clock.wall()
        buffer.asked_at = started
        try:
            page = await reader.read(records_max=RECORDS_MAX)
        except (TrimmedError, NotFoundError) as error:
            # What was read before is good, and may be nowhere else any more: it is delivered first.
            buffer.end(error)
            return
        except RequestRefusedError:
            raise
        except SourceError as error:
            failures += 1
            buffer.asked_at = None
            await anyio.sleep(_report_failure(flow, shard_id, error, failures))
            continue
        buffer.asked_at = None
        await reach("page.read")
        if buffer.checkpoints.begin_at(page.records):
            await buffer.checkpoints.store()
        if flow.stopping.is_set() or buffer.ended:
            return  # its records would come behind what the stop has forgotten, or what is delivered before it opens anew
        failures = 0
        outline = newest_outline(page.records)
        newest = None if outline is None else outline[1]
        duration_s = clock.monotonic() - started
        filtered = 0
        if page.records:
            heard_at = started
            filtered = buffer.put(page.records, weight=page.bytes, now=clock.monotonic())
        else:
            buffer.note_caught_up(asked_at_s - page.age_s)
        _report_page(flow, shard_id, page, outline, duration_s, buffer, filtered)
        if page.ended:
            buffer.end()
            return
        delay_s = pace.delay_s(
            records=len(page.records),
            page_bytes=page.bytes,
            newest_age_s=0.0 if newest is None else clock.wall() - newest,
            silence_s=started - heard_at,
            shards=flow.whole.shards,
            phase=phase,
            now_s=clock.monotonic(),
        )
        del page  # what is settled of it is to be free before the next one comes
        # Whoever stops the shard cancels this; an idle shard does little else, so it should cost little.
        await anyio.sleep(delay_s)


def _report_page(
    flow: Flow,
    shard_id: str,
    page: Page,
    outline: tuple[Position, float] | None,
    duration_s: float,
    buffer: ShardBuffer,
    filtered: int,
) -> None:
    if page.reopened:
        flow.around.emit(events.IteratorExpired(pipeline=flow.name, shard_id=shard_id))
    flow.around.emit(
        events.PageRead(
            pipeline=flow.name,
            shard_id=shard_id,
            records=len(page.records),
            bytes=page.bytes,
            duration_s=duration_s,
            age_s=page.age_s,
            last_created_at_s=None if outline is None else outline[1],
            millis_behind=page.millis_behind,
            buffered_bytes=buffer.bytes,
            filtered=filtered,
            last=None if outline is None else outline[0],
            ended=page.ended,
        )
    )


def _report_failure(flow: Flow, shard_id: str, error: SourceError, failures: int) -> float:
    """Tell the observers; the answer is the pause before the next poll."""
    delay_s = READ_BACKOFF.delay_s(failures, flow.around.random)
    throttled = isinstance(error, ThrottledError)
    if isinstance(error, ThrottledError) and error.retry_after_s is not None:
        delay_s = max(delay_s, error.retry_after_s)
    if isinstance(error, IteratorExpiredError):
        flow.around.emit(events.IteratorExpired(pipeline=flow.name, shard_id=shard_id))
    flow.around.emit(
        events.ReadFailed(
            pipeline=flow.name,
            shard_id=shard_id,
            code=error_code(error),
            throttled=throttled,
            retry_after_s=delay_s,
            message=str(error),
        )
    )
    return delay_s
