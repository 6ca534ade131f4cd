"""A client of one service that outlives its credentials, and says what went wrong as the contract of sinks has it."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from streamflow.sdk import ConfigError, SinkBusyError, StreamflowError
from streamflow_aws.errors import AwsCallError, config_error, translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from streamflow.sdk import AwsSettings, SinkContext

RENEWAL_INTERVAL_S = 30.0
"""Between two looks for other credentials. Longer than a call may take: 5 s to connect, 20 s to be answered.

Where an answer may take longer, that comes on top.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """What a sink writes to, for people: its name, the permission that opening takes, and the command that makes it."""

    name: str
    permission: str
    creation: str


class Client:
    """Any number of calls may be under way at the same time. Open it with `open_client`."""

    def __init__(self, way: _Way, opened: _Opened) -> None:
        self._way = way
        self._current = opened
        self._replaced = AsyncExitStack()  # of the client before: calls may still be under way on it
        self._lock = anyio.Lock()
        self._renewable_at_s = float("-inf")

    async def call(self, operation: str, /, **arguments: Any) -> Mapping[str, Any]:
        """What botocore makes of the answer to `operation`, named as the methods of its clients are.

        A client keeps the credentials that it was made with. Where the service calls them expired, one that has those of
        now takes its place, and the call is made once more.

        Raises:
            SinkBusyError: the service asks for a pause.
            AwsCallError: anything else; the text holds nothing that was sent.
        """
        used = self._current
        try:
            return await self._call(used, operation, arguments)
        except AwsCallError as error:
            if error.kind != "expired" or not await self._renewed(used):
                raise
        return await self._call(self._current, operation, arguments)

    async def look(self, operation: str, target: Target, /, **arguments: Any) -> Mapping[str, Any]:
        """The answer that describes `target`, while the sink is being opened; empty where the service asks for a pause.

        Raises:
            ConfigError: what is wrong, and what to do about it.
        """
        try:
            return await self.call(operation, **arguments)
        except SinkBusyError:
            return {}  # somebody is there: writing will tell the rest
        except AwsCallError as error:
            raise config_error(
                error, target=target.name, permission=target.permission, creation=target.creation
            ) from None

    async def _call(self, used: _Opened, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            answer: Mapping[str, Any] = await getattr(used.client, operation)(**arguments)
        except Exception as error:  # noqa: BLE001 - botocore, aiohttp, the socket and decoders raise what they like
            raise translated(error, operation, busy_codes=self._way.busy_codes) from None
        return answer

    async def _renewed(self, refused: _Opened) -> bool:
        """Whether another client than `refused` is there now."""
        async with self._lock:
            if self._current is not refused:
                return True
            now_s = self._way.context.clock.monotonic()
            if now_s < self._renewable_at_s:
                return False
            self._renewable_at_s = now_s + RENEWAL_INTERVAL_S + (self._way.read_timeout_s or 0.0)
            opened = await self._way.open(renewed=True)
            with anyio.CancelScope(shield=True):
                await self._replaced.aclose()
            self._replaced, self._current = refused.closing, opened
            return True

    async def aclose(self) -> None:
        await self._replaced.aclose()
        await self._current.closing.aclose()


@dataclass(frozen=True, slots=True)
class _Opened:
    client: Any
    closing: AsyncExitStack


@dataclass(frozen=True, slots=True)
class _Way:
    """How to get to the service."""

    context: SinkContext
    service: str
    aws: AwsSettings | None
    busy_codes: frozenset[str]
    read_timeout_s: float | None

    async def open(self, *, renewed: bool = False) -> _Opened:
        closing = AsyncExitStack()
        opening = self.context.aws_client(
            self.service, aws=self.aws, read_timeout_s=self.read_timeout_s, renewed=renewed
        )
        return _Opened(await closing.enter_async_context(opening), closing)


@asynccontextmanager
async def open_client(
    context: SinkContext,
    service: str,
    *,
    aws: AwsSettings | None,
    busy_codes: frozenset[str] = frozenset(),
    read_timeout_s: float | None = None,
) -> AsyncIterator[Client]:
    """A client for the length of the block; `busy_codes` are throttles of this service alone.

    `read_timeout_s` is how long an answer may take, None for the 20 s that are usual.

    Raises:
        ConfigError: there are no credentials, no region, or no such endpoint.
    """
    way = _Way(context, service, aws, busy_codes, read_timeout_s)
    try:
        client = Client(way, await way.open())
    except ConfigError:
        raise
    except StreamflowError as error:
        raise ConfigError(f"aws: there is no way to {service}: {error}") from error
    try:
        yield client
    finally:
        await client.aclose()
