"""What became of a call of the store that failed, and what to do about it: pure.

An answer of the server that is known says that nothing happened: it refuses a script, or the script's first write. Of a
write without an answer, and of an answer that nobody expects, the outcome is unknown. Texts of the server may quote
arguments, so only codes are passed on.
"""

from __future__ import annotations

import redis.exceptions as redis_errors

from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow_redis.errors import code_of
from streamflow_redis.store_scripts import COMMANDS

_NEXT = {
    "OOM": "it is at its maxmemory: give it more, or remove other keys; no checkpoint is stored until then, nothing is lost",
    "LOADING": "it reads its data after a start: wait",
    "BUSY": "somebody's script runs for too long: wait, or end it with SCRIPT KILL",
    "MISCONF": "it cannot save its data: make room on its disk, its log says more",
    "NOREPLICAS": "it has fewer replicas than its min-replicas-to-write: bring them back",
    "TRYAGAIN": "the slot of the store is on its way to another node of the cluster: wait",
    "CLUSTERDOWN": "the cluster does not serve the slot of the store: look at CLUSTER INFO",
    "MASTERDOWN": "it is a replica, and its primary cannot be reached: name the primary in the URL",
    "READONLY": "it is a replica: name the primary in the URL, or a name that follows it",
    "MOVED": "the slot of the store is on another node of the cluster: name that one in the URL, redirections are not followed",
    "ASK": "the slot of the store moves to another node of the cluster: name that one in the URL when it has moved",
    "CROSSSLOT": "it takes the store's keys for those of several slots: something between knows no hash tags, avoid it",
    "NOAUTH": "it asks for a password: put it into the URL, redis://USER:PASSWORD@…",
    "WRONGPASS": "it does not know this user and password: mend them in the URL; %40 is @",
    "NOPERM": f"the user may not do that: allow it {' '.join(COMMANDS)}, and the keys of the store",
    "WRONGTYPE": "a key of the store is something else: choose another prefix in the URL",
}
# Versions of redis-py before 8 take the code off its text, and leave it in the class.
_CODES: dict[type[Exception], str] = {
    redis_errors.AuthenticationError: "WRONGPASS",
    redis_errors.BusyLoadingError: "LOADING",
    redis_errors.MasterDownError: "MASTERDOWN",
    redis_errors.ClusterDownError: "CLUSTERDOWN",
    redis_errors.ClusterCrossSlotError: "CROSSSLOT",
    redis_errors.MovedError: "MOVED",
    redis_errors.AskError: "ASK",
    redis_errors.TryAgainError: "TRYAGAIN",
    redis_errors.NoPermissionError: "NOPERM",
    redis_errors.OutOfMemoryError: "OOM",
    redis_errors.ReadOnlyError: "READONLY",
}
# Of a command within a script, so perhaps not of its first write.
_NO_PERMISSION_IN_SCRIPT = ("ACL failure in script", "can't run this command")


class StoreRefusedError(StoreError):
    """The server answered that it does not do it. `code` is the first word of its answer."""

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)


def refusal_code(error: BaseException) -> str:
    """The code of an answer that says that nothing happened; "" for everything else."""
    return code_of(error) or next((code for kind, code in _CODES.items() if isinstance(error, kind)), "")


def explained(error: BaseException, *, address: str, tls: bool, unknown: bool) -> StoreError:
    """The error to raise; `unknown` where the server may have done what was asked, unless the error itself says no."""
    where = f"lease store {address}"
    if code := refusal_code(error):
        return StoreRefusedError(f"{where}: the server refuses ({code}): {_NEXT[code]}", code=code)
    reason = _reason(error, tls=tls)
    if unknown:
        return UnknownOutcomeError(f"{where}: {reason}; what was asked may have been done")
    return StoreError(f"{where}: {reason}")


def _reason(error: BaseException, *, tls: bool) -> str:
    if isinstance(error, redis_errors.TimeoutError | TimeoutError):
        return "it does not answer in time (look whether it is overloaded, or cannot be reached)"
    if isinstance(error, redis_errors.ConnectionError | OSError):
        hint = "; its certificate is verified: name the authority's with ssl_ca_certs=FILE in the URL" if tls else ""
        return (
            f"the connection failed ({type(error).__name__}: start the server, or mend host and port in the URL{hint})"
        )
    if any(text in str(error) for text in _NO_PERMISSION_IN_SCRIPT):
        return f"a script of the store failed: {_NEXT['NOPERM']}"
    return f"the server gave an answer that is not expected ({type(error).__name__}: its log or MONITOR says more)"
