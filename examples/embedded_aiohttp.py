"""An aiohttp service that follows the orders table and answers from what it has seen.

Run `python examples/embedded_aiohttp.py`, with AWS settings from the environment, and ask for /totals. Ctrl-C and SIGTERM
are aiohttp's business: it leaves the `async with`, which finishes the batches in flight and stores the checkpoint.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from aiohttp import web

import streamflow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOTALS = web.AppKey("TOTALS", Counter[str])


async def follow_orders(service: web.Application) -> AsyncIterator[None]:
    totals = service[TOTALS]

    async def add(batch: streamflow.Batch) -> None:
        totals.update(record.event_name for record in batch)

    orders = streamflow.Pipeline(
        name="totals",
        source=streamflow.DynamoDBStream(table="orders"),
        handler=add,
        starting_position="TRIM_HORIZON",
    )
    # The totals live in memory and start anew with each process, and so do their checkpoints.
    async with streamflow.running(streamflow.App(pipelines=(orders,), store="memory:")) as worker:
        await worker.wait_started()
        yield  # noqa: ASYNC119 - aiohttp resumes it at cleanup


async def show_totals(request: web.Request) -> web.Response:
    return web.json_response(request.app[TOTALS])


def make_service() -> web.Application:
    service = web.Application()
    service[TOTALS] = Counter()
    service.cleanup_ctx.append(follow_orders)
    service.router.add_get("/totals", show_totals)
    return service


if __name__ == "__main__":
    web.run_app(make_service(), host="127.0.0.1", port=int(os.environ.get("PORT", "8080")))
