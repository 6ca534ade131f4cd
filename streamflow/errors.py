"""The error tree: each error is an instruction, named after the state of the world, and carries its data.

Messages say what, where, why and the next step; they hold positions and names, never item images or secrets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self


class StreamflowError(Exception):
    """Anything streamflow raises on purpose."""


class ConfigError(StreamflowError):
    """A declaration that cannot run; the command line exits with status 2.

    `problems` holds every mistake found, one line each, so that one run shows them all.
    """

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class PatternError(StreamflowError):
    """A filter pattern that cannot be compiled: Lambda's text and, after it, the reason and the place."""

    def __init__(self, reason: str, *, path: str = "") -> None:
        self.reason = reason
        self.path = path
        where = f" at {path}" if path else ""
        super().__init__(f"Invalid filter pattern definition. ({reason}{where})")


class MalformedRecordError(StreamflowError):
    """A record that does not have the shape of a DynamoDB stream record."""

    def __init__(self, *, shard_id: str, sequence_number: str | None, reason: str) -> None:
        self.shard_id = shard_id
        self.sequence_number = sequence_number
        self.reason = reason
        super().__init__(f"malformed record {sequence_number or '(no sequence number)'} in {shard_id}: {reason}")


# --- reading ---------------------------------------------------------------------------------------------------------


class SourceError(StreamflowError):
    """Reading failed. A plain `SourceError` is transient with an unknown outcome: try again after a pause.

    `code` is the service's own error code, or a name for what happened on the way there.
    """

    code: str | None = None


class ThrottledError(SourceError):
    """The service asked for a pause: wait `retry_after_s`, or back off where it is None."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class IteratorExpiredError(SourceError):
    """The shard iterator is past its life (15 min on DynamoDB Streams): ask for another at the last position."""


class TrimmedError(SourceError):
    """The position is older than retention (24 h on DynamoDB Streams): the records up to the horizon are lost."""


class AccessDeniedError(SourceError):
    """The credentials are missing, wrong or not allowed to make this call; more calls will not help by themselves."""


class NotFoundError(SourceError):
    """The table, stream or shard does not exist (any more)."""


class StreamDisabledError(SourceError):
    """The table exists but has no stream to read."""


class RequestRefusedError(SourceError):
    """The service refused the request as malformed: repeating it cannot succeed."""


# --- leases ----------------------------------------------------------------------------------------------------------


class StoreError(StreamflowError):
    """The lease store failed and the write did not happen: nothing is lost, nothing was stored."""


class UnknownOutcomeError(StoreError):
    """The lease store failed in the middle of a write, which may or may not have happened: read the row back."""


class LeaseLostError(StreamflowError):
    """Somebody else owns the lease now: stop the shard, store nothing, never retry with a newer version."""


# --- handling --------------------------------------------------------------------------------------------------------


class PartialFailure(StreamflowError):  # noqa: N818 - the term of the field (ReportBatchItemFailures)
    """Raised by a handler: everything before the lowest of `sequence_numbers` is done, the rest is to be retried.

    A number that is not in the batch, and an empty collection, count as failure of the whole batch.
    """

    def __init__(self, sequence_numbers: Sequence[str]) -> None:
        self.sequence_numbers = tuple(sequence_numbers)
        super().__init__(f"{len(self.sequence_numbers)} records failed, from {min(self.sequence_numbers, default='?')}")


class RecordRefusedError(StreamflowError):
    """The target cannot take this record, now or later: it is too large, or holds what the target has no type for."""


class FencedError(StreamflowError):
    """Raised by a sink: a newer owner of the shard has written, so this worker must stop working on it.

    `epoch` is the newest that the sink has seen, where it can tell. A worker that still owns the lease then moves it beyond
    that epoch: the lease was made anew, by hand or with its store, and would be refused for ever.
    """

    def __init__(self, message: str, *, epoch: int | None = None) -> None:
        self.epoch = epoch
        super().__init__(message)

    @classmethod
    def behind(cls, shard_id: str, *, epoch: int, newest: int, where: str) -> Self:
        """What a sink says that keeps the newest epoch of each shard, `where`, and is written to with an older one."""
        return cls(
            f"a newer owner of {shard_id} has written: epoch {newest} is in {where}, and this worker has epoch {epoch}. Where "
            "another worker has the shard now, there is nothing to do. Where its lease was made anew, by hand or with its "
            "store, its owner moves it beyond that epoch by itself, once; if this comes again, workers over two stores of "
            "leases write here: stop those over one of them, and start the others again",
            epoch=newest,
        )


class SinkBusyError(StreamflowError):
    """Raised by a sink: try again after `retry_after_s`; nothing is wrong with the batch."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class HandlerTimeoutError(StreamflowError):
    """The handler did not finish within `timeout_s`."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"the handler did not finish within {timeout_s:g} s")


class SuspectedKillerError(StreamflowError):
    """Every process that handed this record over, and nothing beside it, ended without a word, `times` in a row."""

    def __init__(self, times: int) -> None:
        self.times = times
        super().__init__(
            f"the process ended each of the {times} times that this record was handed over, alone: it is not any more"
        )


class LambdaFunctionError(StreamflowError):
    """A Lambda function failed as a whole: it raised, ran out of time, or returned a response that means so.

    `function_error` is Lambda's word for it: "Unhandled", or None where the function returned a response.
    """

    def __init__(self, message: str, *, function_error: str | None = "Unhandled") -> None:
        self.function_error = function_error
        super().__init__(message)


class EventTooLargeError(StreamflowError):
    """The event of a single record is beyond the limit of an invocation: it never reaches the handler."""

    def __init__(self, *, event_bytes: int, bytes_max: int) -> None:
        self.event_bytes = event_bytes
        self.bytes_max = bytes_max
        super().__init__(f"the event of one record has {event_bytes} bytes, an invocation takes {bytes_max}")


class WindowStateError(StreamflowError):
    """A handler left a tumbling window without a state, or with one that is no JSON object."""


class UnaccountedRecordsError(StreamflowError):
    """A middleware neither passed records on nor left them out aloud with `batch.without(…, reason=…)`."""

    def __init__(self, sequence_numbers: Sequence[str]) -> None:
        self.sequence_numbers = tuple(sequence_numbers)
        super().__init__(
            f"{len(self.sequence_numbers)} records were neither delivered nor left out aloud, the first is "
            f"{self.sequence_numbers[0]}: a middleware must await call_next(batch), "
            "or drop with batch.without(predicate, reason=…)"
        )


class DestinationError(StreamflowError):
    """An on-failure destination did not take a batch: it is tried again, and the checkpoint waits.

    `code` is the service's own error code, or a name for what happened on the way there.
    """

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)


class PluginError(StreamflowError):
    """A plugin is missing, broken or does not keep its contract; the original error is the cause."""

    def __init__(self, message: str, *, plugin: str) -> None:
        self.plugin = plugin
        super().__init__(message)


def error_text(error: BaseException) -> str:
    """`str(error)`, also where that raises."""
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001 - an error of somebody else's class, and so is this one
        return f"(its text cannot be had: {type(failure).__name__})"


def leading_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that counts of those that ended a group of tasks: a lost lease explains all others, else the first."""
    found: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            found.append(error)
    return next((error for error in found if isinstance(error, LeaseLostError)), found[0])
