"""What a store in DynamoDB needs to be allowed, for a policy; pure, and imports nothing of AWS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamflow.stores.dynamodb.url import parse_url

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOOK = ("dynamodb:DescribeTable", "dynamodb:GetItem")
_WRITE = ("dynamodb:CreateTable", "dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem")
# A transaction takes the permissions of what is in it, and this one for what it only looks at.
_COMPANION_LOOK = ("dynamodb:BatchGetItem", "dynamodb:Query")
_COMPANION_WRITE = ("dynamodb:BatchWriteItem", "dynamodb:ConditionCheckItem")
ALL_ACTIONS = tuple(sorted({*_LOOK, *_WRITE, *_COMPANION_LOOK, *_COMPANION_WRITE, "dynamodb:Scan"}))
"""On the tables of a store together."""
# Partitions whose regions have names of their own.
_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """Actions of IAM, sorted, on one resource, with the reason for people."""

    actions: tuple[str, ...]
    resource: str
    why: str


def permissions(url: str, pipelines: Iterable[str], *, account: str = "*", region: str = "*") -> list[Permission]:
    """What the store of this URL needs for these pipelines; `region` counts where the URL names none.

    Raises:
        ConfigError: it is no URL of a store in DynamoDB.
    """
    store = parse_url(url)
    region = store.options.region or region
    partition = next((name for prefix, name in _PARTITIONS.items() if region.startswith(prefix)), "aws")
    write, companion_write = ((), ()) if store.read_only else (_WRITE, _COMPANION_WRITE)

    def permission(table: str, why: str, *actions: str) -> Permission:
        resource = f"arn:{partition}:dynamodb:{region}:{account}:table/{table}"
        return Permission(actions=tuple(sorted(actions)), resource=resource, why=why)

    found = []
    for table in dict.fromkeys(store.lease_table(pipeline) for pipeline in pipelines):
        found.append(permission(table, "leases", *_LOOK, "dynamodb:Scan", *write))
        if not store.read_only:
            found.append(
                permission(f"{table}-CoordinatorState", "is a leader of the KCL 3.x alive?", "dynamodb:GetItem")
            )
    why = "the stream's row, windows, dead letters and parked records"
    return [*found, permission(store.companion, why, *_LOOK, *_COMPANION_LOOK, *write, *companion_write)]
