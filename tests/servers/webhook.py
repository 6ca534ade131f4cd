"""A receiver of webhooks on loopback, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Received:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass(slots=True, eq=False)
class Webhook:
    """`answer` decides about each request, and may be replaced at any time; `received` holds all of them."""

    port: int = 0
    scheme: str = "http"
    received: list[Received] = field(default_factory=list)
    taken: list[Received] = field(default_factory=list)
    """Those that were answered with success."""
    answer: Callable[[Received], Answer] = lambda _: Answer()
    at_once: int = 0
    at_once_max: int = 0
    """Most requests that were here at the same time."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    async def handle(self, request: web.Request) -> web.Response:
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        try:
            received = Received(request.method, request.path, dict(request.headers), await request.read())
            self.received.append(received)
            answer = self.answer(received)
            if answer.delay_s:
                await asyncio.sleep(answer.delay_s)
            if answer.status < 300:
                self.taken.append(received)
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        finally:
            self.at_once -= 1


@contextmanager
def running_webhook(tls: ssl.SSLContext | None = None) -> Iterator[Webhook]:
    webhook = Webhook(scheme="https" if tls else "http")
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", webhook.handle)
        runner = web.AppRunner(application, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        webhook.port = runner.addresses[0][1]
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="webhook", daemon=True)  # noqa: TID251 - beside the test
    thread.start()
    assert ready.wait(10), "the webhook did not start"
    try:
        yield webhook
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
