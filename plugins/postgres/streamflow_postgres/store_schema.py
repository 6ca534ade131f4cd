"""The tables of a store: made where they are missing, brought up to ours in one transaction, and looked at.

Several workers may begin at the same time: whoever holds the advisory lock looks again, and changes what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg

from streamflow.errors import StoreError

if TYPE_CHECKING:
    from streamflow_postgres.store_calls import Calls

# What leads from each version of the tables to the next: released steps are never edited. Names are compared byte by byte
# (COLLATE "C"), which no upgrade of the system's locales changes. Half of each page of leases is left free, so that a row
# that is written again stays in its page, and no index hears of it. `gaps` is JSON as text, in which NUL is an escape.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        """\
CREATE TABLE {schema}.streamflow_leases (
  pipeline text COLLATE "C",
  stream_arn text COLLATE "C",
  shard_id text COLLATE "C",
  owner text,
  claimant text,
  epoch bigint NOT NULL,
  version bigint NOT NULL,
  checkpoint text NOT NULL,
  state text NOT NULL,
  parents text[] NOT NULL,
  children text[] NOT NULL,
  gaps text NOT NULL,
  duration_s double precision,
  window_start_s bigint,
  window_end_s bigint,
  window_state bytea,
  PRIMARY KEY (pipeline, stream_arn, shard_id)
) WITH (fillfactor = 50)""",
        """\
CREATE TABLE {schema}.streamflow_letters (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  drawer text COLLATE "C" NOT NULL,
  pipeline text COLLATE "C" NOT NULL,
  stream_arn text COLLATE "C" NOT NULL,
  shard_id text COLLATE "C" NOT NULL,
  sequence_number text COLLATE "C" NOT NULL,
  item_key text COLLATE "C" NOT NULL,
  item_digest text COLLATE "C" NOT NULL,
  record bytea NOT NULL,
  reason text NOT NULL,
  error_type text NOT NULL,
  error_text text NOT NULL,
  invoke_count bigint NOT NULL,
  kept_at_s double precision NOT NULL,
  UNIQUE (drawer, pipeline, stream_arn, shard_id, sequence_number)
)""",
        """\
CREATE INDEX streamflow_letters_by_item ON {schema}.streamflow_letters
  (drawer, pipeline, stream_arn, item_digest, id)""",
        "CREATE INDEX streamflow_letters_by_pipeline ON {schema}.streamflow_letters (drawer, pipeline, id)",
        "CREATE INDEX streamflow_letters_by_drawer ON {schema}.streamflow_letters (drawer, id)",
        "CREATE TABLE {schema}.streamflow_schema (version integer NOT NULL)",
        "INSERT INTO {schema}.streamflow_schema VALUES (1)",
    ),
)
SCHEMA_VERSION = len(STEPS)

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('streamflow store'))"
# A store that is somewhere in the search path is taken before a new one is made at its front.
_LOOK = """
SELECT current_setting('server_encoding') AS encoding, current_setting('synchronous_commit') AS synchronous_commit,
       current_user::text AS role, current_database()::text AS database,
       coalesce($1::text, (
           SELECT nspname::text FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
           WHERE pg_class.oid = to_regclass('streamflow_schema')
       ), current_schema()::text) AS schema
