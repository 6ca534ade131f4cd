"""One connection to NATS, and who waits on it for answers.

A line lives as long as its connection: whoever waits on it when it ends hears of it, and nothing is sent later.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import anyio
import nats.errors

from streamflow.errors import StoreError
from streamflow_nats.connecting import Unreachable, close_client, open_client, trusting
from streamflow_nats.store_errors import forbidden, obstacle, violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from streamflow_nats.store_url import StoreUrl

_log = logging.getLogger("streamflow_nats")

SERVER_VERSION = (2, 12)
_PAYLOAD_MIN = 256 << 10
# What the client raises before it has sent anything.
_NOT_SENT = (
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionDrainingError,
    nats.errors.MaxPayloadError,
    nats.errors.OutboundBufferLimitError,
)


class Put(NamedTuple):
    """A message to be published."""

    subject: str
    payload: bytes = b""
    headers: dict[str, str] | None = None


Request: TypeAlias = "Sequence[Put]"
"""Messages that have one answer: that to the last of them, without which the others mean nothing."""


class Question:
    """Requests that are sent together, and what comes of them.

    `sent` is how many may have reached the server, `left` how many have no answer yet. `refused` is a subject to which the
    user may not publish. `done` is set when there is nothing to wait for any more.
    """

    def __init__(self, requests: Sequence[Request], *, is_read_to_end: bool = False) -> None:
        self.requests = requests
        self.answers: list[list[Msg]] = [[] for _ in requests]
        self.sent = 0
        self.left = len(requests)
        self.done = anyio.Event()
        self.refused: str | None = None
        self._subjects = frozenset(put.subject.lower() for request in requests for put in request)
        self._is_read_to_end = is_read_to_end

    def take(self, place: int, message: Msg) -> bool:
        """Whether that was the last message of this answer."""
        self.answers[place].append(message)
        if self._is_read_to_end and not (message.headers and "Status" in message.headers):
            return False
        self.left -= 1
        if not self.left:
            self.done.set()
        return True

    def refuse(self, subject: str) -> None:
        """The user may not publish to `subject`, in lower case."""
        if subject in self._subjects:
            self.refused = subject
            self.done.set()


class _Waiting:
    """Questions by the numbers of their requests."""

    def __init__(self) -> None:
        self.is_over = False
        self.forbidden_inbox = False
        self._last = 0
        self._questions: dict[int, tuple[Question, int]] = {}

    def enter(self, question: Question) -> range:
        numbers = range(self._last + 1, self._last + 1 + len(question.requests))
        self._last = numbers[-1]
        self._questions.update({number: (question, place) for place, number in enumerate(numbers)})
        return numbers

    def leave(self, numbers: range) -> None:
        for number in numbers:
            self._questions.pop(number, None)

    async def take(self, message: Msg) -> None:
        number = int(message.subject.rpartition(".")[2])
        question, place = self._questions.get(number, (None, 0))
        if question is not None and question.take(place, message):
            del self._questions[number]

    async def hear(self, error: Exception) -> None:
        """Of what the client notices; only a missing permission is for somebody."""
        _log.debug("%s: %s", type(error).__name__, error)
        what, subject = violation(error) or ("", "")
        if what == "subscription":
            # Mostly before the line is in use, but the client tells in a task of its own.
            self.forbidden_inbox = True
            for question, _ in list(self._questions.values()):
                question.done.set()
        elif what:
            for question, _ in list(self._questions.values()):
                question.refuse(subject)

    async def end(self) -> None:
        self.is_over = True
        for question, _ in list(self._questions.values()):
            question.done.set()


class Line(NamedTuple):
    """Use `open_line`."""

    client: Client
    waiting: _Waiting
    inbox: str

    @property
    def is_lost(self) -> bool:
        return self.waiting.is_over or not self.client.is_connected

    def new_name(self) -> str:
        """A name that nobody else uses."""
        name: str = self.client.new_inbox().rpartition(".")[2]
        return name

    async def ask(self, question: Question) -> None:
        """Send its requests in order, and wait until it is done. Raises `Unreachable`: not all could be sent."""
        numbers = self.waiting.enter(question)
        try:
            for number, (*first, last) in zip(numbers, question.requests, strict=True):
                for put in first:
                    await self.client.publish(put.subject, put.payload, headers=put.headers)
                question.sent += 1
                try:
                    reply = f"{self.inbox}.{number}"
                    await self.client.publish(last.subject, last.payload, reply=reply, headers=last.headers)
                except _NOT_SENT:
                    question.sent -= 1
                    raise
            await question.done.wait()
        finally:
            self.waiting.leave(numbers)

    async def aclose(self) -> None:
        await self.waiting.end()
        await close_client(self.client)


async def open_line(place: StoreUrl, timeout_s: float) -> Line:
    """Raises `StoreError`: no server lets us in, or it is one that will not do."""
    waiting = _Waiting()
    try:
        client = await open_client(
            [f"nats://{server}" for server in place.servers],
            timeout_s=timeout_s,
            told=waiting.hear,
            lost=waiting.end,
            tls=trusting(place.ca_file, place.certificate_file, place.key_file) if place.tls else None,
            **_login(place),
        )
    except ImportError:
        why = "creds takes the package nkeys (pip install 'nats-py[nkeys]')"
        raise StoreError(f"lease store {place.shown}: {why}") from None
    except Unreachable as error:
        raise obstacle(error, place.shown, timeout_s=timeout_s) from None
    line = Line(client, waiting, client.new_inbox())
    try:
        with anyio.fail_after(timeout_s):
            await client.subscribe(f"{line.inbox}.*", cb=waiting.take)
            await client.flush(timeout=max(1, int(timeout_s)))  # what forbids the subscription comes before its answer
        _check(line, place)
    except BaseException as error:
        await line.aclose()
        if isinstance(error, Unreachable):
            raise obstacle(error, place.shown, timeout_s=timeout_s) from None
        raise
    return line


def _login(place: StoreUrl) -> dict[str, Any]:
    told = {
        "user": place.username,
        "password": place.password,
        "token": place.token,
        "user_credentials": place.credentials_file,
    }
    return {name: value for name, value in told.items() if value is not None}


def _check(line: Line, place: StoreUrl) -> None:
    if line.waiting.forbidden_inbox:
        raise StoreError(forbidden(place.shown, "subscribing", "_INBOX.>"))
    version = line.client.connected_server_version
    if (version.major, version.minor) < SERVER_VERSION:
        raise StoreError(
            f"lease store {place.shown}: the server is NATS {version.major}.{version.minor}, without atomic batches (take "
            f"{'.'.join(map(str, SERVER_VERSION))} or newer)"
        )
    if line.client.max_payload < _PAYLOAD_MIN:
        raise StoreError(
            f"lease store {place.shown}: the server takes messages of {line.client.max_payload} bytes (set its max_payload to "
            f"{_PAYLOAD_MIN} or more)"
        )
