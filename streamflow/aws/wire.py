"""The fast lane: one signed POST of JSON over a pooled connection, the answer's body as it came.

Only for calls that may be repeated: one that failed on the way may have been carried out.
"""

from __future__ import annotations

import ssl
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import anyio
import msgspec
from botocore.httpsession import ProxyConfiguration
from botocore.utils import get_environ_proxies
from yarl import URL

from streamflow import __version__
from streamflow.aws.errors import CLOCK_CODES, EXPIRED_CODES, classify, corrupt_answer, translate
from streamflow.aws.signing import Keys, Scope, signed_headers
from streamflow.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from streamflow.aws.identity import Identity
    from streamflow.clock import Clock

CONNECT_TIMEOUT_S = 5.0
TOTAL_TIMEOUT_S = 30.0
CONNECTIONS_MAX = 256
# GetRecords stops at 1 MB of items, which as JSON (base64, escapes) is a few times as much.
_BODY_BYTES_MAX = 64 * 1024 * 1024
# A connection that idles longer may have been closed at the other end; the SDK's own figure.
_KEEPALIVE_S = 12.0
# The service tolerates 5 minutes; a signature refused over less than this is wrong for another reason.
_CLOCK_OFF_S = 60.0
# Whoever answers in the service's place may ask for any pause: a shard that pauses for longer loses records to retention.
_RETRY_AFTER_S_MAX = 300.0
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where to post and what to sign for. `certificates` is the file of certificate authorities to trust."""

    url: str
    region: str
    signing_name: str
    content_type: str
    certificates: str

    @property
    def host(self) -> str:
        """As the Host header has it: the default port is left out."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else str(parts.hostname)
        return host if parts.port in {None, _DEFAULT_PORTS.get(parts.scheme)} else f"{host}:{parts.port}"


@dataclass(frozen=True, slots=True)
class Response:
    """The body of a 200, and when the service says it was."""

    body: bytes
    date: str | None = None

    @property
    def server_time_s(self) -> float | None:
        """The Date header in seconds since the Unix epoch; whole seconds, None if there is none."""
        return _seconds(self.date)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    """An answer that is not 200, and what the request had been signed with."""

    error: SourceError
    server_time_s: float | None
    signed_at_s: float
    keys: Keys


class Wire:
    """Open it with `Aws.open_wire`. Calls may run side by side."""

    def __init__(
        self, http: aiohttp.ClientSession, endpoint: Endpoint, identity: Identity, *, clock: Clock, proxy: str | None
    ) -> None:
        self._http = http
        self._identity = identity
        self._clock = clock
        self._proxy = proxy
        self._url = URL(endpoint.url, encoded=True)
        self._scope = Scope(
            region=endpoint.region,
            service=endpoint.signing_name,
            host=endpoint.host,
            content_type=endpoint.content_type,
        )
        self._clock_offset_s = 0.0
        # The pool gives a free connection to whoever asks next, and not to who waits: on a busy loop some never had a turn.
        self._turns = anyio.Semaphore(CONNECTIONS_MAX, fast_acquire=True)

    async def call(self, target: str, body: bytes) -> Response:
        """Post `body` to `target`, for instance `DynamoDBStreams_20120810.GetRecords`.

        Repeats once, by itself, what a wrong clock of this machine or an expired token explains.

        Raises:
            SourceError: of the class that `streamflow.aws.errors` gives to the answer, with its code.
        """
        try:
            answer = await self._post(target, body)
            if isinstance(answer, _Refusal) and await self._mend(answer):
                answer = await self._post(target, body)
        except SourceError:
            raise
        except Exception as error:
            raise translate(error) from error
        if isinstance(answer, _Refusal):
            raise answer.error
        return answer

    async def _post(self, target: str, body: bytes) -> Response | _Refusal:
        try:
            self._turns.acquire_nowait()
        except anyio.WouldBlock:
            await self._turns.acquire()
        try:
            return await self._post_now(target, body)
        finally:
            self._turns.release()

    async def _post_now(self, target: str, body: bytes) -> Response | _Refusal:
        keys = await self._identity.keys()
        signed_at_s = self._clock.wall() + self._clock_offset_s
        at = datetime.fromtimestamp(signed_at_s, UTC)
        headers = signed_headers(self._scope, keys, target=target, body=body, at=at)
        # Not `async with`: a response that is read to its end has let go of its connection by then.
        response = await self._http.post(
            self._url, data=body, headers=headers, proxy=self._proxy, allow_redirects=False
        )
        try:
            content = await _read(response)
        except BaseException:
            response.close()
            raise
        date = response.headers.get("Date")
        if response.status == 200:
            return Response(_intact(content, response.headers), date)
        return _Refusal(
            error=_refusal(response.status, response.headers, content),
            server_time_s=_seconds(date),
            signed_at_s=signed_at_s,
            keys=keys,
        )

    async def _mend(self, refusal: _Refusal) -> bool:
        """Remove the cause of the refusal if it is on our side; True if it is worth another attempt."""
        code, server_time_s = refusal.error.code, refusal.server_time_s
        if code in EXPIRED_CODES:
            return await self._identity.renew(refusal.keys)
        if code not in CLOCK_CODES or server_time_s is None:
            return False
        if abs(server_time_s - refusal.signed_at_s) < _CLOCK_OFF_S:
            return False
        self._clock_offset_s = server_time_s - self._clock.wall()
        return True


