"""Changes as single conditional writes: a stored item gives way to a newer version only, in whatever order they come."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from streamflow.sdk import Rejection, write_in_requests
from streamflow_aws.dynamodb_items import SEQUENCE, encode
from streamflow_aws.errors import AwsCallError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.sdk import Batch, Capabilities
    from streamflow_aws.clients import Client
    from streamflow_aws.dynamodb_items import Form, ItemChange

# The item would make its collection, all items of one partition key with a local index, larger than 10 GB.
_REFUSED_CODES = frozenset({"ItemCollectionSizeLimitExceededException"})


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionedWriter:
    """Keeps `streamflow.sdk.Writer`."""

    client: Client
    form: Form
    note_suppressed: Callable[[int], None]
    capabilities: Capabilities
    concurrency: int

    async def write(self, batch: Batch, /) -> None:
        await write_in_requests(
            batch,
            encode=partial(encode, form=self.form),
            send=self._send,
            capabilities=self.capabilities,
            concurrency=self.concurrency,
        )

    async def _send(self, changes: Sequence[ItemChange | None]) -> list[Rejection | None]:
        """One change: a request with a condition takes no more."""
        (change,) = changes
        if change is None:
            self.note_suppressed(1)
            return [None]
        try:
            operation, arguments = request(change, self.form.table.name)
            await self.client.call(operation, **arguments)
        except AwsCallError as error:
            if error.code == "ConditionalCheckFailedException":
                self.note_suppressed(1)
                return [None]
            if is_refusal(error):
                return [Rejection("refused", str(error))]
            raise
        return [None]


def request(change: ItemChange, table: str) -> tuple[str, dict[str, Any]]:
    """Operation and arguments. An item without a version, which no sink of this kind wrote, gives way too."""
    arguments: dict[str, Any] = {
        "TableName": table,
        "ConditionExpression": "attribute_not_exists(#version) OR #version < :version",
        "ExpressionAttributeNames": {"#version": SEQUENCE},
        "ExpressionAttributeValues": {":version": {"S": change.version}},
    }
    if change.item is None:
        return "delete_item", {"Key": change.key, **arguments}
    return "put_item", {"Item": change.item, **arguments}


def is_refusal(error: AwsCallError) -> bool:
    """Whether the table will never take what was sent."""
    return error.kind in {"invalid", "too_large"} or error.code in _REFUSED_CODES
