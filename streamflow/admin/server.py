"""The admin server: /metrics, /livez, /readyz, /status. It reads, and changes nothing.

It is for an orchestrator, a scraper and a person on the same machine or network. One request per connection, few
connections, a short life for each: whoever misbehaves here must not slow the pipelines down.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from contextlib import asynccontextmanager
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client.exposition import choose_encoder

from streamflow.clock import SystemClock
from streamflow.errors import ConfigError
from streamflow.observe.progress import as_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from aiohttp.web_protocol import RequestHandler
    from prometheus_client import CollectorRegistry

    from streamflow.http_options import HttpOptions
    from streamflow.observe.health import Verdict
    from streamflow.observe.progress import ProgressSnapshot

    _Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]

CONNECTIONS_MAX = 64
CONNECTION_LIFE_S = 30.0
"""From accept to close, whatever the client does; scrapers give up after 10 s by default."""
PAGE_AGE_S_MAX = 0.5
"""For how long a page of metrics is given to whoever asks."""
HEADER_BYTES_MAX = 8_190
HEADERS_MAX = 64

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_PROBES = frozenset({"/livez", "/readyz"})
_REFUSED = "send the token: Authorization: Bearer TOKEN\n"
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "streamflow"}


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether the fault is the server's. What a client sends wrongly is no line in our log: anybody could fill it, and the
    parser quotes the header, which may be the one with the token.
    """
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


_logger = logging.getLogger("streamflow.admin")
_logger.addFilter(_is_ours)


class Judge(Protocol):
    """What is asked by probes: the `Health` of a worker, or of several together."""

    def live(self) -> Verdict: ...

    def ready(self) -> Verdict: ...


class Watched(Protocol):
    """What /status shows: the `Progress` of a worker, or of several together."""

    def snapshot(self) -> ProgressSnapshot: ...


@asynccontextmanager
async def open_admin(
    options: HttpOptions, *, registry: CollectorRegistry, health: Judge, progress: Watched | None = None
) -> AsyncGenerator[str]:
    """Serve until the context ends; yields the base URL, with the port that was picked where `options.port` is 0.

    Raises:
        ConfigError: the address cannot be bound.
    """
    lock = _Lock(options)
    app = web.Application(middlewares=[_guard(options, lock)])
    app.add_routes(
        [
            web.get("/metrics", _metrics(registry)),
            web.get("/livez", _judged(health.live, lock)),
            web.get("/readyz", _judged(health.ready, lock)),
        ]
    )
    if progress is not None:
        app.router.add_get("/status", _status(progress))
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_logger,
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
        max_headers=HEADERS_MAX,
        lingering_time=0,
        shutdown_timeout=1.0,
    )
    await runner.setup()
    try:
        assert runner.server is not None
        listener = await _listen(options, _Door(runner.server))
        try:
            yield _url(listener)
        finally:
            listener.close()
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


# --- the door --------------------------------------------------------------------------------------------------------


class _Door:
    """Makes a protocol per connection: what takes too long is ended, and where there are too many the oldest makes room.

    A request takes milliseconds, so the oldest of many is one that asks for nothing: whoever opens connections and leaves
    them so does not shut out scrapes and probes.
    """

    def __init__(self, server: web.Server) -> None:
        self._server = server

    def __call__(self) -> asyncio.Protocol:
        # In the order in which they were made; one that is aborted stays among them until the loop's next turn.
        open_ = [each for each in self._server.connections if _is_open(each)]
        if len(open_) >= CONNECTIONS_MAX:
            _abort(open_[0])
        connection = self._server()
        asyncio.get_running_loop().call_later(CONNECTION_LIFE_S, _abort, connection)
        return connection


def _is_open(connection: RequestHandler) -> bool:
    return connection.transport is not None and not connection.transport.is_closing()


def _abort(connection: RequestHandler) -> None:
    if connection.transport is not None:
        connection.transport.abort()


async def _listen(options: HttpOptions, door: _Door) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    try:
        # In two steps: cancelled in the middle of one, it would leave a socket that listens and that nobody knows.
        listener = await loop.create_server(door, options.host, options.port, start_serving=False)
        try:
            await listener.start_serving()
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"http: cannot listen on {options.host} port {options.port}: {reason}. "
            "Stop what uses the port, choose another host or port, or port 0 for any free one."
        ) from error
    return listener


def _url(listener: asyncio.Server) -> str:
    host, port = listener.sockets[0].getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:  # every address of the machine; one that works from here
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://{address}:{port}" if address.version == 4 else f"http://[{address}]:{port}"


