"""Random histories of one stream and its workers, each replayed by its seed: nothing lost, order kept, no checkpoint ahead."""

from __future__ import annotations

from random import Random

import anyio
import pytest

from streamflow.batches import Batch  # noqa: TC001 - handlers are inspected
from streamflow.errors import PartialFailure
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


class History:
    """Draws what happens next. Handlers fail, partly fail and dawdle; workers are stopped, killed and replaced."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.world = World(
            shards=self.random.choice([1, 2, 5]),
            options={
                "batch_size": self.random.choice([1, 3, 100]),
                "maximum_batching_window_s": self.random.choice([0, 0, 2]),
                "checkpoint_interval_s": self.random.choice([0, 1, 20]),
                "handler_timeout_s": self.random.choice([None, 2]),
                "parallelization_factor": self.random.choice([1, 1, 4]),
            },
            tables={"children_delay_s": self.random.choice([0, 0, 15]), "page_size": self.random.choice([2, 100])},
        )
        self.failure_rate = self.random.choice([0.0, 0.1, 0.4])

    async def handle(self, batch: Batch) -> None:
        dice = self.random.random()
        if dice < self.failure_rate / 3:
            raise RuntimeError("a handler may fail")
        if dice < self.failure_rate * 2 / 3 and len(batch) > 1:
            failed = self.random.randrange(1, len(batch))
            await self.world.accept(batch.select(batch.records[:failed]))
            raise PartialFailure([batch.records[failed].sequence_number])
        if dice < self.failure_rate:
            await anyio.sleep(self.random.uniform(0, 5))
        await self.world.accept(batch)

    async def happen(self) -> None:
        """A few things, with time between them."""
        controls, random = self.world.controls, self.random
        for _ in range(random.randrange(2, 10)):
            self.world.write(*random.choices([f"k{n}" for n in range(9)], k=random.randrange(0, 30)))
            match random.randrange(9):
                case 0:
                    controls.split("orders")
                case 1:
                    controls.rollover("orders")
                case 2:
                    controls.expire_iterators()
                case 3:
                    controls.throttle(times=random.randrange(1, 5))
                case 4:
                    controls.empty_pages(times=random.randrange(1, 20))
                case 5:
                    controls.lose_response("GetRecords", times=random.randrange(1, 4))
                case 6:
                    self.world.store.lose_answers = random.randrange(0, 3)
                case 7:
                    self.world.store.lose_requests = random.randrange(0, 3)
                case _:
                    pass
            await anyio.sleep(random.choice([0.0, 0.1, 1.0, 7.0]))

    async def kill(self, worker_id: str) -> None:
        """A worker lives for a while, and then nothing of it reaches anything any more."""
        async with anyio.create_task_group() as tasks:
            worker = await self.world.worker(self.handle, worker_id=worker_id)
            tasks.start_soon(worker.run)
            await anyio.sleep(0.001)  # a store that is down at the very start is another matter
            await self.happen()
            self.world.store.down = True
            tasks.cancel_scope.cancel()
        self.world.store.down = False
        self.world.store.lose_answers = self.world.store.lose_requests = 0


@pytest.mark.parametrize("seed", range(40))
async def test_random_history(seed: int) -> None:
    history = History(seed)
    world = history.world
    for life in range(history.random.randrange(1, 4)):
        await history.kill(f"w{life % 2}")
    history.failure_rate = 0.0
    async with world.working(world.accept, worker_id="last"):
        await history.happen()
        world.store.lose_answers = world.store.lose_requests = 0
        world.controls.clear_faults()
        await world.until(world.everything_delivered, within_s=600)
    world.check_order()
    accepted = len(world.deliveries)
    async with world.working(world.accept, worker_id="after"):
        await anyio.sleep(60)
    assert len(world.deliveries) == accepted, "a clean stop repeats nothing"
