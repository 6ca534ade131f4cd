"""What PostgreSQL says, and what to do about it.

Its own texts quote values (`invalid input syntax for type integer: "…"`), so only names and codes are passed on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

from streamflow.sdk import SinkBusyError, StreamflowError

if TYPE_CHECKING:
    from collections.abc import Callable

BUSY_PAUSE_S = 1.0
"""PostgreSQL names no time when it is short of connections, memory or disk."""

# By class (the first two characters of SQLSTATE): one row twice in a statement, data exceptions, constraints, check
# options of views, limits of the program such as the length of an index entry.
_DATA = frozenset({"21", "22", "23", "44", "54"})
_BUSY = frozenset({"53"})


class PostgresWriteError(StreamflowError):
    """The batch was not written, or nobody knows: it comes again, and what was written changes nothing then.

    `code` is the SQLSTATE, or a name for what happened on the way there.
    """

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)


Failure = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
"""What writing may raise, of the client library and below."""


def is_data_error(error: BaseException) -> bool:
    """Whether a row is at fault: the same statement without it may succeed."""
    return isinstance(error, asyncpg.PostgresError) and _state(error)[:2] in _DATA


def refusal(error: BaseException) -> str:
    """Why a single row is refused, for people: names of the schema, and nothing of the row."""
    return f"PostgreSQL refuses it: {condition(error)}"


def told(error: BaseException) -> StreamflowError:
    """The error for a batch that failed as a whole."""
    if isinstance(error, TimeoutError):
        return PostgresWriteError("PostgreSQL did not answer within command_timeout_s", code="Timeout")
    if isinstance(error, asyncpg.PostgresError):
        if _state(error)[:2] in _BUSY:
            return SinkBusyError(f"PostgreSQL is short of something: {condition(error)}", retry_after_s=BUSY_PAUSE_S)
        return PostgresWriteError(f"PostgreSQL did not take the batch: {condition(error)}", code=_state(error))
    name = type(error).__name__
    return PostgresWriteError(f"the connection to PostgreSQL failed: {name}", code=name)


def _state(error: asyncpg.PostgresError) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def condition(error: BaseException) -> str:
    """The name of the condition, its code, and what of the schema it is about."""
    get: Callable[[str], object] = lambda name: getattr(error, name, None)  # noqa: E731
    about = "".join(
        f", {kind} {value}"
        for kind, value in (
            ("table", get("table_name")),
            ("column", get("column_name")),
            ("constraint", get("constraint_name")),
        )
        if value
    )
    return f"{type(error).__name__.removesuffix('Error')} (SQLSTATE {get('sqlstate')}{about})"
