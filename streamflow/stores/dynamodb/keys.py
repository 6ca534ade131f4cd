"""How a lease table names its rows: by the shard alone, or by stream and shard where one application reads many streams."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamflow.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

_TABLE_STREAM = re.compile(r"arn:[^:]+:dynamodb:([^:]+):([^:]+):table/([^/]+)/stream/(.+)")
_KINESIS_STREAM = re.compile(r"arn:[^:]+:kinesis:[^:]+:([^:]+):stream/(.+)")


@dataclass(frozen=True, slots=True)
class RowKeys:
    """The form of `leaseKey`. `stream` is what stands before the shard id, as `streamName` has it; empty for nothing."""

    stream: str = ""

    def lease_key(self, shard_id: str) -> str:
        return f"{self.stream}:{shard_id}" if self.stream else shard_id

    def shard_id(self, lease_key: str) -> str | None:
        """The shard of a row; None for a row of another stream."""
        stream, _, shard_id = lease_key.rpartition(":")
        return shard_id if stream == self.stream else None


def row_keys(lease_keys: Iterable[str], stream_arn: str, *, table: str) -> RowKeys:
    """The form that the rows of a table have; that of a single stream where there are none.

    Raises:
        StoreError: rows of both forms, or of many streams whose form for this one cannot be known.
    """
    streams = {key.rpartition(":")[0] for key in lease_keys}
    if streams <= {""}:
        return RowKeys()
    if "" in streams:
        raise StoreError(
            f"lease table {table}: some of its rows are named by the shard and some by stream and shard; that is the work of "
            "two applications (name another table, or delete the rows of one of them)"
        )
    account, name = _identifier(stream_arn, table)
    ours = [stream for stream in streams if stream.startswith(f"{account}:{name}:")]
    if ours:
        return RowKeys(max(ours, key=_creation))
    if "$" in name:
        return RowKeys(f"{account}:{name}:1")
    raise StoreError(
        f"lease table {table}: it holds many streams, none of them {stream_arn}; a row would need the time of the stream's "
        "creation in its name (name another table)"
    )


def _identifier(stream_arn: str, table: str) -> tuple[str, str]:
    """Account and name of a stream, as the KCL and its adapter for DynamoDB write them: without a colon in the name."""
    if found := _TABLE_STREAM.fullmatch(stream_arn):
        region, account, name, label = found.groups()
        return account, "$".join((region, account, name, label.replace(":", "_")))
    if found := _KINESIS_STREAM.fullmatch(stream_arn):
        return found[1], found[2]
    raise StoreError(f"lease table {table}: it holds many streams, and {stream_arn!r} is not the ARN of one")


def _creation(stream: str) -> int:
    """The last part of a stream's name in a lease table: of two streams of one name the later one is meant."""
    text = stream.rpartition(":")[2]
    return int(text) if text.isdecimal() else 0
