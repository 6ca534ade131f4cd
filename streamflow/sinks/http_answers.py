"""What a webhook's answer means for the records that it was sent. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeAlias

import orjson

from streamflow.errors import PartialFailure, SinkBusyError, StreamflowError
from streamflow.rules.responses import read_response
from streamflow.sdk.requests import Rejection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.sinks.http_requests import Message

# A target that asks for a day of silence is asked again sooner.
RETRY_AFTER_S_MAX = 300.0
_RETRY_AFTER_S = 1.0

_TOO_MANY = 429
# May say when to come again; without that, what was sent may be the reason, and it costs an attempt.
_PAUSES = frozenset({408, 425, _TOO_MANY})
# About the address or the credentials, whatever was sent: nothing that a dead letter would mend.
_OF_THE_TARGET = {
    401: "look at the credentials in headers and signing_secrets",
    402: "ask whoever runs it",
    403: "look at the credentials in headers and signing_secrets",
    404: "look at the url",
    405: "look at the url and the method",
    407: "a proxy stands before it",
    410: "it is gone: end the pipeline, or give another url",
    421: "look at the url",
}


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer for each record; None for all that were taken."""

    answers: Sequence[Rejection | None] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Something in the request cannot be taken: of several records, nobody knows which."""

    reason: str


Meaning: TypeAlias = "Answered | Refused"


def meaning(
    status: int, retry_after: str | None, content: bytes, messages: Sequence[Message], *, now_s: float
) -> Meaning:
    """`now_s` is the wall clock, for a Retry-After that is a date.

    Raises:
        SinkBusyError: it asks for a pause.
        StreamflowError: none of the records counts as taken.
    """
    if 200 <= status < 300:
        return Answered(_told(content, messages))
    if 300 <= status < 400:
        raise StreamflowError(f"it answers {status}, a redirect, which is not followed: give the final url")
    if 400 <= status < 500 and status not in _PAUSES:
        if status in _OF_THE_TARGET:
            raise StreamflowError(f"it answers {status}: {_OF_THE_TARGET[status]}")
        return Refused(f"it answers {status}")
    pause_s = retry_after_s(retry_after, now_s=now_s)
    if pause_s is None and status == _TOO_MANY:
        pause_s = _RETRY_AFTER_S
    if pause_s is not None:
        raise SinkBusyError(f"it answers {status} and asks for a pause", retry_after_s=min(pause_s, RETRY_AFTER_S_MAX))
    raise StreamflowError(f"it answers {status}")


def _told(content: bytes, messages: Sequence[Message]) -> Sequence[Rejection | None] | None:
    """What `batchItemFailures` says, as of a Lambda function: from the first failed record on, nothing is done.

    A receiver that stops at the first failure reports that one, and has not looked at those behind it.
    """
    if b"batchItemFailures" not in content:
        return None
    try:
        response = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise StreamflowError("its answer has batchItemFailures in it, and is no JSON") from None
    numbers = [each.sequence_number for each in messages]
    match read_response(response, sequence_numbers=numbers):
        case None:
            return None
        case PartialFailure(sequence_numbers=failed):
            return _from_the_first(failed, numbers)
        case error:
            raise StreamflowError(f"its answer: {error}")


def _from_the_first(failed: Sequence[str], numbers: Sequence[str]) -> Sequence[Rejection | None]:
    first = min(numbers.index(number) for number in failed)
    return [
        None
        if place < first
        else Rejection("failed", "it is among the batchItemFailures of the answer")
        if number in failed
        else Rejection("waiting", "behind the first of the batchItemFailures of the answer")
        for place, number in enumerate(numbers)
    ]


def retry_after_s(text: str | None, *, now_s: float) -> float | None:
    """Seconds, whether the header holds those or a date; None where it is missing or neither."""
    if text is None:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except ValueError:
        return None
