"""What went wrong in a store, whether it happened all the same, and what to do about it.

PostgreSQL's own texts quote values, so only names and codes are passed on.
"""

from __future__ import annotations

import asyncpg

from streamflow_postgres.errors import Failure, condition

StoreFailure = (*Failure, asyncpg.InternalClientError, ValueError)
"""What a call may raise, of the client library and below; `ValueError` for a value that it cannot send."""

# By SQLSTATE, or its first two characters.
_NEXT_STEP = {
    "25006": "the server takes no writes, as a standby does: name the primary in the URL, or all hosts with commas between",
    "3D000": "",  # told already
    "40": "another transaction was in the way: try again",
    "42501": "GRANT SELECT, INSERT, UPDATE, DELETE on the tables streamflow_leases and streamflow_letters",
    "42P01": "the tables of the store are gone: restore them from a copy; a store that is made anew when a worker starts "
    "begins every pipeline at its starting position",
    "42703": "the tables of the store were changed by hand: undo that, or restore them from a copy",
    "53100": "the disk of the server is full: make room; until then no checkpoint is stored, and nothing is lost",
    "53300": "the server has no connection to spare: raise its max_connections, lower pool_size in the URL, or put a "
    "PgBouncer before it",
    "53": "the server is short of memory or of something else: look into its log",
    "55P03": "another session holds a lock: look into pg_stat_activity and pg_locks",
    "57014": "the statement took too long, or somebody cancelled it: look into pg_stat_activity",
    "57P": "the server is being stopped or started: wait for it",
    "08P01": "PgBouncer has ended the connection, or what answers is no PostgreSQL: look into its log",
}


def is_refusal(error: BaseException) -> bool:
    """Whether nothing happened for certain: the server said so and goes on, or nothing was sent.

    FATAL is no refusal: a session may be ended between a commit and the word of it.
    """
    if isinstance(error, asyncpg.DataError | ValueError):
        return True
    return (getattr(error, "severity_en", None) or getattr(error, "severity", None)) == "ERROR"


def next_step(error: BaseException) -> str:
    """What to do about it; empty where there is nothing to say."""
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return _NEXT_STEP["25006"]
    code = str(getattr(error, "sqlstate", None) or "")
    return next((_NEXT_STEP[code[:size]] for size in (5, 3, 2) if code[:size] in _NEXT_STEP), "")


def explained(error: BaseException, shown: str, *, timeout_s: float) -> str:
    """What happened where, and the next step; nothing of a row, and no password."""
    match error:
        case TimeoutError():
            what = f"no answer within {timeout_s:g} s"
        case asyncpg.PostgresError() if getattr(error, "severity", None):
            what = condition(error)
        case asyncpg.DataError() | ValueError():
            what = f"a value that PostgreSQL has no room for: {type(error).__name__}"
        case _:
            # Of the client library or the system, whose text may quote values.
            what = f"the connection failed: {type(error).__name__}"
    step = next_step(error)
    return f"lease store {shown}: {what}{f' ({step})' if step else ''}"
