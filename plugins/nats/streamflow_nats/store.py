"""Everything durable of a worker in two buckets of NATS JetStream, for any number of workers on any number of hosts.

What was acknowledged survives a crash of the server. Whether it survives that of its machine is up to replicas, and to how
often the server writes its files to the disk.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from streamflow_nats.store_calls import open_calls
from streamflow_nats.store_configuration import open_bucket
from streamflow_nats.store_leases import NatsLeases
from streamflow_nats.store_letters import NatsLetters
from streamflow_nats.store_url import parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow_nats.store_buckets import Bucket

LEASE_TIMEOUT_S = 4.0
"""How long an answer about leases may take: well below any lease's duration."""
LETTER_TIMEOUT_S = 10.0
"""The same for letters, which may be many and large."""


class NatsStore(NatsLeases, NatsLetters):
    """Use `open_nats_store`. What a caller asked for who is cancelled while it waits may have been done all the same."""

    def __init__(self, leases: Bucket, letters: Bucket) -> None:
        NatsLeases.__init__(self, leases)
        NatsLetters.__init__(self, letters)


@asynccontextmanager
async def open_nats_store(url: str) -> AsyncIterator[NatsStore]:
    """Connect, and make the buckets if they are not there.

    Leases have a connection of their own, so that letters, however many, keep no lease waiting.

    Raises:
        ConfigError: the URL cannot be read, or a bucket of that name is none for us.
        StoreError: the server cannot be used, with the reason and the next step.
    """
    place = parse_url(url)
    async with (
        open_calls(place, timeout_s=LEASE_TIMEOUT_S) as leases,
        open_calls(place, timeout_s=LETTER_TIMEOUT_S) as letters,
    ):
        yield NatsStore(
            await open_bucket(leases, place.bucket, place.replicas),
            await open_bucket(letters, f"{place.bucket}_letters", place.replicas),
        )
