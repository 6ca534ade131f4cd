"""Any bytes on the admin server's port: an answer of HTTP or a closed connection, and nobody else notices."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import anyio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from streamflow.admin.server import open_admin
from streamflow.http_options import HttpOptions
from streamflow.observe.health import Health
from streamflow.observe.metrics import Metrics
from streamflow.observe.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

TOKEN = "0123456789abcdef-._~+/="
# 404 has no body of ours where the parser itself refuses, and 400 comes from it; the others are what the guard says.
STATUSES = {200, 400, 401, 404, 405, 413, 421, 503}
# The version is what the parser made of the request. Who waits to be asked for a body is asked, whatever comes of it.
_STATUS = re.compile(rb"(?:HTTP/1\.1 100 Continue\r\n\r\n)?HTTP/\d\.\d (\d{3}) ")

methods = st.just(b"GET") | st.sampled_from(
    [b"GET", b"HEAD", b"POST", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"get", b""]
)
paths = st.sampled_from([b"/metrics", b"/status"]) | st.sampled_from(
    [b"/metrics", b"/livez", b"/readyz", b"/status", b"/", b"*", b"//x/metrics", b"/metrics?a=%ff", b"/%2e%2e/metrics", b"/%00",
     b"http://example.com/metrics", b"http://[::1/", b"/\xff", b"/" + b"a" * 9_000, b""]
) | st.binary(max_size=12)  # fmt: skip
headers = st.sampled_from(
    [b"Host: localhost", b"Host: 127.0.0.1:80", b"Host: evil.example", b"Host:", b"Host: [::1", b"Host: \xff",
     b"Authorization: Bearer " + TOKEN.encode(), b"Authorization: Bearer \xff", b"Authorization: Basic eA==",
     b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999999",
     b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked, chunked", b"Upgrade: websocket", b"Expect: 100-continue",
     b"Connection: keep-alive", b"Accept: text/plain;q=x", b"Accept: application/openmetrics-text;version=\xff", b": nameless",
     b" folded", b"Accept-Encoding: gzip", b"X: " + b"a" * 9_000, b"Range: bytes=0-"]
) | st.binary(max_size=16)  # fmt: skip
requests = st.builds(
    lambda method, path, version, lines, body: b"\r\n".join([b" ".join([method, path, version]), *lines, b"", body]),
    methods,
    paths,
    st.just(b"HTTP/1.1") | st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b""]),
    st.lists(headers, max_size=4) | st.lists(headers, max_size=2).map(lambda lines: [b"Host: localhost", *lines]),
    st.binary(max_size=8) | st.sampled_from([b"5\r\nhello\r\n0\r\n\r\n", b"fffffffffffff\r\n", b"GET /livez HTTP/1.1\r\n\r\n"]),
)  # fmt: skip
_WELL = b"GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + TOKEN.encode() + b"\r\n\r\n"


class Conversation:
    """One connection: what is sent, and what came back until the server closed or nobody waits any longer."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port = port
        self.request = request
        self.answer = b""

    async def hold(self) -> None:
        async with await anyio.connect_tcp("127.0.0.1", self._port) as stream:
            try:
                await stream.send(self.request)
                async for part in stream:
                    self.answer += part
            except (anyio.BrokenResourceError, OSError):
                pass  # what the server left unread resets the connection


async def play(sent: Sequence[bytes], *, token: bool) -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    options = HttpOptions(port=0, token=SecretStr(TOKEN) if token else None)
    async with open_admin(options, registry=registry, health=Health(), progress=Progress()) as url:
        port = int(url.rpartition(":")[2])
        conversations = [Conversation(port, request) for request in sent]
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for conversation in conversations:
                    tasks.start_soon(conversation.hold)
                # Answered behind them, by one loop and, metrics, by one thread in turn; what is not complete is waited for
                # until its connection ends.
                for path in (b"/livez", b"/livez", b"/metrics"):
                    well = Conversation(port, _WELL % path)
                    await well.hold()
                    assert well.answer.startswith(b"HTTP/1.1 200 ")
                tasks.cancel_scope.cancel()
    for conversation in conversations:
        assert_harmless(conversation, token=token)


def assert_harmless(told: Conversation, *, token: bool) -> None:
    status = _STATUS.match(told.answer)
    assert not told.answer or (status is not None and int(status[1]) in STATUSES), (told.request, told.answer[:200])
    assert TOKEN.encode() not in told.answer
    assert b"Traceback" not in told.answer
    if token and TOKEN.encode() not in told.request:
        assert b"streamflow_" not in told.answer


# Each opens a server of its own: fewer examples, of several requests.
@given(st.lists(requests | st.binary(max_size=60), max_size=8), st.booleans())
@settings(max_examples=25)
@example([b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n"], False)
@example([b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"], True)
@example([b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n"], False)
@example([b"GET /status HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", b"\0" * 20_000], True)
def test_any_request_is_answered_or_the_connection_closed(sent: list[bytes], token: bool) -> None:
    anyio.run(lambda: play(sent, token=token))
