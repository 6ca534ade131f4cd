"""The tables: created where that is asked for, and looked at before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

from streamflow.sdk import ConfigError
from streamflow_postgres.checkpoints import ADVANCE, FENCE, RESERVE
from streamflow_postgres.errors import Failure, told
from streamflow_postgres.settings import OWN_COLUMNS
from streamflow_postgres.statements import definition, definitions, merge, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow_postgres.settings import PostgresSettings
    from streamflow_postgres.statements import Merge

_COLUMNS = """
SELECT attname AS name, format_type(atttypid, NULL) AS type,
       attnotnull AND NOT atthasdef AND attidentity = '' AND attgenerated = '' AS must_be_given
FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('streamflow'))"


async def prepare(connection: Any, settings: PostgresSettings) -> Merge:
    """The statement that writes. `connection` is in a transaction.

    Raises:
        ConfigError: a table is missing, lacks something, or may not be written; the text has the statement that helps.
    """
    try:
        await _check_durability(connection)
        if settings.create_table:
            # Two workers that create the same table at the same time get in each other's way.
            await connection.execute(_LOCK)
            for _, creation in definitions(settings):
                await connection.execute(creation)
        for table, creation in definitions(settings):
            if await connection.fetchval("SELECT to_regclass($1)", quoted(table)) is None:
                raise ConfigError(
                    f"postgres: there is no table {table}; set create_table = true, or create it:\n{creation}"
                )
        types = {row["name"]: row["type"] for row in await _look(connection, settings)}
        statement = merge(settings, types)
        await _explain(connection, settings, statement)
    except Failure as error:
        raise _told(error, settings) from None
    return statement


async def _check_durability(connection: Any) -> None:
    if await connection.fetchval("SHOW synchronous_commit") == "off":
        raise ConfigError(
            "postgres: synchronous_commit is off for this user, so a crash of the server would lose what it has "
            "acknowledged; add synchronous_commit=on to the query of dsn, or ALTER ROLE … SET synchronous_commit = on"
        )


async def _look(connection: Any, settings: PostgresSettings) -> list[Any]:
    """The columns of the table, and whether we can fill them."""
    found: list[Any] = await connection.fetch(_COLUMNS, quoted(settings.table))
    if problems := list(_problems(found, settings)):
        raise ConfigError(problems)
    return found


def _problems(columns: list[Any], settings: PostgresSettings) -> Iterator[str]:
    table, mapped = settings.table, set(settings.columns.values())
    names = {column["name"] for column in columns}
    for name in (*OWN_COLUMNS, *mapped):
        if name not in names:
            yield f"postgres: table {table} has no column {name}; its definition would be\n{definition(settings)}"
    for column in columns:
        name = column["name"]
        if column["must_be_given"] and name not in OWN_COLUMNS:
            reason = "an item may lack the attribute, and a delete has none" if name in mapped else "nothing fills it"
            yield f"postgres: column {name} of {table} is NOT NULL, and {reason}: drop that, or give it a default"
        if name in mapped and column["type"] == "bytea[]":
            yield f"postgres: column {name} of {table} is bytea[], which takes no set of binary values: use jsonb"


async def _explain(connection: Any, settings: PostgresSettings, statement: Merge) -> None:
    """Have PostgreSQL plan what we will run: it looks at columns, types, the key and our permissions."""
    await connection.fetch(f"EXPLAIN {statement.of_arrays}", "", [], [], [], [])
    if settings.transactional:
        table = quoted(settings.checkpoint_table)
        await connection.fetch("EXPLAIN " + FENCE.format(table=table), "", "", "", 0)
        await connection.fetch("EXPLAIN " + RESERVE.format(table=table), "", "", "", 0, "0", None)
        await connection.fetch("EXPLAIN " + ADVANCE.format(table=table), "", "", "", 0, "0")


def _told(error: BaseException, settings: PostgresSettings) -> Exception:
    """What to mend, with the definitions that the tables should have."""
    tables = ", ".join(quoted(table) for table, _ in definitions(settings))
    match error:
        case asyncpg.InsufficientPrivilegeError():
            what = f"this user may not do that: GRANT SELECT, INSERT, UPDATE ON {tables}"
        case asyncpg.InvalidColumnReferenceError():
            what = f"table {settings.table} lacks the primary key that its definition has"
        case asyncpg.SyntaxOrAccessError():
            what = f"table {settings.table} does not fit its definition"
        case _:
            return told(error)
    creations = "\n".join(creation for _, creation in definitions(settings))
    return ConfigError(f"postgres: {what} ({told(error)})\n{creations}")
