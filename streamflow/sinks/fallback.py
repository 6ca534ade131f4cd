"""`fallback`: what the first sink cannot take goes to the next one, at once."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, field_validator

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
    from streamflow.failures import RecordFailure
    from streamflow.protocols import Writer
    from streamflow.sdk.context import SinkContext


class FallbackSettings(Settings):
    """Sinks in the order in which they are tried."""

    sinks: Annotated[tuple[NestedSink, ...], Field(max_length=8, json_schema_extra={"minItems": 2})]
    """The sinks; each gets what the one before it did not take. A sink that is busy is waited for, not passed over."""
    on: Literal["failed", "refused"] = "failed"
    """What goes on to the next sink: all that fails, or only records that the sink refuses and that no retry will help."""

    @field_validator("sinks")
    @classmethod
    def _no_checkpoint_inside(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        if len(value) < 2:
            raise ValueError("give at least two sinks")
        return without_checkpoint(value)


@asynccontextmanager
async def _open(settings: FallbackSettings, context: SinkContext) -> AsyncIterator[Writer]:
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(context.open_sink(sink)) for sink in settings.sinks]
        yield _Fallback(writers, settings.on)


class _Fallback:
    def __init__(self, writers: Sequence[Writer], on: Literal["failed", "refused"]) -> None:
        self._writers = writers
        self._on = on

    async def write(self, batch: Batch) -> None:
        """Raises what the last sink said, and of those before it what does not go on.

        Each sink keeps its own order: a later change of an item may reach the first one before an earlier change has
        reached the next.
        """
        outcomes: list[Outcome] = []
        left = batch
        for writer in self._writers[:-1]:
            outcome = await outcome_of(writer, left)
            going_on = {id(failure.record) for failure in outcome.failures if self._goes_on(failure)}
            staying = tuple(failure for failure in outcome.failures if id(failure.record) not in going_on)
            outcomes.append(replace(outcome, failures=staying))
            if not going_on:
                break
            left = left.select([record for record in left if id(record) in going_on])
        else:
            outcomes.append(await outcome_of(self._writers[-1], left))
        raise_for(outcomes, batch)

    def _goes_on(self, failure: RecordFailure) -> bool:
        return failure.kind == "refused" or (failure.kind == "failed" and self._on == "failed")


fallback = SinkPlugin(
    name="fallback",
    api_version="1.0",
    summary="Writes to the first sink, and what that does not take to the next one.",
    settings=FallbackSettings,
    examples={"failed": {"sinks": (console(), jsonl(path="not-printed.jsonl"))}},
    open=_open,
    capabilities=lambda settings: combined(settings.sinks),
    permissions=nothing_at_aws,
)