class _Lock:
    """Who may read more than yes and no: whoever sends the token, and everybody where none is set."""

    def __init__(self, options: HttpOptions) -> None:
        self._token = None if options.token is None else options.token.get_secret_value().encode()

    def opens_for(self, request: web.Request) -> bool:
        if self._token is None:
            return True
        sent = request.headers.getall("Authorization", [])
        if len(sent) != 1:
            return False
        scheme, _, credentials = sent[0].partition(" ")
        # Whatever is sent, this takes as long: nobody finds the token one character after the other.
        same = compare_digest(credentials.strip().encode("utf-8", "surrogateescape"), self._token)
        return same and scheme.lower() == "bearer"


def _guard(options: HttpOptions, lock: _Lock) -> Any:  # aiohttp's middleware type takes the decorated function only
    """Refuses what a probe, a scraper or a browser on this machine has no reason to send, and who lacks the token.

    A page on the web can point its own name at 127.0.0.1 (DNS rebinding) and then read from here as its own origin: on
    loopback, only the names of loopback are served. Beyond loopback any name may be right: there the token guards, or
    the network. An orchestrator has no token for its probes, so these are answered, by yes or no.
    """
    names = _LOOPBACK_NAMES | {options.host.lower()} if options.on_loopback else None

    @web.middleware
    async def guard(request: web.Request, handler: _Respond) -> web.StreamResponse:
        response: web.StreamResponse | None = _refusal(request, names)
        if response is None and request.path not in _PROBES and not lock.opens_for(request):
            response = web.Response(status=401, text=_REFUSED, headers={"WWW-Authenticate": "Bearer"})
        if response is None:
            try:
                response = await handler(request)
            except web.HTTPNotFound:
                response = web.Response(status=404, text="there are /metrics, /livez, /readyz and /status\n")
        response.headers.update(_HEADERS)
        response.force_close()
        return response

    return guard


def _refusal(request: web.Request, names: frozenset[str] | None) -> web.Response | None:
    if names is not None and _host_name(request) not in names:
        return web.Response(status=421, text="on loopback this server answers to localhost only\n")
    if request.method not in {"GET", "HEAD"}:
        return web.Response(status=405, text="only GET and HEAD\n", headers={"Allow": "GET, HEAD"})
    if request.body_exists:
        return web.Response(status=413, text="no request here has a body\n")
    return None


def _host_name(request: web.Request) -> str | None:
    """The host that the client believes to talk to, without port and brackets; None if it says none, or two."""
    hosts = request.headers.getall("Host", [])
    if len(hosts) != 1:
        return None
    try:
        return urlsplit(f"//{hosts[0]}").hostname
    except ValueError:
        return None


# --- the pages -------------------------------------------------------------------------------------------------------


def _metrics(registry: CollectorRegistry) -> _Respond:
    """Renders in a thread of its own, one page at a time: handlers that fill the worker threads do not hide metrics.

    Rendering takes milliseconds in which Python does nothing else. So who asks soon after somebody else gets the same page.
    """
    limiter, turn, clock = anyio.CapacityLimiter(1), anyio.Lock(), SystemClock()
    known: tuple[str, bytes] | None = None
    rendered_s = 0.0

    async def respond(request: web.Request) -> web.Response:
        nonlocal known, rendered_s
        render, content_type = choose_encoder(request.headers.get("Accept", ""))
        async with turn:
            if known is None or known[0] != content_type or clock.monotonic() - rendered_s >= PAGE_AGE_S_MAX:
                asked_s = clock.monotonic()
                known = (content_type, await anyio.to_thread.run_sync(render, registry, limiter=limiter))
                rendered_s = asked_s
            page = known[1]
        return web.Response(body=page, headers={"Content-Type": content_type})

    return respond


def _judged(judge: Callable[[], Verdict], lock: _Lock) -> _Respond:
    async def respond(request: web.Request) -> web.Response:
        verdict = judge()
        told = {"ok": verdict.ok, "reasons": verdict.reasons} if lock.opens_for(request) else {"ok": verdict.ok}
        return _json(told, status=200 if verdict.ok else 503)

    return respond


def _status(progress: Watched) -> _Respond:
    async def respond(_request: web.Request) -> web.Response:
        return _json(as_json(progress.snapshot()))

    return respond


def _json(document: dict[str, Any], *, status: int = 200) -> web.Response:
    return web.json_response(document, status=status, dumps=lambda value: json.dumps(value) + "\n")
