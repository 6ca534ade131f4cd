"""Requests to the nodes of a cluster: authenticated, and to the next node where one cannot be reached."""

from __future__ import annotations

import ssl
from base64 import b64encode
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from streamflow.sdk import ConfigError
from streamflow_opensearch.answers import OpenSearchError
from streamflow_opensearch.signing import Signer, open_signer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.sdk import SinkContext
    from streamflow_opensearch.settings import OpenSearchSettings

_CONNECT_TIMEOUT_S = 5.0
_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """`retry_after_s` is what the server asked for; None where it did not."""

    status: int
    body: bytes
    retry_after_s: float | None


class Connection:
    """Open it with `open_connection`. Requests may run side by side."""

    def __init__(
        self, http: aiohttp.ClientSession, urls: tuple[str, ...], authorization: str | None, signer: Signer | None
    ) -> None:
        self._http = http
        self._urls = urls
        self._authorization = authorization
        self._signer = signer
        self._turn = 0

    async def request(self, method: str, path: str, body: bytes = b"", *, content_type: str = "") -> Answer:
        """One request, to the node whose turn it is. `path` is encoded, and so is its query.

        Raises:
            OpenSearchError: no node can be reached, or the connection broke: it may have been carried out.
        """
        self._turn += 1
        unreachable = ""
        for number in range(len(self._urls)):
            url = self._urls[(self._turn + number) % len(self._urls)]
            try:
                return await self._request(method, url + path, body, content_type)
            except aiohttp.ClientConnectorError as error:
                unreachable = f"{url} cannot be reached: {error}"
            except TimeoutError:
                raise OpenSearchError(f"{url} did not answer in time") from None
            except aiohttp.ClientError as error:
                raise OpenSearchError(f"{url} did not answer: {type(error).__name__}") from error
        raise OpenSearchError(unreachable)

    async def _request(self, method: str, url: str, body: bytes, content_type: str) -> Answer:
        headers = {"Content-Type": content_type, "Content-Length": str(len(body))} if body else {}
        if self._authorization is not None:
            headers["Authorization"] = self._authorization
        if self._signer is not None:
            headers = await self._signer.headers(method, url, body, headers)
        content = _chunks(body) if body else None
        async with self._http.request(
            method, URL(url, encoded=True), data=content, headers=headers, allow_redirects=False
        ) as response:
            answer = await response.read()
            retry_after = response.headers.get("Retry-After", "")
        return Answer(response.status, answer, float(retry_after) if retry_after.isdecimal() else None)


@asynccontextmanager
async def open_connection(settings: OpenSearchSettings, context: SinkContext) -> AsyncIterator[Connection]:
    """A connection for the length of the block; nothing is sent yet.

    Raises:
        ConfigError: the certificates cannot be loaded, or there are no credentials to sign with.
    """
    async with AsyncExitStack() as stack:
        signer = None
        if settings.aws_service is not None:
            signer = await stack.enter_async_context(open_signer(settings.aws_service, settings.aws, context))
        http = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=_trust(settings.ca_bundle)),
                timeout=aiohttp.ClientTimeout(total=settings.request_timeout_s, sock_connect=_CONNECT_TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        )
        yield Connection(http, settings.urls, _authorization(settings), signer)


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    """aiohttp writes each at once, and other tasks have their turn between them."""
    for start in range(0, len(body), _CHUNK_BYTES):
        yield body[start : start + _CHUNK_BYTES]


def _trust(ca_bundle: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:
        raise ConfigError(f"opensearch.ca_bundle: cannot load the certificates in {ca_bundle}: {error}") from error


def _authorization(settings: OpenSearchSettings) -> str | None:
    if settings.api_key is not None:
        return f"ApiKey {settings.api_key.get_secret_value()}"
    if settings.username is not None and settings.password is not None:
        pair = f"{settings.username}:{settings.password.get_secret_value()}"
        return f"Basic {b64encode(pair.encode()).decode()}"
    return None
