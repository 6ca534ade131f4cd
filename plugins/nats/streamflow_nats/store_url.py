"""The URL of a store, taken apart: pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from streamflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PORT = 4222
BUCKET = "streamflow"
_FORM = "nats://[USER:PASSWORD@|TOKEN@]HOST[:PORT][,HOST[:PORT]][?bucket=…]"
_OPTIONS = ("bucket", "replicas", "tls", "creds", "ca", "cert", "key")
_TLS_FILES = ("ca", "cert", "key")
_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:@/\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_BUCKET = re.compile(r"[A-Za-z0-9_-]{1,100}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUrl:
    """`servers` are of one cluster, each `HOST:PORT`. `replicas` None takes a bucket as it is, and makes one with one."""

    servers: tuple[str, ...]
    bucket: str = BUCKET
    replicas: int | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials_file: str | None = None
    tls: bool = False
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    @property
    def shown(self) -> str:
        """Where it is, for people: without user, password and token."""
        return f"nats://{','.join(self.servers)}?bucket={self.bucket}"


def parse_url(url: str) -> StoreUrl:
    """Raises `ConfigError` with everything that is wrong; none of it quotes the URL, which may hold a password."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ConfigError(f"store: the URL cannot be read: write {_FORM}") from None
    login, _, hosts = parts.netloc.rpartition("@")
    servers = [_SERVER.fullmatch(host) for host in hosts.split(",")]
    wrong = [] if parts.scheme == "nats" and all(servers) and not parts.fragment and "@" not in login else [_UNREADABLE]
    if parts.path.strip("/"):
        wrong.append("the URL of a store has no path: the bucket is ?bucket=…")
    wrong += _mistakes(options, login)
    if wrong:
        raise ConfigError([f"store: {each}" for each in wrong])
    username, is_user, password = login.partition(":")
    return StoreUrl(
        servers=tuple(f"{server['host']}:{server['port'] or PORT}" for server in servers if server),
        bucket=options.get("bucket", BUCKET),
        replicas=int(options["replicas"]) if "replicas" in options else None,
        username=unquote(username) if is_user else None,
        password=unquote(password) if is_user else None,
        token=unquote(login) if login and not is_user else None,
        credentials_file=options.get("creds"),
        tls=options.get("tls") == "true" or any(name in options for name in _TLS_FILES),
        ca_file=options.get("ca"),
        certificate_file=options.get("cert"),
        key_file=options.get("key"),
    )


_UNREADABLE = f"the URL names no server: write {_FORM}; @, :, / and # in a password are %40, %3A, %2F and %23"


def _mistakes(options: Mapping[str, str], login: str) -> Iterator[str]:
    if unknown := sorted(options.keys() - {*_OPTIONS}):
        yield f"the URL has {', '.join(unknown)}, which means nothing here; there are {', '.join(_OPTIONS)}"
    if not _BUCKET.fullmatch(options.get("bucket", BUCKET)):
        yield "bucket is 1 to 100 of A-Z a-z 0-9 _ -"
    if options.get("replicas", "1") not in {"1", "3", "5"}:
        yield "replicas is 1, 3 or 5"
    if options.get("tls", "true") not in {"true", "false"}:
        yield "tls is true or false"
    if options.get("tls") == "false" and (useless := [name for name in _TLS_FILES if name in options]):
        yield f"the URL has {', '.join(useless)}, which are for TLS, and tls=false"
    if ("cert" in options) != ("key" in options):
        yield "cert and key go together"
    if login and "creds" in options:
        yield "a user or token, and creds, are two ways to log in: choose one"
