"""Requests to NATS and their answers, over one connection, which is made anew when it is lost.

Nothing is sent twice. A request waits for its answer for `timeout_s`: past that the connection is closed, and the next
request makes another one. Those that waited for their turn meanwhile have failed too, so that none waits for long.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from streamflow.errors import StoreError, UnknownOutcomeError
from streamflow_nats.connecting import Unreachable
from streamflow_nats.store_errors import forbidden
from streamflow_nats.store_line import Question, open_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.msg import Msg

    from streamflow_nats.store_line import Line, Put, Request
    from streamflow_nats.store_url import StoreUrl

IN_FLIGHT_MAX = 256
"""Of questions at the same time, and of requests in one."""


class Calls:
    """Use `open_calls`. `shown` is the store, for people."""

    def __init__(self, place: StoreUrl, timeout_s: float, line: Line) -> None:
        self.shown = place.shown
        self._place = place
        self._timeout_s = timeout_s
        self._line = line
        self._connecting = anyio.Lock()
        self._turns = anyio.Semaphore(IN_FLIGHT_MAX)
        self._setbacks = 0
        self._setback = ""

    def new_name(self) -> str:
        """A name that nobody else uses."""
        return self._line.new_name()

    async def ask(self, *requests: Request, writes: bool) -> list[Msg]:
        """Send them in order, and wait for the answer to each; `IN_FLIGHT_MAX` at most.

        Raises:
            StoreError: nothing happened.
            UnknownOutcomeError: any of them may have happened; only if they write.
        """
        question = Question(requests)
        await self._ask(question, writes=writes)
        return [messages[0] for messages in question.answers]

    async def read_page(self, put: Put) -> list[Msg]:
        """All messages of an answer that has many; the last one is the word that it is the last. Raises `StoreError`."""
        question = Question([[put]], is_read_to_end=True)
        await self._ask(question, writes=False)
        return question.answers[0]

    async def aclose(self) -> None:
        await self._line.aclose()

    async def _ask(self, question: Question, *, writes: bool) -> None:
        setbacks = self._setbacks
        async with self._turns:
            line = await self._open_line(setbacks)
            why = "the connection was lost before the answer"
            with anyio.move_on_after(self._timeout_s) as patience:
                try:
                    await line.ask(question)
                except Unreachable as error:
                    why = f"the connection was lost ({type(error).__name__})"
            if patience.cancelled_caught:
                why = f"no answer within {self._timeout_s:g} s"
                self._suffer(f"lease store {self.shown}: {why} (nothing was sent: try again)")
                await line.aclose()
        if question.left:
            raise self._failure(line, question, why, writes=writes)

    def _failure(self, line: Line, question: Question, why: str, *, writes: bool) -> StoreError:
        # What is refused did not happen; of several requests another one may have.
        unknown = writes and question.sent > (question.refused is not None)
        kind = UnknownOutcomeError if unknown else StoreError
        if question.refused is not None:
            return kind(forbidden(self.shown, "publishing", question.refused))
        if line.waiting.forbidden_inbox:
            return kind(forbidden(self.shown, "subscribing", "_INBOX.>"))
        outcome = "it may have happened: read it back" if unknown else "nothing happened: try again"
        return kind(f"lease store {self.shown}: {why} ({outcome}; if it goes on, look at the server)")

    async def _open_line(self, setbacks: int) -> Line:
        """The connection; another one where it is lost, unless somebody had a setback since there were `setbacks`."""
        if not self._line.is_lost:
            return self._line
        async with self._connecting:
            if self._line.is_lost:
                if self._setbacks != setbacks:
                    raise StoreError(self._setback)
                await self._line.aclose()
                try:
                    self._line = await open_line(self._place, self._timeout_s)
                except StoreError as error:
                    self._suffer(str(error))
                    raise
            return self._line

    def _suffer(self, setback: str) -> None:
        self._setbacks += 1
        self._setback = setback


@asynccontextmanager
async def open_calls(place: StoreUrl, *, timeout_s: float) -> AsyncIterator[Calls]:
    """Connect for the length of the block. Raises `StoreError` as `open_line`."""
    calls = Calls(place, timeout_s, await open_line(place, timeout_s))
    try:
        yield calls
    finally:
        await calls.aclose()
