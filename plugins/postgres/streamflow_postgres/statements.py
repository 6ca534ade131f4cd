"""The statements, as text: pure. Names are always quoted, values are always parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamflow_postgres.settings import PostgresSettings

# A function of PostgreSQL takes 100 arguments.
_PAIRS_MAX = 40

# What a large batch is copied into: it lives as long as the connection, and is empty after each transaction.
STAGING = "_sf_rows"
CREATE_STAGING = (
    f"CREATE TEMPORARY TABLE IF NOT EXISTS {STAGING} (key jsonb, image jsonb, seq text, event_id text) "
    "ON COMMIT DELETE ROWS"
)
_STAGED = f"pg_temp.{STAGING}"
_ARRAYS = "unnest($2::jsonb[], $3::jsonb[], $4::text[], $5::text[]) AS given (key, image, seq, event_id)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """The same statement over two sources of rows; `$1` is the shard."""

    of_arrays: str
    """`$2` to `$5` as `rows.columns` has them."""
    of_staged: str


def merge(settings: PostgresSettings, types: Mapping[str, str]) -> Merge:
    """`types` are those of the table's columns by name."""
    return Merge(of_arrays=_merge(settings, types, _ARRAYS), of_staged=_merge(settings, types, f"{_STAGED} AS given"))


def _merge(settings: PostgresSettings, types: Mapping[str, str], source: str) -> str:
    table = quoted(settings.table)
    values = {
        "key": "given.key",
        "image": "given.image",
        "_sf_seq": "given.seq::numeric",
        "_sf_shard": "$1::text",
        "_sf_event_id": "given.event_id",
        "_sf_deleted": "given.image IS NULL",
    }
    typed = {}
    for attribute, column in settings.columns.items():
        if types.get(column) == "bytea":
            values[column] = f"decode(given.image->>{literal(attribute)}, 'base64')"
        else:
            values[column] = f"typed.{quoted(column)}"
            typed[column] = f"given.image->{literal(attribute)}"
    lateral = f" CROSS JOIN LATERAL jsonb_populate_record(NULL::{table}, {_object(typed)}) AS typed" if typed else ""
    names, chosen = ", ".join(map(quoted, values)), ", ".join(values.values())
    into = f"INSERT INTO {table} AS held ({names})"
    return f"{into} SELECT {chosen} FROM {source}{lateral} {_on_conflict(settings, values)}"  # noqa: S608


def _on_conflict(settings: PostgresSettings, columns: Mapping[str, str]) -> str:
    if settings.mode == "append":
        return 'ON CONFLICT ("_sf_event_id") DO NOTHING'
    changes = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in columns if name != "key")
    # A row that was there before the sink has no version: any is newer.
    return f'ON CONFLICT ("key") DO UPDATE SET {changes} WHERE coalesce(held."_sf_seq", -1) < excluded."_sf_seq"'


def _object(members: Mapping[str, str]) -> str:
    pairs = [f"{literal(name)}, {value}" for name, value in members.items()]
    parts = [pairs[start : start + _PAIRS_MAX] for start in range(0, len(pairs), _PAIRS_MAX)]
    return " || ".join(f"jsonb_build_object({', '.join(part)})" for part in parts)


def definition(settings: PostgresSettings) -> str:
    """The table as the sink would create it. Mapped columns are text until somebody gives them a better type."""
    primary = {"upsert": "key", "append": "_sf_event_id"}[settings.mode]
    types = {
        "key": "jsonb NOT NULL",
        "image": "jsonb",
        "_sf_seq": "numeric(130) NOT NULL",
        "_sf_shard": "text NOT NULL",
        "_sf_event_id": "text NOT NULL",
        "_sf_deleted": "boolean NOT NULL",
        **dict.fromkeys(settings.columns.values(), "text"),
    }
    lines = [f"{quoted(name)} {type_}" for name, type_ in types.items()] + [f"PRIMARY KEY ({quoted(primary)})"]
    return _create(settings.table, lines)


def checkpoint_definition(settings: PostgresSettings) -> str:
    lines = [
        "pipeline text",
        "stream text",
        "shard text",
        "seq numeric(130) NOT NULL",
        "epoch bigint NOT NULL",
        "event_time timestamptz",
        "updated_at timestamptz NOT NULL DEFAULT now()",
        "PRIMARY KEY (pipeline, stream, shard)",
    ]
    return _create(settings.checkpoint_table, lines)


def definitions(settings: PostgresSettings) -> Iterator[tuple[str, str]]:
    """The tables that these settings need, each with the statement that creates it."""
    yield settings.table, definition(settings)
    if settings.transactional:
        yield settings.checkpoint_table, checkpoint_definition(settings)


def quoted(name: str) -> str:
    """An identifier; of a name with a dot, its parts are quoted."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def literal(text: str) -> str:
    """A text as a value, where no parameter can stand."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'" if "\\" in text else f"'{escaped}'"


def _create(table: str, lines: list[str]) -> str:
    return f"CREATE TABLE IF NOT EXISTS {quoted(table)} (\n  " + ",\n  ".join(lines) + "\n)"
