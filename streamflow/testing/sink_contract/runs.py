"""Runs of a pipeline that ends in the sink under test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from streamflow import events
from streamflow.launch import running
from streamflow.pipeline import App, AwsOptions, Pipeline
from streamflow.testing.sink_contract.hooks import SinkHooks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streamflow.dead_letters import DiscardedBatch
    from streamflow.events import Event
    from streamflow.launch import Running
    from streamflow.records import Record
    from streamflow.testing.sink_contract.changes import Changes

FACT_S_MAX = 40.0
DRAIN_S = 10.0


class Letters:
    """A destination that keeps what it is sent."""

    name = "letters"

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def send(self, discarded: DiscardedBatch) -> None:
        self.records += discarded.batch.records


class Run:
    """One run of a pipeline, and what it told so far."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.letters = Letters()
        self.worker: Running

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def delivered(self) -> int:
        return sum(event.delivered for event in self.of(events.BatchDelivered))

    async def until(self, fact: Callable[[], object]) -> None:
        with anyio.fail_after(FACT_S_MAX):
            while not fact():  # noqa: ASYNC110 - observers are told on this loop, and cheap to ask
                await anyio.sleep(0.01)

    async def ended(self) -> None:
        with anyio.fail_after(FACT_S_MAX):
            await self.worker.wait()


class PipelineHooks(SinkHooks):
    @asynccontextmanager
    async def running(self, changes: Changes, *, store: str = "memory:", **options: Any) -> AsyncIterator[Run]:
        """A pipeline from the changes to the sink, drained at the end of the block."""
        run = Run()
        pipeline = Pipeline(
            name=changes.pipeline,
            source=changes.source(),
            handler=self._sink,
            **{
                "starting_position": "TRIM_HORIZON",
                "poll_interval_s": 0.02,
                "on_failure": (run.letters,),
                **options,
            },
        )
        app = App(pipelines=(pipeline,), store=store, aws=AwsOptions(**dict(self._aws)), drain_timeout_s=DRAIN_S)
        async with running(app, observers=(run.events.append,)) as run.worker:
            await run.worker.wait_started()
            yield run
