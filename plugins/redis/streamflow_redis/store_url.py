"""The URL of a store, taken apart: pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from streamflow.sdk import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

PORT = 6379
PREFIX = "streamflow"
_FORM = "redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE][?prefix=…]"
_OURS = ("prefix", "wait_replicas")
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_NUMBER = re.compile(r"[0-9]{1,5}")
# It becomes a hash tag, so no braces; nothing either that patterns of keys would read as their own.
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUrl:
    """`wait_replicas` is how many replicas have to acknowledge each write; `files` are those of TLS, as redis-py calls them."""

    host: str
    port: int = PORT
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    prefix: str = PREFIX
    wait_replicas: int = 0
    files: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where it is, for people: without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.database}"


def parse_url(url: str) -> StoreUrl:
    """Raises `ConfigError` with everything that is wrong; none of it quotes the URL, which may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"store: the URL cannot be read: write {_FORM}") from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if wrong := list(_mistakes(parts, options)):
        raise ConfigError([f"store: {each}" for each in wrong])
    return StoreUrl(
        host=unquote(parts.hostname or ""),
        port=port or PORT,
        database=int(parts.path.strip("/") or 0),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        tls=parts.scheme == "rediss",
        prefix=options.get("prefix", PREFIX),
        wait_replicas=int(options.get("wait_replicas", 0)),
        files={name: options[name] for name in _FILES if name in options},
    )


def _mistakes(parts: SplitResult, options: dict[str, str]) -> Iterator[str]:
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or parts.fragment:
        yield f"the URL names no server: write {_FORM}; # and / in a password are %23 and %2F"
    if parts.path.strip("/") and not _NUMBER.fullmatch(parts.path.strip("/")):
        yield "the path of the URL is the number of a database, as in redis://cache.example.com:6379/0"
    if unknown := sorted(options.keys() - {*_OURS, *_FILES}):
        yield f"the URL has {', '.join(unknown)}, which means nothing here; there are {', '.join((*_OURS, *_FILES))}"
    if parts.scheme != "rediss" and (useless := [name for name in _FILES if name in options]):
        yield f"the URL has {', '.join(useless)}, and redis:// is without TLS: write rediss://"
    if not _NAME.fullmatch(options.get("prefix", PREFIX)):
        yield "prefix is 1 to 100 of A-Z a-z 0-9 _ . : -"
    if not _NUMBER.fullmatch(options.get("wait_replicas", "0")):
        yield "wait_replicas is a number of replicas"
