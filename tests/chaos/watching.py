"""Looks at the store's rows all the time, as an operator's tool would: through the store's own plugin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from chaos.plan import PIPELINE
from chaos.sightings import Sightings
from chaos.spans import Spans
from chaos.workers import life_number
from streamflow.clock import thread_monotonic
from streamflow.errors import StoreError
from streamflow.plugins import open_store

if TYPE_CHECKING:
    from chaos.workers import Workers


@dataclass(slots=True, kw_only=True, eq=False)
class Watch:
    """`unowned` is None until the first look. Failures of the store are counted; the next look is as good."""

    workers: Workers
    stream_arn: str
    sightings: Sightings = field(default_factory=Sightings)
    spans: Spans = field(init=False)
    unowned: int | None = None
    shards: int = 0
    failures: int = 0
    stall_s: float = 0.0
    """The longest time between two looks beyond what was meant: how busy the machine was."""

    def __post_init__(self) -> None:
        self.spans = self._new_spans()

    def gone_since_s(self, owner: str) -> float | None:
        number = life_number(owner)
        if number is None:
            raise ValueError(f"a lease belongs to {owner}, which is no worker of this run")
        return self.workers.lives[number].gone_since_s

    def begin(self) -> None:
        """Everything is owned: count from here on."""
        self.spans = self._new_spans()
        self.stall_s = 0.0

    def _new_spans(self) -> Spans:
        return Spans(gone_since_s=self.gone_since_s, calm_s=self.workers.calm_s)

    async def run(self) -> None:
        """Look until cancelled."""
        interval_s = self.workers.plan.look_interval_s
        looked_s = thread_monotonic()
        async with open_store(self.workers.store_url) as store:
            while True:
                try:
                    rows = await store.list(PIPELINE, self.stream_arn)
                except StoreError:
                    self.failures += 1
                else:
                    at_s = thread_monotonic()
                    self.sightings.look(rows, at_s)
                    self.shards = len(rows) - 1
                    self.unowned = self.spans.look(rows, at_s)
                    self.stall_s = max(self.stall_s, at_s - looked_s - interval_s)
                    looked_s = at_s
                await anyio.sleep(interval_s)

    async def wait_owned(self) -> None:
        """Wait until every shard has a living owner; whoever calls sets the limit."""
        while self.unowned != 0 or self.shards < 1:  # noqa: ASYNC110 - the store tells nobody
            await anyio.sleep(self.workers.plan.look_interval_s)
