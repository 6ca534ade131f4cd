"""Servers on loopback that stand in for AWS, a proxy, or nobody; and a wire whose other end is a function."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import orjson
from aiohttp import web

from streamflow.aws.wire import Response, Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

    import pytest
    from multidict import CIMultiDictProxy

_AWS_VARIABLES = (
    "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL",
    "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
)  # fmt: skip


def isolate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's AWS set-up; fixed keys."""
    for name in _AWS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "does-not-exist")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "does-not-exist")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request as the server saw it."""

    method: str
    url: str
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def operation(self) -> str:
        return self.headers.get("X-Amz-Target", "").rpartition(".")[2]

    @property
    def access_key(self) -> str:
        return self.headers["Authorization"].partition("Credential=")[2].partition("/")[0]


@dataclass(slots=True)
class ScriptedServer:
    url: str
    port: int
    received: list[Received] = field(default_factory=list)


@asynccontextmanager
async def serving(
    answer: Callable[[Received], web.StreamResponse], *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedServer]:
    """Answer every request, whatever its path, with what the function returns."""
    server = ScriptedServer("", 0)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        received = Received(method=request.method, url=str(request.url), headers=request.headers, body=body)
        server.received.append(received)
        return answer(received)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        server.port = runner.addresses[0][1]
        server.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.port}"
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(answer: bytes) -> AsyncIterator[tuple[int, list[str]]]:
    """Yields the port, and the first line of every request; sends `answer` and closes."""
    first_lines: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        first_lines.append(head.partition(b"\r\n")[0].decode())
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], first_lines


def json_answer(body: object, *, status: int = 200, **headers: str) -> web.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/x-amz-json-1.0", headers=named
    )


def refusal(code: str, message: str = "no", *, status: int = 400, **headers: str) -> web.Response:
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message}
    return json_answer(body, status=status, **headers)


class ScriptedWire(Wire):
    """A wire whose answers a function gives, or raises, from operation and request. Suspends once before each."""

    def __init__(self, answer: Callable[[str, dict[str, Any]], object]) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._answer = answer

    async def call(self, target: str, body: bytes) -> Response:
        await anyio.lowlevel.checkpoint()
        operation, request = target.rpartition(".")[2], orjson.loads(body)
        self.calls.append((operation, request))
        answer = self._answer(operation, request)
        await anyio.lowlevel.checkpoint()
        return Response(answer if isinstance(answer, bytes) else orjson.dumps(answer), "Sun, 06 Nov 1994 08:49:37 GMT")
