"""A gate before MiniStack, which takes any credentials: it knows which access keys are good, and answers as AWS does."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import orjson
from aiohttp import web
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_HOP_BY_HOP = frozenset({"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"})


class Gate:
    """`port` on 127.0.0.1 leads to the server, for requests that are signed with a key of `keys`."""

    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        self.port = 0
        self.keys = {"test"}
        self.expired: set[str] = set()
        self._upstream = upstream
        self._session = session

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        key = request.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]
        if key in self.expired:
            return _refusal(request, "ExpiredToken", json_code="ExpiredTokenException")
        if key not in self.keys:
            return _refusal(request, "InvalidClientTokenId", json_code="UnrecognizedClientException")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        if "Content-Encoding" in request.headers:
            headers["Content-Encoding"] = request.headers["Content-Encoding"]
        url = URL(self._upstream + request.raw_path, encoded=True)
        async with self._session.request(request.method, url, data=body, headers=headers) as answer:
            content = await answer.read()
            told = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
            return web.Response(status=answer.status, body=content, headers=told)


@asynccontextmanager
async def open_gate(upstream: str) -> AsyncIterator[Gate]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        gate = Gate(upstream, session)
        runner = web.ServerRunner(web.Server(gate.handle))
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            gate.port = runner.addresses[0][1]
            yield gate
        finally:
            await runner.cleanup()


def _refusal(request: web.BaseRequest, code: str, *, json_code: str) -> web.Response:
    """In the protocol of the request: JSON with its target, REST with JSON, or XML."""
    message = "The security token included in the request is not good"
    if "X-Amz-Target" in request.headers:
        body = orjson.dumps({"__type": json_code, "message": message})
        return web.Response(status=400, body=body, content_type="application/x-amz-json-1.1")
    if request.path.startswith("/2015-03-31/"):
        body = orjson.dumps({"Message": message})
        return web.Response(status=403, body=body, headers={"x-amzn-ErrorType": json_code})
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    form = request.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded")
    text = f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>" if form else error
    return web.Response(status=403, text=text, content_type="text/xml")
