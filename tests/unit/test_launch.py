"""What is refused before a worker runs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from streamflow import launch
from streamflow.errors import ConfigError
from streamflow.leases import LeaseLayout
from streamflow.pipeline import App, Pipeline
from streamflow.testing.counted_store import CountedMemoryStore
from world import World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


@pytest.mark.fault("F3")
@pytest.mark.parametrize(("layout", "refused"), [(LeaseLayout.KCL_SHARED, True), (LeaseLayout.KCL, False)])
async def test_workers_beside_the_kcl_must_have_its_lease_duration(
    layout: LeaseLayout, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def open_store(_: str) -> AsyncIterator[CountedMemoryStore]:
        yield CountedMemoryStore(layout)

    monkeypatch.setattr(launch, "open_store", open_store)
    world = World()
    pipeline = Pipeline(name="p", source=world.source(), handler=world.accept, starting_position="TRIM_HORIZON")
    app = App(pipelines=(pipeline,), lease_duration_s=20)
    if not refused:
        async with launch.running(app) as worker:
            await worker.wait_started()
        return
    with pytest.raises(ConfigError, match=r"lease_duration_s is 20, .* wait 10 s"):
        async with launch.running(app):
            pass
