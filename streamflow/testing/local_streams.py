"""A DynamoDB with streams on loopback: the wire protocol that boto3 and the AWS CLI speak, over `Controls`.

`python -m streamflow.testing.local_streams` runs it as a process of its own.
"""

from __future__ import annotations

import asyncio
import re
import signal
import uuid
import zlib
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

import anyio
import click
import orjson
from aiohttp import web

from streamflow.testing.commands import COMMANDS, run_command
from streamflow.testing.controls import Controls
from streamflow.testing.faults import CorruptBody, LoseRequest, LoseResponse, TruncateBody
from streamflow.testing.refusals import RefusedError, not_found
from streamflow.testing.requests import read_request
from streamflow.testing.tables import TablesOptions
from streamflow.testing.wire import Wire, error_body, shard_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

    from streamflow.testing.faults import Fault

_REQUEST_BYTES_MAX = 16 * 1024 * 1024  # BatchWriteItem
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/")
_ADMIN = "/_local/"


class ServerOptions(TypedDict, total=False):
    """How to listen. `port` 0 picks a free one. `access_keys` (id to secret) are the only ones let in, if given."""

    now: Callable[[], float] | None
    host: str
    port: int
    access_keys: Mapping[str, str] | None


class LocalStreamsOptions(ServerOptions, TablesOptions, total=False):
    """Options of `LocalStreams`: how to listen, and how the tables behave (see `Tables`)."""


class LocalStreams(Controls):
    """The server: an async context manager that opens listening, or `in_thread()` from code that is not async.

    Any credentials are good, but a request must carry some; with `access_keys`, only those key ids are. The signature
    itself is not verified.
    """

    endpoint_url: str
    """Where it listens, once opened."""

    def __init__(
        self,
        *,
        now: Callable[[], float] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        access_keys: Mapping[str, str] | None = None,
        **options: Unpack[TablesOptions],
    ) -> None:
        super().__init__(now=now, **options)
        self._host, self._port = host, port
        self._access_keys = access_keys
        self._wire = Wire(self.tables)
        self._stack = AsyncExitStack()

    @contextmanager
    def in_thread(self) -> Iterator[Self]:
        """Open a server in a thread of its own, with its own event loop. Its methods may be called from here."""
        from anyio.from_thread import start_blocking_portal

        with start_blocking_portal() as portal, portal.wrap_async_context_manager(self):
            yield self

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()

        def receive(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
            return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_REQUEST_BYTES_MAX)

        runner = web.ServerRunner(web.Server(self._serve, request_factory=receive, access_log=None), shutdown_timeout=1)
        # Not to be cancelled half-way: it would leave a socket that listens and that nobody knows.
        with anyio.CancelScope(shield=True):
            await runner.setup()
            self._stack.push_async_callback(runner.cleanup)
            try:
                await web.TCPSite(runner, self._host, self._port).start()
            except BaseException:
                await self._stack.aclose()
                raise
        host, port = runner.addresses[0][:2]
        self.endpoint_url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):  # a second at most
            await self._stack.aclose()

    # -- one request ----------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if request.path.startswith(_ADMIN):
            return self._administer(request, request.path.removeprefix(_ADMIN), body)
        return await self._answer(request, body)

    async def _answer(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        fault: Fault | None = None
        target = request.headers.get("X-Amz-Target", "")
        operation = target.rpartition(".")[2]
        try:
            self._authenticate(request.headers.get("Authorization"))
            asked = read_request(target, body)
            with self.lock:
                self.requests[operation] += 1
                fault = self.faults.take(operation, shard_of(asked))
                latency_s = self.faults.latency_s(operation)
            if latency_s:
                await anyio.sleep(latency_s)
            if isinstance(fault, LoseRequest):
                return _cut(request)
            with self.lock:
                status, answer = 200, self._wire.answer(asked, fault)
        except RefusedError as error:
            status, answer = error.status, error_body(error)
        if isinstance(fault, LoseResponse):
            return _cut(request)
        return _response(_damaged(answer, fault), status=status, checksum=zlib.crc32(answer))

    def _authenticate(self, authorization: str | None) -> None:
        if not authorization:
            raise RefusedError("MissingAuthenticationTokenException", "Request is missing Authentication Token")
        found = _CREDENTIAL.search(authorization)
        if self._access_keys is not None and (found is None or found[1] not in self._access_keys):
            raise RefusedError("UnrecognizedClientException", "The security token included in the request is invalid.")

    def _administer(self, request: web.BaseRequest, name: str, body: bytes) -> web.StreamResponse:
        try:
            if request.method == "GET" and name == "state":
                return web.Response(body=orjson.dumps(self.state()), content_type="application/json")
            if request.method != "POST" or name not in COMMANDS:
                raise not_found(f"GET {_ADMIN}state, or POST {_ADMIN}{{{','.join(COMMANDS)}}}")
            answer = {"result": run_command(self, name, body)}
        except RefusedError as error:
            return web.Response(body=error_body(error), status=error.status, content_type="application/json")
        return web.Response(body=orjson.dumps(answer), content_type="application/json")


def _damaged(body: bytes, fault: Fault | None) -> bytes:
    match fault:
        case TruncateBody(keep_bytes=keep_bytes):
            return body[: len(body) // 2 if keep_bytes is None else keep_bytes]
        case CorruptBody():
            middle = len(body) // 2
            return body[:middle] + b"\xff\xfe" + body[middle + 2 :]
    return body


def _response(body: bytes, *, status: int, checksum: int) -> web.Response:
    headers = {
        "Content-Type": "application/x-amz-json-1.0",
        "x-amzn-RequestId": uuid.uuid4().hex.upper(),  # noqa: TID251 - a request id, as AWS gives
        "x-amz-crc32": str(checksum),
    }
    return web.Response(body=body, status=status, headers=headers)


def _cut(request: web.BaseRequest) -> web.Response:
    """Reset the connection; the response goes nowhere."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


# --- a process of its own -----------------------------------------------------------------------------------------------


async def serve(**options: Unpack[LocalStreamsOptions]) -> None:
    """Run a server until SIGTERM or SIGINT; says where it listens in one JSON line on standard output."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with LocalStreams(**options) as streams:
            click.echo(orjson.dumps({"endpoint_url": streams.endpoint_url}).decode())
            async for _ in signals:
                return


@click.command(help="A DynamoDB with streams of several shards on loopback, for tests and demonstrations.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=0, show_default=True, help="Port to listen on; 0 picks a free one.")
@click.option("--shards", default=4, show_default=True, help="Shards that a new stream starts with.")
@click.option("--children-delay-s", default=0.0, show_default=True, help="Seconds until a child shard is listed.")
@click.option("--region", default="us-east-1", show_default=True, help="Region in ARNs and records.")
def main(**options: Any) -> None:
    anyio.run(lambda: serve(**options))


if __name__ == "__main__":
    main()
