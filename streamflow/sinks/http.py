"""A webhook: records in POST requests, signed, with a key that a repetition is recognised by."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio

from streamflow import __version__
from streamflow.errors import ConfigError, SinkBusyError, StreamflowError
from streamflow.sdk.declarations import SinkPlugin
from streamflow.sdk.permissions import nothing_at_aws
from streamflow.sdk.requests import Rejection, write_in_requests
from streamflow.sinks.egress import guarded_socket, refusal
from streamflow.sinks.http_answers import Answered, Refused, meaning
from streamflow.sinks.http_requests import body_of, content_type, key_of, message, secret_bytes, signed_headers
from streamflow.sinks.http_settings import HttpSettings, capabilities

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import Literal

    from aiohttp import ClientResponse, ClientSession

    from streamflow.batches import Batch
    from streamflow.clock import Clock
    from streamflow.payloads import PayloadForm
    from streamflow.protocols import Writer
    from streamflow.records import Record
    from streamflow.sdk.context import SinkContext
    from streamflow.sdk.requests import Answers
    from streamflow.sinks.http_requests import Message


@asynccontextmanager
async def open_http(settings: HttpSettings, context: SinkContext) -> AsyncIterator[Writer]:
    """Makes no request: a webhook has nothing that could be asked without an effect.

    Raises:
        ConfigError: the certificates cannot be read, or the URL holds an address that is never reached.
    """
    from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

    _check_host(settings)
    connector = TCPConnector(
        limit=settings.concurrency,
        ssl=_trust(settings),
        socket_factory=guarded_socket(private=settings.private_addresses),
    )
    async with ClientSession(
        connector=connector, cookie_jar=DummyCookieJar(), timeout=ClientTimeout(total=None, sock_connect=None)
    ) as session:
        yield HttpWriter(settings, session, context.clock)


class HttpWriter:
    """Keeps `streamflow.protocols.Writer`."""

    def __init__(self, settings: HttpSettings, session: ClientSession, clock: Clock) -> None:
        self._settings = settings
        self._session = session
        self._clock = clock
        self._capabilities = capabilities(settings)
        self._places = anyio.CapacityLimiter(settings.concurrency)
        self._keys = [secret_bytes(secret.get_secret_value()) for secret in settings.signing_secrets]
        self._origin = _origin(settings.url)
        self._headers = {
            "User-Agent": f"streamflow/{__version__}",
            "Content-Type": content_type(settings.body),
            "Accept-Encoding": "identity",
        }
        # The user's own take the place of ours, however they are written.
        own = {name.title(): secret.get_secret_value() for name, secret in settings.headers.items()}
        self._headers |= own

    async def write(self, batch: Batch, /) -> None:
        await write_in_requests(
            batch,
            encode=partial(_encode, form=self._settings.payload),
            send=self._send,
            capabilities=self._capabilities,
            concurrency=self._settings.concurrency,
        )

    async def _send(self, messages: Sequence[Message]) -> Answers:
        """Send them in one request; where that is refused, in halves, until it is known which record is the reason."""
        found = await self._request(messages)
        if isinstance(found, Answered):
            return found.answers
        if len(messages) == 1:
            return [Rejection("refused", f"{self._origin}: {found.reason}")]
        middle = len(messages) // 2
        answers: list[Rejection | None] = []
        for half in (messages[:middle], messages[middle:]):
            answers += await self._send_again(half)
        return answers

    async def _send_again(self, messages: Sequence[Message]) -> Sequence[Rejection | None]:
        """A half, told by itself: what became of the other is known, and stays so."""
        try:
            return await self._send(messages) or [None] * len(messages)
        except SinkBusyError as error:
            return [Rejection("waiting", str(error))] * len(messages)
        except StreamflowError as error:
            return [Rejection("failed", str(error))] * len(messages)

    async def _request(self, messages: Sequence[Message]) -> Answered | Refused:
        body = body_of(messages, self._settings.body)
        key = key_of(messages)
        async with self._places:
            now_s = self._clock.wall()
            headers = self._headers | {"Idempotency-Key": key}
            if self._keys:
                headers |= signed_headers(self._keys, identity=key, timestamp_s=int(now_s), body=body)
            status, retry_after, content = await self._exchange(body, headers)
        try:
            return meaning(status, retry_after, content, messages, now_s=self._clock.wall())
        except SinkBusyError as error:
            raise SinkBusyError(f"{self._origin}: {error}", retry_after_s=error.retry_after_s) from None
        except StreamflowError as error:
            raise StreamflowError(f"{self._origin}: {error}") from None

    async def _exchange(self, body: bytes, headers: dict[str, str]) -> tuple[int, str | None, bytes]:
        """Status, Retry-After and content of the answer.

        Raises:
            StreamflowError: there was none; the records may have been taken all the same.
        """
        from aiohttp import ClientError

        settings = self._settings
        try:
            with anyio.fail_after(settings.timeout_s):
                async with self._session.request(
                    settings.method, settings.url, data=body, headers=headers, allow_redirects=False
                ) as response:
                    content = await self._content(response)
                    return response.status, response.headers.get("Retry-After"), content
        except TimeoutError:
            raise StreamflowError(f"{self._origin} did not answer within {settings.timeout_s:g} s") from None
        except (ClientError, OSError) as error:
            raise StreamflowError(f"{self._origin}: {_reason(error)}") from None

    async def _content(self, response: ClientResponse) -> bytes:
        content = bytearray()
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > self._settings.response_bytes_max:
                raise StreamflowError(
                    f"{self._origin} answers {response.status} with more than {self._settings.response_bytes_max} bytes: "
                    "raise response_bytes_max, or let it answer less"
                )
        return bytes(content)


def _encode(record: Record, form: PayloadForm) -> tuple[Message, int]:
    encoded = message(record, form)
    return encoded, len(encoded.content) + 1


def _origin(url: str) -> str:
    """What is shown of the URL: paths and queries may hold tokens."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _reason(error: Exception) -> str:
    """Why there is no connection; of other errors only the name, because their texts may hold the URL or what was sent."""
    from aiohttp import ClientConnectorCertificateError, ClientConnectorError

    if isinstance(error, ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    return type(error).__name__


def _check_host(settings: HttpSettings) -> None:
    host = urlsplit(settings.url).hostname or ""
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return  # a name: what it stands for is looked at with each connection
    if reason := refusal(host, private=settings.private_addresses):
        raise ConfigError(f"sink http: url: {reason}")


def _trust(settings: HttpSettings) -> ssl.SSLContext | Literal[True]:
    """The certificates to trust; those of the machine are read for TLS only, because reading them takes some 20 ms."""
    if settings.ca_bundle is None and urlsplit(settings.url).scheme == "http":
        return True
    try:
        return ssl.create_default_context(cafile=settings.ca_bundle)
    except OSError as error:
        raise ConfigError(
            f"sink http: ca_bundle {settings.ca_bundle} holds no certificates that can be read: {type(error).__name__}"
        ) from None


http = SinkPlugin(
    name="http",
    api_version="1.0",
    summary="A webhook: requests with several records, signed, in order for each item.",
    settings=HttpSettings,
    examples={
        "an array of changes": {"url": "https://hooks.example.com/orders", "payload": "change"},
        "a request for each record, signed": {
            "url": "https://hooks.example.com/orders",
            "body": "single",
            "signing_secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        },
        "a Lambda function in a container": {
            "url": "http://127.0.0.1:9000/2015-03-31/functions/function/invocations",
            "body": "event",
        },
    },
    open=open_http,
    capabilities=capabilities,
    permissions=nothing_at_aws,
)
