"""The admin server of a supervisor: the pages of all workers as one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric as Family

from streamflow.admin.server import open_admin
from streamflow.cli.supervision import standing
from streamflow.cli.supervision.exposition import LABEL, merged
from streamflow.observe import catalogue
from streamflow.observe.series import family_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from streamflow.cli.supervision.supervised import Supervised
    from streamflow.http_options import HttpOptions
    from streamflow.observe.catalogue import Metric
    from streamflow.observe.health import Verdict
    from streamflow.observe.progress import ProgressSnapshot

SCRAPE_S = 3.0
"""Time for a worker to answer, well below the 10 s that a scraper gives the page."""


@asynccontextmanager
async def open_pages(
    http: HttpOptions, workers: Sequence[Supervised], *, snapshot: Callable[[], ProgressSnapshot]
) -> AsyncIterator[str]:
    """Serve until the context ends; yields the base URL.

    Raises:
        ConfigError: the address cannot be bound.
    """
    registry = CollectorRegistry()
    registry.register(Collection(workers))
    async with open_admin(http, registry=registry, health=Health(workers), progress=Together(snapshot)) as url:
        yield url


class Collection:
    """A collector that asks all workers at the same time; a page is rendered in a thread, and asking is done in the loop."""

    def __init__(self, workers: Sequence[Supervised]) -> None:
        self._workers = workers

    def collect(self) -> Iterator[Family]:
        pages = anyio.from_thread.run(self._ask)
        up, restarts = _family(catalogue.WORKER_UP), _family(catalogue.WORKER_RESTARTS)
        for worker, page in pages:
            if not worker.over:
                up.add_sample(catalogue.WORKER_UP.name, {LABEL: worker.worker_id}, int(page is not None))
            restarts.add_sample(catalogue.WORKER_RESTARTS.name, {LABEL: worker.worker_id}, worker.restarts)
        answers = {worker.worker_id: page for worker, page in pages if page is not None}
        yield from merged([up, restarts], answers)

    async def _ask(self) -> list[tuple[Supervised, list[Any] | None]]:
        pages: dict[str, list[Any] | None] = {}

        async def ask(worker: Supervised) -> None:
            pages[worker.worker_id] = await worker.metrics(timeout_s=SCRAPE_S)

        async with anyio.create_task_group() as tasks:
            for worker in self._workers:
                tasks.start_soon(ask, worker)
        return [(worker, pages.get(worker.worker_id)) for worker in self._workers]


def _family(metric: Metric) -> Family:
    return Family(family_name(metric), metric.meaning, metric.kind)


class Health:
    """All workers judged as one."""

    def __init__(self, workers: Sequence[Supervised]) -> None:
        self._workers = workers

    def live(self) -> Verdict:
        return standing.live(self._standings())

    def ready(self) -> Verdict:
        return standing.ready(self._standings())

    def _standings(self) -> list[standing.Standing]:
        now = anyio.current_time()
        return [worker.standing(now) for worker in self._workers]


class Together:
    """The progress of all workers as one."""

    def __init__(self, snapshot: Callable[[], ProgressSnapshot]) -> None:
        self.snapshot = snapshot
