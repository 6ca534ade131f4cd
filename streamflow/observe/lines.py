"""Events as lines: what is worth telling a person, how loud, and in which words. Pure: nothing is written here.

Item data never gets into a line. An exception that a handler raised may quote an item in its message, so of errors that
are not ours a line has the type and the place, and the message only where the user asked for it.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, assert_never

from streamflow.errors import (
    DestinationError,
    LambdaFunctionError,
    PartialFailure,
    SinkBusyError,
    StreamflowError,
)
from streamflow.events import (
    BatchDelivered,
    BatchFailed,
    CancellationIgnored,
    CheckpointFailed,
    CheckpointStored,
    DestinationFailed,
    DiscoveryFailed,
    HeartbeatFailed,
    IsolationEnded,
    KillerHeld,
    LeaseHandedOver,
    LeaseLost,
    LeaseReleased,
    LeaseTaken,
    LoopBlocked,
    PageRead,
    ParkingFailed,
    PipelineFailed,
    PipelineStarted,
    PipelineStopped,
    ReaderStuck,
    ReadFailed,
    RecordsDiscarded,
    RecordsParked,
    RecordsTrimmed,
    ShardAwaitingChildren,
    ShardClosed,
    ShardClosing,
    ShardIsolated,
    ShardsDiscovered,
    StreamEnded,
    WindowClosed,
    WorkerStruck,
    WorkerTakenForDead,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from streamflow.events import Event

TEXT_LENGTH_MAX = 300
"""Longest value in a line, in characters; the rest of an error text is left out."""

# Of an exception group, the first few say what happened.
_ERRORS_SHOWN = 3

Value = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """`fact` is what happened in two or three words, the same for every event of a kind; `fields` is in telling order."""

    level: int
    fact: str
    fields: Mapping[str, Value]

    def __str__(self) -> str:
        return f"{self.fact} {key_values(self.fields)}".rstrip()


def line_of(event: Event, *, log_handler_errors: bool = False) -> Line | None:
    """The line for an event; None for what happens all the time."""
    match event:
        case PageRead() | BatchDelivered() | CheckpointStored():
            return None
        case ReadFailed() | BatchFailed() | CheckpointFailed() | DiscoveryFailed() | LoopBlocked():
            return _failure(event, log_handler_errors)
        case RecordsDiscarded() | DestinationFailed() | RecordsParked() | ParkingFailed() | WindowClosed():
            return _given_up(event, log_handler_errors)
        case LeaseTaken() | LeaseLost() | LeaseReleased() | LeaseHandedOver() | ReaderStuck():
            return _lease_life(event)
        case ShardClosed() | ShardsDiscovered() | ShardAwaitingChildren():
            return _shard_life(event)
        case HeartbeatFailed() | WorkerStruck() | WorkerTakenForDead():
            return _worker_life(event, log_handler_errors)
        case ShardIsolated() | IsolationEnded() | KillerHeld() | CancellationIgnored():
            return _deadly(event)
        case PipelineStarted():
            return _info("pipeline started", event.pipeline, shards=event.shards, stream=event.stream_arn)
        case PipelineStopped():
            repeating = " ".join(f"{shard_id}:{position}" for shard_id, position in event.repeating.items())
            again = {"repeating": repeating} if repeating else {}
            return _info("pipeline stopped", event.pipeline, drained=event.drained, **again)
        case StreamEnded():
            return _info("stream ended", event.pipeline, stream=event.stream_arn)
        case PipelineFailed():
            error = error_fields(event.error, log_handler_errors=log_handler_errors)
            return _line(logging.ERROR, "pipeline failed", event.pipeline, **error)
        case RecordsTrimmed():
            gap = {"shard": event.shard_id, "lost_from": str(event.lost_from), "cause": event.cause}
            return _line(logging.ERROR, "records trimmed", event.pipeline, **gap)
        case _:
            return None


def _lease_life(event: LeaseTaken | LeaseLost | LeaseReleased | LeaseHandedOver | ReaderStuck) -> Line:
    pipeline, shard_id = event.pipeline, event.shard_id
    match event:
        case LeaseTaken():
            previous = {"previous_owner": event.previous_owner} if event.previous_owner else {}
            return _info("lease taken", pipeline, shard=shard_id, epoch=event.epoch, **previous)
        case LeaseLost():
            return _info("lease lost", pipeline, shard=shard_id, reason=event.reason)
        case LeaseReleased():
            return _info("lease released", pipeline, shard=shard_id)
        case LeaseHandedOver():
            return _info("lease handed over", pipeline, shard=shard_id, to=event.to)
        case ReaderStuck():
            stuck_s = round(event.stuck_s, 1)
            return _line(logging.WARNING, "reader stuck", pipeline, shard=shard_id, stuck_s=stuck_s)
        case _:
            assert_never(event)


def _worker_life(event: HeartbeatFailed | WorkerStruck | WorkerTakenForDead, log_handler_errors: bool) -> Line:
    fields: dict[str, Value] = {"worker": event.worker_id}
    match event:
        case HeartbeatFailed():
            fields |= error_fields(event.error, log_handler_errors=log_handler_errors)
            fields |= {"retry_after_s": round(event.retry_after_s, 1)}
            return Line(level=logging.WARNING, fact="heartbeat failed", fields=fields)
        case WorkerStruck():
            fields |= {"silent_s": round(event.silent_s, 1)}
            return Line(level=logging.WARNING, fact="worker gone", fields=fields)
        case WorkerTakenForDead():
            fields |= {"silent_s": round(event.silent_s, 1)}
            return Line(level=logging.WARNING, fact="taken for dead", fields=fields)
        case _:
            assert_never(event)


def _shard_life(event: ShardClosed | ShardsDiscovered | ShardAwaitingChildren) -> Line | None:
    pipeline = event.pipeline
    match event:
        case ShardClosed(reason=ShardClosing.ENDED):
            return _info("shard ended", pipeline, shard=event.shard_id, children=" ".join(event.children) or "none yet")
        case ShardsDiscovered() if event.created or event.forgotten:
            counts = {"created": len(event.created), "forgotten": len(event.forgotten)}
            return _info("shards discovered", pipeline, listed=event.listed, **counts)
        case ShardAwaitingChildren():
            return _info("shard awaits children", pipeline, shard=event.shard_id)
        case _:
            return None


def _deadly(event: ShardIsolated | IsolationEnded | KillerHeld | CancellationIgnored) -> Line:
    """Of handlers that end their process, or that nothing ends."""
    pipeline, shard_id = event.pipeline, event.shard_id
    match event:
        case ShardIsolated():
            fields: dict[str, Value] = {"deaths": event.deaths, "checkpoint": str(event.checkpoint)}
            return _line(logging.WARNING, "shard isolated", pipeline, shard=shard_id, **fields)
        case IsolationEnded():
            return _info("isolation ended", pipeline, shard=shard_id, records=event.records)
        case KillerHeld():
            fields = {"sequence_number": event.sequence_number, "times": event.times}
            return _line(logging.ERROR, "killer held", pipeline, shard=shard_id, **fields)
        case CancellationIgnored():
            fields = {"after_s": round(event.after_s, 1), "task": event.task, "where": event.where}
            # Innermost first: a line has an end.
            stack = " < ".join(reversed(event.stack))
            return _line(logging.ERROR, "cancellation ignored", pipeline, shard=shard_id, **fields, stack=stack)
        case _:
            assert_never(event)


def _given_up(
    event: RecordsDiscarded | DestinationFailed | RecordsParked | ParkingFailed | WindowClosed, log_handler_errors: bool
) -> Line | None:
    pipeline, shard_id = event.pipeline, event.shard_id
    match event:
        case RecordsDiscarded():
            level = logging.WARNING if event.destinations else logging.ERROR
            fields: dict[str, Value] = {"records": event.records, "condition": event.condition}
            fields |= {"invoke_count": event.invoke_count, "destinations": " ".join(event.destinations) or "none"}
            ends = {"first": event.first, "last": event.last}
            fields |= {end: str(position) for end, position in ends.items() if position is not None}
            return _line(level, "records discarded", pipeline, shard=shard_id, **fields)
        case RecordsParked() if event.opened:
            fields = {"records": event.records, "opened": event.opened, "parked_keys": event.parked_keys}
            return _line(logging.WARNING, "records parked", pipeline, shard=shard_id, **fields)
        case DestinationFailed():
            fact = "destination failed"
            fields = {"destination": event.destination, "records": event.records, "attempt": event.attempt}
        case ParkingFailed():
            fact, fields = "parking failed", {}
        case WindowClosed(early=True):
            fields = {"start_s": event.start_s, "end_s": event.end_s, "state_bytes": event.state_bytes}
            return _info("window closed early", pipeline, shard=shard_id, **fields)
        case _:
            return None
    fields |= error_fields(event.error, log_handler_errors=log_handler_errors)
    retry_after_s = round(event.retry_after_s, 3)
    return _line(logging.ERROR, fact, pipeline, shard=shard_id, **fields, retry_after_s=retry_after_s)


def _failure(
    event: ReadFailed | BatchFailed | CheckpointFailed | DiscoveryFailed | LoopBlocked, log_handler_errors: bool
) -> Line:
    fields: dict[str, Value]
    match event:
        case LoopBlocked():
            fields = {"blocked_s": round(event.blocked_s, 3), "task": event.task, "where": event.where}
            return Line(level=logging.WARNING, fact="event loop blocked", fields=fields)
        case ReadFailed():
            fact = "poll throttled" if event.throttled else "poll failed"
            fields = {"shard": event.shard_id, "code": event.code, "error": event.message}
        case DiscoveryFailed():
            fact = "discovery failed"
            fields = {"code": event.code, "error": event.message}
        case CheckpointFailed():
            fact = "checkpoint failed"
            fields = {"shard": event.shard_id, **error_fields(event.error)}
        case BatchFailed():
            fact = "batch failed"
            fields = {"shard": event.shard_id, "records": event.records, "attempt": event.attempt}
            fields |= error_fields(event.error, log_handler_errors=log_handler_errors)
    return _line(logging.WARNING, fact, event.pipeline, **fields, retry_after_s=round(event.retry_after_s, 3))


def _info(fact: str, pipeline: str, **fields: Value) -> Line:
    return _line(logging.INFO, fact, pipeline, **fields)


def _line(level: int, fact: str, pipeline: str, **fields: Value) -> Line:
    return Line(level=level, fact=fact, fields={"pipeline": pipeline, **fields})


# --- errors ----------------------------------------------------------------------------------------------------------


def error_fields(error: BaseException, *, log_handler_errors: bool = False) -> dict[str, str]:
    """What may be told of an error: its type, where it was raised, and the message if it is ours or asked for."""
    errors = list(_leaves(error))
    fields = {"error_type": " ".join(type(each).__name__ for each in errors[:_ERRORS_SHOWN])}
    if isinstance(errors[0], DestinationError):
        fields["code"] = errors[0].code
    if place := _place(errors[0]):
        fields["at"] = place
    texts = [str(each) for each in errors[:_ERRORS_SHOWN] if log_handler_errors or _is_ours(each)]
    if texts:
        fields["error"] = "; ".join(texts)
    return fields


def _is_ours(error: BaseException) -> bool:
    """Our messages hold names and positions only, unless a handler writes them: in these classes, or in its own.

    A destination has whole records in its hands, and may be anybody's: only what our own raise is told.
    """
    if isinstance(error, DestinationError):
        trace = _innermost(error)
        return trace is not None and str(trace.tb_frame.f_globals.get("__name__")).startswith("streamflow.")
    written_by_handler = isinstance(error, SinkBusyError | LambdaFunctionError | PartialFailure)
    is_our_class = type(error).__module__.partition(".")[0] == "streamflow"
    return isinstance(error, StreamflowError) and is_our_class and not written_by_handler


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _place(error: BaseException) -> str:
    """file:line:function of the innermost frame, without its folder; empty for an error that was never raised."""
    trace = _innermost(error)
    if trace is None:
        return ""
    code = trace.tb_frame.f_code
    return f"{PurePath(code.co_filename).name}:{trace.tb_lineno}:{code.co_name}"


def _innermost(error: BaseException) -> TracebackType | None:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace


# --- text ------------------------------------------------------------------------------------------------------------


def key_values(fields: Mapping[str, Value]) -> str:
    """`key=value …` on one line; a value with spaces, quotes or `=` is quoted as in JSON."""
    return " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())


def one_line(text: str) -> str:
    """At most 300 characters, nothing in them that moves a cursor, starts a line or colours a terminal."""
    kept = text[: TEXT_LENGTH_MAX + 1]
    if not kept.isprintable():
        kept = "".join(character if character.isprintable() else " " for character in kept)
    return kept if len(kept) <= TEXT_LENGTH_MAX else kept[: TEXT_LENGTH_MAX - 1] + "…"


def _quoted(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = one_line(str(value))
    plain = text and not any(character in ' ="\\' for character in text)
    return text if plain else json.dumps(text, ensure_ascii=False)
