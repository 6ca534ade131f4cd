"""A server to write to: the stand-in of the repository, or yours at $STREAMFLOW_TEST_OPENSEARCH_URL."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from opensearch_server import Open, Opened, Server
from servers.opensearch_fake import Fake, compare_sequences, open_fake
from streamflow.clock import SystemClock
from streamflow.handlers.context import Context
from streamflow.pipeline import AwsOptions
from streamflow_opensearch import opensearch
from streamflow_opensearch.documents import SCRIPT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.protocols import AwsClients
    from streamflow.sdk import AwsSettings


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def fake() -> Fake:
    """The stand-in that `fake_server` serves."""
    return Fake(scripts={SCRIPT: compare_sequences}, auto_create=False)


@pytest.fixture
async def fake_server(fake: Fake) -> AsyncIterator[Server]:
    async with open_fake(fake) as serving:
        server = Server(serving.url, serving)
        await server.create()
        yield server


@pytest.fixture
async def server(fake: Fake) -> AsyncIterator[Server]:
    """Yours, if the environment names one; else the stand-in."""
    async with AsyncExitStack() as stack:
        if yours := os.environ.get("STREAMFLOW_TEST_OPENSEARCH_URL"):
            server = Server(yours.rstrip("/"))
            stack.push_async_callback(server.remove)
        else:
            serving = await stack.enter_async_context(open_fake(fake))
            server = Server(serving.url, serving)
        await server.create()
        yield server


@pytest.fixture
def open_sink() -> Open:
    """Opens a sink of a server's index; `settings` are added, or replace that."""

    @asynccontextmanager
    async def opening(server: Server, **settings: Any) -> AsyncIterator[Opened]:
        suppressed: list[int] = []
        context = Context(pipeline="orders", clock=SystemClock(), aws=_aws, suppressed=suppressed.append)
        declared = opensearch(**{"urls": [server.url], "index": server.index, **settings})
        async with declared.open(context) as writer:
            yield Opened(writer, suppressed)

    return opening


async def _aws(settings: AwsSettings | None) -> AwsClients:
    from streamflow.aws.session import open_aws

    async with open_aws(AwsOptions(**dict(settings or {}))) as session:
        return session