@asynccontextmanager
async def open_wire(endpoint: Endpoint, identity: Identity, *, clock: Clock) -> AsyncIterator[Wire]:
    """A wire with a connection pool of its own.

    Proxies are looked up once, by the SDK's rules: aiohttp's `trust_env` would do it in a thread for every request, and
    put what a .netrc says in the place of the signature.

    Raises:
        ConfigError: the certificates cannot be loaded.
    """
    connector = aiohttp.TCPConnector(
        limit=CONNECTIONS_MAX, keepalive_timeout=_KEEPALIVE_S, ssl=_trust(endpoint) if _is_tls(endpoint.url) else True
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=TOTAL_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        headers={"User-Agent": f"streamflow/{__version__}", "Accept-Encoding": "identity"},
    ) as http:
        proxy = ProxyConfiguration(proxies=get_environ_proxies(endpoint.url)).proxy_url_for(endpoint.url)
        yield Wire(http, endpoint, identity, clock=clock, proxy=proxy)


def _is_tls(url: str) -> bool:
    return url.startswith("https:")


def _trust(endpoint: Endpoint) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=endpoint.certificates)
    except OSError as error:
        raise ConfigError(f"aws.ca_bundle: cannot load the certificates in {endpoint.certificates}: {error}") from error


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body. Those of AWS say beforehand how long they are; any other is read until it is too long."""
    size = response.content_length
    if size is not None and size <= _BODY_BYTES_MAX:
        return await response.read()
    body = bytearray()
    while size is None and len(body) <= _BODY_BYTES_MAX and (piece := await response.content.readany()):
        body += piece
    if size is not None or len(body) > _BODY_BYTES_MAX:
        raise corrupt_answer(f"of more than {_BODY_BYTES_MAX} bytes")
    return bytes(body)


# --- reading answers -------------------------------------------------------------------------------------------------


class _ErrorBody(msgspec.Struct):
    type: str = msgspec.field(name="__type", default="")
    message: str = ""
    capital_message: str = msgspec.field(name="Message", default="")


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> SourceError:
    try:
        said = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = _ErrorBody()  # a load balancer's page, for instance
    # com.amazonaws.dynamodb.v20120810#ResourceNotFoundException, or behind the code a colon and an address
    code = (said.type or headers.get("x-amzn-ErrorType", "")).rpartition("#")[2].partition(":")[0]
    retry_after = headers.get("Retry-After", "")
    return classify(
        code,
        said.message or said.capital_message,
        status,
        retry_after_s=min(float(retry_after), _RETRY_AFTER_S_MAX) if retry_after.isdecimal() else None,
    )


def _intact(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The body, unpacked, if it is what the service sent: by its checksum, or else at least UTF-8."""
    expected = headers.get("x-amz-crc32")
    _check_sum(body, expected)
    if headers.get("Content-Encoding") == "gzip":
        unpacker = zlib.decompressobj(wbits=31)
        body = unpacker.decompress(body, _BODY_BYTES_MAX)
        if not unpacker.eof:
            raise corrupt_answer("that is not completely packed")
    if expected is None and not body.isascii():
        body.decode()
    return body


def check_json(body: bytes, checksum: str | None) -> None:
    """Raise a `SourceError` for a body that is no JSON object, or has another checksum than the service says."""
    _check_sum(body, checksum)
    try:
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise corrupt_answer("that is truncated or corrupt") from error


def _check_sum(body: bytes, expected: str | None) -> None:
    if expected is not None and expected != str(zlib.crc32(body)):
        raise corrupt_answer("with a wrong checksum")


def _seconds(date: str | None) -> float | None:
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
