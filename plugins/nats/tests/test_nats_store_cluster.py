"""The NATS store with a replica on each of three servers: the contract, and the death of any of them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio import to_thread

from nats_cluster import nats_cluster, url_of
from nats_stores import new_bucket, stored, until_it_works
from streamflow.errors import StoreError
from streamflow.testing.store_contract import DeadLetterStoreContract, LeaseStoreContract
from streamflow.testing.store_contract.leases import LEASE, STREAM_ARN
from streamflow.testing.store_contract.letters import PARKED, letter, without_ids
from streamflow_nats.store import open_nats_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from servers.nats import NatsServer
    from streamflow.dead_letters import DeadLetter
    from streamflow.leases import Lease
    from streamflow_nats.store import NatsStore

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[NatsServer]]:
    with nats_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@pytest.fixture
def url(cluster: Sequence[NatsServer]) -> str:
    return url_of(cluster, new_bucket())


@pytest.fixture
async def store(url: str) -> AsyncIterator[NatsStore]:
    async with AsyncExitStack() as stack:
        # The servers may be without a leader yet.
        yield await until_it_works(lambda: stack.enter_async_context(open_nats_store(url)))


@pytest.fixture
async def rival(url: str) -> AsyncIterator[NatsStore]:
    async with AsyncExitStack() as stack:
        yield await until_it_works(lambda: stack.enter_async_context(open_nats_store(url)))


class TestLeases(LeaseStoreContract):
    pass


class TestLetters(DeadLetterStoreContract):
    pass


async def moved(store: NatsStore, owner: str) -> Lease:
    """The lease with another owner, as the engine does it: what is unknown is read back."""
    current = await store.get(LEASE.key)
    assert current is not None
    if current.owner == owner:
        return current
    taken = await store.update(replace(current, owner=owner), expected_version=current.version)
    if taken is None:
        raise StoreError("what was unknown has arrived since")
    return taken


async def outlived(store: NatsStore, rival: NatsStore, last: Lease, letters: Sequence[DeadLetter]) -> Lease:
    """What was acknowledged is there, and more can be: the lease with its new owner."""
    assert await until_it_works(lambda: rival.get(last.key)) == last
    taken: Lease = await until_it_works(lambda: moved(store, f"worker-{len(letters)}"))
    await until_it_works(lambda: store.park(letters, opening=True))
    return taken


@pytest.mark.fault("F51")
@pytest.mark.anyio
@pytest.mark.timeout(150)  # three elections, on a machine that has other work
async def test_the_death_of_any_server_takes_nothing_back(
    cluster: Sequence[NatsServer], store: NatsStore, rival: NatsStore
) -> None:
    last = await stored(store)
    letters = [letter(number) for number in range(len(cluster))]
    for number, server in enumerate(cluster, start=1):
        server.kill()
        try:
            with anyio.fail_after(40):
                last = await outlived(store, rival, last, letters[:number])
        finally:
            await to_thread.run_sync(server.start)
    assert await until_it_works(lambda: rival.list("orders", STREAM_ARN)) == [last]
    assert without_ids(await until_it_works(lambda: rival.letters(PARKED))) == letters
