"""`route`: each record to the first sink whose condition it meets."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import anyio
from pydantic import Field, field_validator, model_validator

from streamflow.errors import PatternError, leading_error
from streamflow.records import GLIMPSED, glimpse_decoder, glimpses
from streamflow.rules.filters import compile_filters
from streamflow.rules.patterns.compiling import compile_pattern
from streamflow.sdk.combined import Outcome, combined, outcome_of, raise_for
from streamflow.sdk.declarations import SinkPlugin
from streamflow.sdk.nested import NestedSink, without_checkpoint
from streamflow.sdk.permissions import nothing_at_aws
from streamflow.sdk.settings import Settings
from streamflow.sinks.console import console
from streamflow.sinks.jsonl import jsonl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow.batches import Batch
    from streamflow.protocols import Writer
    from streamflow.records import Glimpse, Record
    from streamflow.rules.filters import Filters
    from streamflow.sdk.context import SinkContext

_REMOVED = '{"eventName": ["REMOVE"]}'


class Route(Settings):
    """One way out: a condition, and the sink or the reason to leave a record out."""

    when: Annotated[str | None, Field(examples=[_REMOVED])] = None
    """A filter pattern as JSON text; a record that matches goes this way. Without one, all that are left do."""
    sink: NestedSink | None = None
    """Where they go. Either this or `drop`."""
    drop: Annotated[str | None, Field(min_length=1, max_length=64, examples=["not ours"])] = None
    """They go nowhere: the reason under which they are counted."""

    @field_validator("when")
    @classmethod
    def _pattern_is_right(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                compile_pattern(value, extensions=True)
            except PatternError as error:
                raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _one_end(self) -> Route:
        if (self.sink is None) == (self.drop is None):
            raise ValueError("give either sink or drop")
        return self


class RouteSettings(Settings):
    """Ways out in the order in which they are tried."""

    # Not `min_length`: pydantic counts only routes that are right, and would complain of those that are wrong twice.
    routes: Annotated[tuple[Route, ...], Field(max_length=32, json_schema_extra={"minItems": 1})]
    """Each record goes the first way whose condition it meets; the last one has none, so that every record goes one."""

    @field_validator("routes")
    @classmethod
    def _last_one_takes_all(cls, value: tuple[Route, ...]) -> tuple[Route, ...]:
        if not value:
            raise ValueError("give at least one route")
        if any(route.when is None for route in value[:-1]):
            raise ValueError("a route without when takes all that are left: it must be the last one")
        if value[-1].when is not None:
            raise ValueError('the last route must have no when: give it a sink, or drop = "…" to leave the rest out')
        without_checkpoint([route.sink for route in value])
        return value

    @property
    def sinks(self) -> list[object]:
        return [route.sink for route in self.routes if route.sink is not None]


_decode = glimpse_decoder(GLIMPSED)


@asynccontextmanager
async def _open(settings: RouteSettings, context: SinkContext) -> AsyncIterator[Writer]:
    async with AsyncExitStack() as stack:
        ways = [
            _Way(
                None if route.when is None else compile_filters((route.when,), extensions=True),
                None if route.sink is None else await stack.enter_async_context(context.open_sink(route.sink)),
                route.drop or "",
            )
            for route in settings.routes
        ]
        yield _Routes(ways)


class _Way:
    def __init__(self, accepts: Filters | None, writer: Writer | None, reason: str) -> None:
        self.accepts = accepts
        self.writer = writer
        self.reason = reason


class _Routes:
    def __init__(self, ways: Sequence[_Way]) -> None:
        self._ways = ways

    async def write(self, batch: Batch) -> None:
        """The parts are written side by side, each in order. What one sink does not take is no concern of the others."""
        parts: list[list[Record]] = [[] for _ in self._ways]
        for record, glimpse in zip(batch, glimpses(batch.records, _decode), strict=True):
            parts[self._way_of(record, glimpse)].append(record)
        outcomes: list[Outcome] = []

        async def write_part(writer: Writer, records: Sequence[Record]) -> None:
            outcomes.append(await outcome_of(writer, batch.select(records)))

        try:
            async with anyio.create_task_group() as tasks:
                for way, records in zip(self._ways, parts, strict=True):
                    if way.writer is None:
                        batch.ledger.drop(records, way.reason)
                    elif records:
                        tasks.start_soon(write_part, way.writer, records, name=f"{batch.pipeline}/route")
        except BaseExceptionGroup as group:
            raise leading_error(group) from None
        raise_for(outcomes, batch)

    def _way_of(self, record: Record, glimpse: Glimpse | None) -> int:
        """A record that cannot be read matches every condition, as it passes every filter: it goes the first way."""
        for number, way in enumerate(self._ways):
            if way.accepts is None or way.accepts.passes(record, glimpse):
                return number
        return len(self._ways) - 1


route = SinkPlugin(
    name="route",
    api_version="1.0",
    summary="Parts the records among several sinks by filter patterns.",
    settings=RouteSettings,
    examples={
        "by event": {
            "routes": (
                {"when": _REMOVED, "sink": jsonl(path="removed.jsonl")},
                {"sink": console()},
            )
        }
    },
    open=_open,
    capabilities=lambda settings: combined(settings.sinks or [None]),
    permissions=nothing_at_aws,
)
