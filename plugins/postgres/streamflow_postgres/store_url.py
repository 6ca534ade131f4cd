"""The URL of a store: that of the database, as asyncpg takes it, and two settings of our own in its query."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from streamflow.errors import ConfigError
from streamflow_postgres.connecting import address
from streamflow_postgres.settings import NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLE = "postgresql://user:password@host:5432/database?schema=streamflow"
_POOL_SIZE = 4
_POOL_SIZE_RANGE = range(2, 101)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUrl:
    """`dsn` is for asyncpg; `shown` holds neither user nor password; `schema` None is the first of the search path."""

    dsn: str
    shown: str
    schema: str | None
    pool_size: int
    hosts: int

    @classmethod
    def parse(cls, url: str) -> StoreUrl:
        """Raises `ConfigError`: what is wrong with it, without the URL, which may hold a password."""
        try:
            parts = urlsplit(url)
            query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError:
            raise ConfigError(f"store: the URL cannot be read: write {EXAMPLE}") from None
        if parts.scheme != "postgresql":
            raise ConfigError(f"store: the URL begins with postgresql:// and no other scheme: write {EXAMPLE}")
        if parts.netloc.count("@") > 1 or "@" in parts.path or parts.fragment:
            raise ConfigError("store: the URL holds a bare @, / or # in its password: write %40, %2F, %23")
        schema, pool_size = _schema(query), _pool_size(query)
        ours = {"schema", "pool_size"}
        rest = urlencode({name: value for name, value in query.items() if name not in ours}, quote_via=quote)
        dsn = url.partition("?")[0] + (f"?{rest}" if rest else "")
        servers = address(dsn)
        return cls(
            dsn=dsn,
            shown=f"postgresql://{servers}{parts.path}",
            schema=schema,
            pool_size=pool_size,
            hosts=servers.count(",") + 1,
        )


def _schema(query: Mapping[str, str]) -> str | None:
    schema = query.get("schema")
    if schema is not None and not re.fullmatch(NAME, schema):
        raise ConfigError(f"store: schema={schema} is no name of a schema: letters, digits, _ and $, 63 at most")
    return schema


def _pool_size(query: Mapping[str, str]) -> int:
    text = query.get("pool_size", str(_POOL_SIZE))
    if not (text.isascii() and text.isdigit() and len(text) < 4 and int(text) in _POOL_SIZE_RANGE):
        low, high = _POOL_SIZE_RANGE[0], _POOL_SIZE_RANGE[-1]
        raise ConfigError(f"store: pool_size={text} is no number of connections: {low} to {high}")
    return int(text)
