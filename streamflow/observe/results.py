"""`LastProcessingResult`: what an event source mapping says about its last invocation or source error, word for word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from streamflow.errors import PartialFailure, SourceError
from streamflow.events import (
    BatchDelivered,
    BatchFailed,
    CheckpointStored,
    DiscoveryFailed,
    PageRead,
    PipelineFailed,
    ReadFailed,
)

if TYPE_CHECKING:
    from streamflow.events import Event

ResultKind = Literal["none", "ok", "function_error", "source_error"]

# Of a message that a server wrote, what a status page can bear; the errors of AWS are cut shorter than this already.
_TEXT_LENGTH_MAX = 1_000
# Losing the permission to list shards is what Lambda shows for a stream (`... not authorized to perform:
# dynamodb:DescribeStream`). Other listings that fail are the store's, or throttled, and harm nothing by themselves.
_DENIED_CODES = frozenset({"AccessDenied", "AccessDeniedException"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingResult:
    kind: ResultKind
    text: str


NOTHING_PROCESSED = ProcessingResult(kind="none", text="No records processed")
ACCEPTED = ProcessingResult(kind="ok", text="OK")
FUNCTION_FAILED = ProcessingResult(kind="function_error", text="PROBLEM: Function call failed")


def processing_result(event: Event) -> ProcessingResult | None:
    """What an event makes of the result; None leaves the one before, as every discard does."""
    match event:
        case BatchDelivered():
            return ACCEPTED
        case PageRead() | CheckpointStored():
            return None  # beside batches, what happens most of all
        case BatchFailed() if event.invoked:
            return ACCEPTED if _reports_failures(event.error) else FUNCTION_FAILED
        case ReadFailed() if not event.throttled:
            return _source_failed(event.code, event.message)
        case DiscoveryFailed() if event.code in _DENIED_CODES:
            return _source_failed(event.code, event.message)
        case PipelineFailed(error=SourceError() as error):
            return _source_failed(error.code or "", str(error))
        case _:
            return None


def _reports_failures(error: BaseException) -> bool:
    """A response that reports failures is a good response; one that names no record of the batch is another error."""
    return isinstance(error, PartialFailure) and bool(error.sequence_numbers)


def _source_failed(code: str, message: str) -> ProcessingResult:
    """The service's own words: our errors have its code before them."""
    text = f"PROBLEM: {message.removeprefix(f'{code}: ')}"
    return ProcessingResult(kind="source_error", text=text[:_TEXT_LENGTH_MAX])
