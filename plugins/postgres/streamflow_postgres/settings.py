"""What a user chooses, and what the sink promises for it."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from streamflow.sdk import Capabilities, Settings

NAME = r"[A-Za-z_][A-Za-z0-9_$]{0,62}"  # PostgreSQL cuts what is longer than 63 bytes
_TABLE = rf"^({NAME}\.)?{NAME}$"

OWN_COLUMNS = ("key", "image", "_sf_seq", "_sf_shard", "_sf_event_id", "_sf_deleted")
"""Of every table; what is mapped comes beside them."""


class PostgresSettings(Settings):
    dsn: Annotated[SecretStr, Field(examples=["postgresql://streamflow:${PGPASSWORD}@db.example.com/shop"])]
    """Where the database is, as libpq has it. Without `sslmode` in it, TLS is used, and certificate and host name are
    verified."""
    table: Annotated[str, Field(examples=["orders", "shop.orders"], pattern=_TABLE)]
    """Table to write, with its schema or without. Capitals count."""
    mode: Literal["upsert", "append"] = "upsert"
    """`upsert` keeps the latest state of each item; `append` adds a row for each change."""
    transactional: bool = False
    """Commit the checkpoint with the data, so that a crash repeats nothing and an old owner cannot write."""
    columns: Annotated[
        dict[str, str], Field(default_factory=dict, examples=[{"total": "total", "placedAt": "placed_at"}])
    ]
    """Attributes that get a column of their own, by name of the attribute; PostgreSQL turns them into the column's type."""
    create_table: bool = False
    """Create the tables that are missing."""
    checkpoint_table: Annotated[str, Field(examples=["streamflow_checkpoint"], pattern=_TABLE)] = (
        "streamflow_checkpoint"
    )
    """Table of checkpoints, if the sink is transactional."""
    pool_size: Annotated[int, Field(ge=1, le=100, examples=[4])] = 4
    """Connections at most: so many shards write at the same time."""
    statement_cache_size: Annotated[int, Field(ge=0, le=1_000, examples=[0])] = 100
    """Prepared statements kept for each connection; 0 behind a PgBouncer that pools transactions."""
    connect_timeout_s: Annotated[float, Field(gt=0, le=300, examples=[10])] = 10.0
    """How long a connection may take to be made."""
    command_timeout_s: Annotated[float, Field(gt=0, le=3_600, examples=[30])] = 30.0
    """How long a statement may take, and how long the server bears a transaction in which nothing comes."""

    @field_validator("dsn")
    @classmethod
    def _dsn_is_one(cls, dsn: SecretStr) -> SecretStr:
        if not dsn.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://")
        try:
            _ = urlsplit(dsn.get_secret_value()).port
        except ValueError:
            raise ValueError("cannot be read: postgresql://user:password@host:5432/database") from None
        return dsn

    @model_validator(mode="after")
    def _columns_are_free(self) -> PostgresSettings:
        names = list(self.columns.values())
        if taken := sorted(set(names) & set(OWN_COLUMNS)):
            raise ValueError(f"columns: the sink itself writes {', '.join(taken)}")
        if len(set(names)) < len(names):
            raise ValueError("columns: a column is there for two attributes")
        if wrong := [name for name in names if not re.fullmatch(NAME, name)]:
            raise ValueError(f"columns: {wrong[0]!r} is no name of a column")
        return self


def capabilities(settings: PostgresSettings) -> Capabilities:
    if settings.transactional:
        idempotence, key = "transactional", "stream, shard and sequence number"
    else:
        idempotence = "versioned"
        key = "item key and sequence number" if settings.mode == "upsert" else "event id"
    return Capabilities(
        order="key",
        idempotence=idempotence,  # type: ignore[arg-type]
        idempotence_key=key,
        partial_failures=True,
        needs_images=True,
        batch_size=1_000,
        bytes_max=64 * 1024 * 1024,  # far below the 1 GB that one message of the protocol bears
    )
