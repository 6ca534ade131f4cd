"""Everything durable of a worker in DynamoDB, its leases in the lease table of the Kinesis Client Library 2.x.

A fleet of the KCL moves over without losing its place, and back. `{pipeline}` in the table's name stands for the name of a
pipeline: a table of the KCL is of one application, which reads one stream.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from streamflow.clock import SystemClock
from streamflow.errors import SourceError, StoreError
from streamflow.sdk.declarations import StorePlugin
from streamflow.stores.dynamodb.calls import CALL_TIMEOUT_S, DynamoDBCalls
from streamflow.stores.dynamodb.companion import Companion
from streamflow.stores.dynamodb.leases import DynamoDBLeases
from streamflow.stores.dynamodb.letters import DynamoDBLetters
from streamflow.stores.dynamodb.tables import COMPANION_TABLE, find_table
from streamflow.stores.dynamodb.url import PLACEHOLDER, parse_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow.clock import Clock
    from streamflow.leases import Lease
    from streamflow.stores.dynamodb.url import DynamoDBUrl


class DynamoDBStore(DynamoDBLeases, DynamoDBLetters):
    """Use `open_dynamodb_store`."""

    def __init__(self, calls: DynamoDBCalls, url: DynamoDBUrl, clock: Clock) -> None:
        companion = Companion(calls, url.companion)
        DynamoDBLeases.__init__(self, calls, companion, url, clock)
        DynamoDBLetters.__init__(self, companion)


@asynccontextmanager
async def open_dynamodb_store(url: str, *, clock: Clock | None = None) -> AsyncIterator[DynamoDBStore]:
    """The store of the URL for the length of the block. Makes the tables that are not there, unless it only looks.

    Raises:
        ConfigError: the URL, the region or the profile is wrong.
        StoreError: AWS cannot be used, a table is somebody else's, or a leader of the KCL 3.x has it.
    """
    # The SDK, which a plugin that is only listed or described does not need.
    from streamflow.aws.session import open_aws

    parsed = parse_url(url)
    async with AsyncExitStack() as stack:
        try:
            aws = await stack.enter_async_context(open_aws(parsed.aws))
            opening = aws.client("dynamodb", attempts_max=1, read_timeout_s=CALL_TIMEOUT_S)
            client = await stack.enter_async_context(opening)
        except SourceError as error:
            raise StoreError(f"store {url.partition('?')[0]}: {error}") from error
        optional = frozenset({parsed.companion}) if parsed.read_only else frozenset[str]()
        calls = DynamoDBCalls(aws, client, read_only=parsed.read_only, optional=optional)
        store = DynamoDBStore(calls, parsed, clock or SystemClock())
        if PLACEHOLDER not in parsed.table:
            await store.find(parsed.table)
        await find_table(calls, parsed.companion, COMPANION_TABLE, make=not parsed.read_only)
        yield store


async def read_kcl_table(url: str, *, pipeline: str, stream_arn: str) -> Sequence[Lease]:
    """Every lease of a table of the KCL, read once and without a trace: what an import into another store starts from.

    The rows have the owners and counters of the fleet.

    Raises:
        ConfigError, StoreError: as `open_dynamodb_store`; there is no such table.
    """
    base, _, query = url.partition("?")
    kept = [pair for pair in query.split("&") if pair and not pair.startswith("mode=")]
    async with open_dynamodb_store(f"{base}?{'&'.join([*kept, 'mode=shadow'])}") as store:
        return await store.list(pipeline, stream_arn)


dynamodb = StorePlugin(
    name="dynamodb",
    api_version="1.0",
    summary="A DynamoDB table in the layout of the Kinesis Client Library: goes on where a Java fleet stopped.",
    url_example="dynamodb://orders-{pipeline}?region=eu-west-1",
    open=open_dynamodb_store,
)