"""
_NEEDED = (
    *(("streamflow_leases", privilege) for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")),
    *(("streamflow_letters", privilege) for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE")),
)
_DENIED = """
SELECT privilege || ' on ' || name FROM unnest($2::text[], $3::text[]) AS needed (name, privilege)
WHERE NOT has_table_privilege($1 || '.' || name, privilege)
"""


async def prepare(calls: Calls, named: str | None) -> str:
    """The schema, quoted, with our tables in it; `named` is that of the URL.

    Raises:
        StoreError: they cannot be used, or not be made, with the statement that helps; nothing was changed.
    """

    async def steps(connection: Any) -> str:
        return await _Preparation(connection, calls.shown).run(named)

    return await calls.transact(steps)


class _Preparation:
    """In one transaction."""

    def __init__(self, connection: Any, shown: str) -> None:
        self._connection = connection
        self._shown = shown

    async def run(self, named: str | None) -> str:
        found = await self._connection.fetchrow(_LOOK, named)
        self._check_server(found)
        if found["schema"] is None:
            raise self._error("no schema of the search path is there: name one in the URL, ?schema=streamflow")
        schema = _quoted(found["schema"])
        try:
            if await self._version(schema) < SCHEMA_VERSION:
                await self._make(schema)
            await self._check_privileges(schema, found["role"])
        except asyncpg.InsufficientPrivilegeError as error:
            raise self._error(_may_not(error, schema, found)) from None
        except asyncpg.DuplicateTableError as error:
            raise self._error(
                f"there is a table of that name already in the schema {schema}, which is none of a store "
                f"({type(error).__name__}): name another schema in the URL, ?schema=streamflow"
            ) from None
        return schema

    def _check_server(self, found: Any) -> None:
        if found["encoding"] not in {"UTF8", "SQL_ASCII"}:
            raise self._error(
                f"its encoding is {found['encoding']}, which does not hold every text: CREATE DATABASE … ENCODING 'UTF8'"
            )
        if found["synchronous_commit"] == "off":
            raise self._error(
                "synchronous_commit is off for this user, so a crash of the server would take back what it has acknowledged: "
                "add synchronous_commit=on to the query of the URL, or ALTER ROLE … SET synchronous_commit = on"
            )

    async def _version(self, schema: str) -> int:
        """0 where our tables are not.

        Raises:
            StoreError: the version is beyond ours.
        """
        table = f"{schema}.streamflow_schema"
        if await self._connection.fetchval("SELECT to_regclass($1)::text", table) is None:
            return 0
        version = await self._connection.fetchval(f"SELECT coalesce(max(version), 0) FROM {table}")  # noqa: S608 - quoted
        if version > SCHEMA_VERSION:
            raise self._error(
                f"its tables have version {version}, made by a newer streamflow; this one knows version {SCHEMA_VERSION} "
                "(upgrade, or name another schema in the URL)"
            )
        return int(version)

    async def _make(self, schema: str) -> None:
        await self._connection.execute(_LOCK)
        if await self._connection.fetchval("SELECT to_regnamespace($1)::text", schema) is None:
            await self._connection.execute(f"CREATE SCHEMA {schema}")
        # Looked at again, under the lock: somebody may have been faster.
        for step in STEPS[await self._version(schema) :]:
            for statement in step:
                await self._connection.execute(statement.format(schema=schema))

    async def _check_privileges(self, schema: str, role: str) -> None:
        tables, privileges = zip(*_NEEDED, strict=True)
        denied = await self._connection.fetch(_DENIED, schema, list(tables), list(privileges))
        if denied:
            what = ", ".join(row[0] for row in denied)
            raise self._error(f"the user {role} lacks {what}: {_grants(schema, role)}")

    def _error(self, what: str) -> StoreError:
        return StoreError(f"lease store {self._shown}: {what}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _may_not(error: asyncpg.InsufficientPrivilegeError, schema: str, found: Any) -> str:
    """The server's own text names an object and nothing else: `permission denied for schema shop`."""
    role = found["role"]
    return (
        f"{str(error).partition(chr(10))[0]} for the user {role}. To let it make the tables: GRANT CREATE ON DATABASE "
        f'"{found["database"]}" TO "{role}" where there is no schema {schema} yet, else GRANT USAGE, CREATE ON SCHEMA {schema} '
        f'TO "{role}". Or have them made by somebody who may, and then: {_grants(schema, role)}'
    )


def _grants(schema: str, role: str) -> str:
    return (
        f'GRANT USAGE ON SCHEMA {schema} TO "{role}"; GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.streamflow_leases, '
        f'{schema}.streamflow_letters TO "{role}"; GRANT SELECT ON {schema}.streamflow_schema TO "{role}"'
    )
