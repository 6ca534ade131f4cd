"""The connection of a sink to NATS, and another one when it is lost.

A client lives as long as its connection, and what the stream has not acknowledged when it ends has failed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import orjson

from streamflow.sdk import Rejection, SinkBusyError
from streamflow_nats.connecting import close_client, open_client, trusting

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from streamflow_nats.messages import Message
    from streamflow_nats.settings import NatsSettings

_log = logging.getLogger("streamflow_nats")

# How often a wait looks whether the connection is still there.
_LOOK_S = 0.1
# The server's code for a message that is larger than the stream takes.
_TOO_LARGE = 10_054
_NO_RESPONDERS = "503"


class _Request:
    """Messages that were published together, and what the stream said of each so far."""

    def __init__(self, messages: int) -> None:
        self.answers: list[Rejection | None] = [Rejection("failed", "the stream did not acknowledge it")] * messages
        self.left = messages
        self.known = 0
        """Messages that the stream had already, and did not store again."""
        self.answered = anyio.Event()

    def answer(self, place: int, message: Msg) -> None:
        self.left -= 1
        self.answers[place], known = read_ack(message.data, message.headers)
        self.known += known
        if self.left == 0:
            self.answered.set()


class Connection:
    """One client, for one connection; made by `connect`.

    Publishing and acknowledgements are put together here: the client's own `publish_async` never tells of an error that
    the stream answers with.
    """

    def __init__(self, client: Client, settings: NatsSettings) -> None:
        self.client = client
        self.jetstream = client.jetstream(timeout=settings.ack_timeout_s)
        self._ack_timeout_s = settings.ack_timeout_s
        self._inbox = client.new_inbox()
        self._last = 0
        self._waiting: dict[int, tuple[_Request, int]] = {}  # number of a message to its place in a request
        self._given_up = False

    @property
    def is_lost(self) -> bool:
        return self._given_up or not self.client.is_connected

    async def listen(self) -> None:
        """To acknowledgements; called once."""
        await self.client.subscribe(f"{self._inbox}.*", cb=self._take)

    async def publish(self, messages: Sequence[Message]) -> tuple[list[Rejection | None], int]:
        """Publish all of them, and wait for the stream's word on each; also, how many it had already.

        Whoever is cancelled, or waits longer than `ack_timeout_s`, gives the connection up, so that nothing is sent later.

        Raises:
            SinkBusyError: the connection was given up because of another request.
            nats.errors.Error: it was lost before all was sent.
        """
        request = _Request(len(messages))
        numbers = range(self._last + 1, self._last + 1 + len(messages))
        self._last += len(messages)
        self._waiting.update({number: (request, place) for place, number in enumerate(numbers)})
        try:
            with anyio.move_on_after(self._ack_timeout_s):
                for number, message in zip(numbers, messages, strict=True):
                    reply = f"{self._inbox}.{number}"
                    await self.client.publish(message.subject, message.payload, reply=reply, headers=message.headers)
                while request.left and not self.is_lost:
                    with anyio.move_on_after(_LOOK_S):
                        await request.answered.wait()
            if request.left and self._given_up:
                raise SinkBusyError("nats: the connection was given up", retry_after_s=_LOOK_S)
        finally:
            if request.left:
                for number in numbers:
                    self._waiting.pop(number, None)
                await self.give_up()  # noqa: ASYNC102 - shields itself, for a limited time
        return request.answers, request.known

    async def _take(self, message: Msg) -> None:
        number = message.subject.rpartition(".")[2]
        waiting = self._waiting.pop(int(number), None)
        if waiting is not None:
            request, place = waiting
            request.answer(place, message)

    async def give_up(self) -> None:
        """Close it, whatever is still to be sent. The server may have, or get, what is on the network."""
        self._given_up = True
        await close_client(self.client)


class Connections:
    """The connection of now; any number of requests share it."""

    def __init__(self, settings: NatsSettings, first: Connection) -> None:
        self._settings = settings
        self._current = first
        self._connecting = anyio.Lock()

    async def current(self) -> Connection:
        """Raises what connecting raises."""
        async with self._connecting:
            if self._current.is_lost:
                await self._current.give_up()
                self._current = await connect(self._settings)
        return self._current

    async def aclose(self) -> None:
        await self._current.give_up()


async def connect(settings: NatsSettings) -> Connection:
    """Connect to one of the servers.

    Raises:
        TimeoutError, OSError, nats.errors.Error: none is there, or none lets us in.
    """
    client = await open_client(
        [server.strip() for server in settings.servers.split(",")],
        timeout_s=settings.connect_timeout_s,
        told=_note,
        tls=_tls(settings),
        **_login(settings),
    )
    connection = Connection(client, settings)
    try:
        with anyio.fail_after(settings.connect_timeout_s):
            await connection.listen()
    except BaseException:
        await close_client(client)  # noqa: ASYNC102 - shields itself, for a limited time
        raise
    return connection


def _login(settings: NatsSettings) -> dict[str, Any]:
    told: dict[str, Any] = {
        "user": settings.username,
        "password": settings.password and settings.password.get_secret_value(),
        "token": settings.token and settings.token.get_secret_value(),
        "user_credentials": settings.credentials_file,
    }
    return {key: value for key, value in told.items() if value is not None}


def _tls(settings: NatsSettings) -> ssl.SSLContext | None:
    if settings.ca_file is None and settings.certificate_file is None:
        return None
    return trusting(settings.ca_file, settings.certificate_file, settings.key_file)


async def _note(error: Exception) -> None:
    """What the client notices: each request hears of it by itself."""
    _log.debug("%s: %s", type(error).__name__, error)


def read_ack(data: bytes, headers: Mapping[str, str] | None) -> tuple[Rejection | None, bool]:
    """What an acknowledgement says: the rejection, if it is one; whether the stream had the message already."""
    if headers is not None and headers.get("Status") == _NO_RESPONDERS:
        return Rejection("failed", "no stream stores its subject, or JetStream has no leader for it"), False
    answer = orjson.loads(data)
    error = answer.get("error")
    if error is None:
        return None, bool(answer.get("duplicate"))
    code = error.get("err_code")
    reason = f"the stream says: {error.get('description')} ({code})"
    return Rejection("refused" if code == _TOO_LARGE else "failed", reason), False
