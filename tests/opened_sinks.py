"""Sinks opened without an engine, with what they tell their context."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamflow.clock import SystemClock
from streamflow.handlers.context import Context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.clock import Clock
    from streamflow.sdk import SinkDeclaration


@dataclass(slots=True)
class WallClock:
    """A wall clock that stands where it is put."""

    now_s: float = 1_795_600_000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s


@dataclass(slots=True, eq=False)
class Opened:
    writer: Any
    suppressed: list[int] = field(default_factory=list)


@asynccontextmanager
async def opened(
    declaration: SinkDeclaration, *, pipeline: str = "orders", clock: Clock | None = None
) -> AsyncIterator[Opened]:
    async def no_aws(settings: object) -> Any:
        raise AssertionError("these sinks use no AWS")

    suppressed: list[int] = []
    context = Context(pipeline=pipeline, clock=clock or SystemClock(), aws=no_aws, suppressed=suppressed.append)
    async with declaration.open(context) as writer:
        yield Opened(writer, suppressed)
