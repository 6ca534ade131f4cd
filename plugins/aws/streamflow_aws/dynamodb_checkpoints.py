"""The row that a transaction writes beside the items: how far a shard is, and who may say so. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamflow.sdk import Position, sortable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamflow.sdk import Shard

_NAMES = {"#epoch": "epoch", "#position": "position"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The checkpoint of one shard; `key_name` is the one key attribute of its table, a string."""

    table: str
    key_name: str
    id: str

    def fencing(self, epoch: int) -> dict[str, Any]:
        """UpdateItem: from now on this epoch. It may be repeated; where there is a newer one, the refusal tells the row."""
        return {
            "TableName": self.table,
            "Key": {self.key_name: {"S": self.id}},
            "UpdateExpression": "SET #epoch = :epoch",
            "ConditionExpression": "attribute_not_exists(#epoch) OR #epoch <= :epoch",
            "ExpressionAttributeNames": {"#epoch": _NAMES["#epoch"]},
            "ExpressionAttributeValues": {":epoch": {"N": str(epoch)}},
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    def advancing(self, epoch: int, position: Position) -> dict[str, Any]:
        """UpdateItem: forward only, and only in the epoch that has fenced the shard."""
        return self._moving(epoch, position, "attribute_not_exists(#position) OR #position < :position", {})

    def moving(self, epoch: int, before: Position | None, position: Position) -> dict[str, Any]:
        """Update in a transaction: only from where the records begin that are written with it.

        A condition that the position grows would not do: a request that was long on its way could write again what has
        been written in shorter runs since.
        """
        if before is None:
            return self._moving(epoch, position, "attribute_not_exists(#position)", {})
        return self._moving(epoch, position, "#position = :before", {":before": {"S": text(before)}})

    def _moving(self, epoch: int, position: Position, condition: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "TableName": self.table,
            "Key": {self.key_name: {"S": self.id}},
            "UpdateExpression": "SET #position = :position",
            "ConditionExpression": f"#epoch = :epoch AND ({condition})",
            "ExpressionAttributeNames": dict(_NAMES),
            "ExpressionAttributeValues": {":epoch": {"N": str(epoch)}, ":position": {"S": text(position)}, **values},
        }


def row(table: str, key_name: str, pipeline: str, shard: Shard) -> Row:
    return Row(table=table, key_name=key_name, id=f"{pipeline}|{shard.stream_arn}|{shard.shard_id}")


def text(position: Position) -> str:
    """What orders as the position does, and behind a slash the sequence number as the stream has it."""
    return f"{sortable(position.sequence_number)}/{position.sequence_number}"


def stored(attributes: Mapping[str, Any]) -> tuple[int, Position | None] | None:
    """Epoch and position in a row as the service returns it; None where there is no epoch."""
    epoch, position = attributes.get("epoch"), attributes.get("position")
    if epoch is None:
        return None
    return int(epoch["N"]), None if position is None else Position.after(position["S"].partition("/")[2])
