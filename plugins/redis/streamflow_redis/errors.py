"""What the server says, and what to do about it.

Its own texts may quote arguments (`unknown command 'X', with args beginning with: …`), so only codes are passed on.
"""

from __future__ import annotations

import re

import redis.exceptions as redis_errors

from streamflow.sdk import SinkBusyError, StreamflowError

BUSY_PAUSE_S = 1.0
"""No answer of the server names a time."""

_HINTS = {
    "OOM": "it is at its maxmemory: give it more, or an eviction policy",
    "LOADING": "it reads its data after a start",
    "BUSY": "a script runs for too long",
    "MISCONF": "it cannot save its data to disk",
    "NOREPLICAS": "it has fewer replicas than min-replicas-to-write",
    "TRYAGAIN": "the slot is on its way to another node",
    "CLUSTERDOWN": "the cluster does not serve the slot",
    "MASTERDOWN": "its primary is not reachable",
    "READONLY": "it is a replica: url must name the primary",
    "MOVED": "the slot is on another node of the cluster: url must name that one",
    "ASK": "the slot is on another node of the cluster: url must name that one",
    "CROSSSLOT": "the keys are in several slots of a cluster: give key_prefix a hash tag",
    "NOAUTH": "it asks for a password: url must have it",
    "WRONGPASS": "it does not know this user and password any more",
    "NOPERM": "the user may not do that: it needs EVAL, EVALSHA and SCRIPT, and what the scripts call",
    "WRONGTYPE": "a key holds another type",
}
_BUSY = frozenset({"OOM", "LOADING", "BUSY", "MISCONF", "NOREPLICAS", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"})
# Before Redis 7, an error in a script has the code in the middle of a text of its own.
_CODE = re.compile(r"\b(" + "|".join(sorted(_HINTS, key=len, reverse=True)) + r")\b")


class RedisWriteError(StreamflowError):
    """The batch was not written, or nobody knows: it comes again.

    `code` is the first word of the server's answer, or a name for what happened on the way there.
    """

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)


Failure = (redis_errors.RedisError, OSError)
"""What a call may raise, of the client library and below."""


def code_of(error: BaseException | str) -> str:
    """The code of an answer; "" where it is none."""
    known = getattr(error, "status_code", None)
    if known in _HINTS:
        return str(known)
    if isinstance(error, redis_errors.ConnectionError | redis_errors.TimeoutError) and not known:
        return ""
    found = _CODE.search(str(error))
    return found[1] if found else ""


def told(error: BaseException) -> StreamflowError:
    """The error for a batch that failed as a whole."""
    code = code_of(error)
    if code in _BUSY:
        return SinkBusyError(
            f"redis: the server takes nothing now ({code}): {_HINTS[code]}", retry_after_s=BUSY_PAUSE_S
        )
    if code:
        return RedisWriteError(f"redis: the server did not take the batch ({code}): {_HINTS[code]}", code=code)
    name = type(error).__name__
    if isinstance(error, redis_errors.TimeoutError | TimeoutError):
        return RedisWriteError("redis: the server did not answer within command_timeout_s", code="Timeout")
    if isinstance(error, redis_errors.ConnectionError | OSError):
        return RedisWriteError(f"redis: the connection to the server failed: {name}", code=name)
    return RedisWriteError(f"redis: the server did not take the batch: {name}", code=name)


def hint(code: str) -> str:
    return _HINTS[code]
