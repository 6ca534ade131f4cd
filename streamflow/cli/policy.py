"""What the pipelines of an app call at AWS, under which identity, and the IAM policies that allow just that; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from streamflow.delivery_options import DEAD_LETTERS, DROP
from streamflow.destinations.permissions import destination_permission
from streamflow.pipeline import DynamoDBStream
from streamflow.sdk.declarations import SinkDeclaration
from streamflow.sdk.permissions import Permission, placed, resource_arn
from streamflow.stores.dynamodb.permissions import permissions as store_permissions
from streamflow.stores.dynamodb.url import parse_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from streamflow.pipeline import App, Pipeline
    from streamflow.sdk.settings import AwsSettings

REGION, ACCOUNT = "REGION", "ACCOUNT_ID"
"""What stands in a policy where nobody said it."""
_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
_ARN = re.compile(r"^arn:(aws[a-z-]*):[a-z0-9-]+:([a-z0-9-]*):(\d{12})?:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A permission of one identity: the role that is assumed, or None for whoever the process is."""

    role: str | None
    region: str | None
    permission: Permission


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """`unknown` names what nobody has written down: code, and plugins that do not say what they call."""

    grants: list[Grant] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def roles(self) -> list[str]:
        """Those that are assumed, each with a policy of its own."""
        return sorted({grant.role for grant in self.grants if grant.role is not None})

    def add(self, permissions: Iterable[Permission], aws: AwsSettings) -> None:
        self.grants.extend(Grant(role=aws.role_arn, region=aws.region, permission=each) for each in permissions)

    def of(self, role: str | None) -> list[Grant]:
        """What one identity needs; that of the process assumes the roles, too."""
        own = [grant for grant in self.grants if grant.role == role]
        if role is not None or not self.roles:
            return own
        permissions = [
            Permission(purpose=f"assume {each.rpartition('/')[2]}", actions=("sts:AssumeRole",), resources=(each,))
            for each in self.roles
        ]
        return [*(Grant(role=None, region=None, permission=each) for each in permissions), *own]


def grants_of(app: App) -> Grants:
    """Everything that is declared."""
    found = Grants()
    for flow in app.flows:
        aws = getattr(flow.source, "aws", None) or app.aws
        if isinstance(flow.source, DynamoDBStream):
            found.add(_stream_permissions(flow.source), aws)
        else:
            found.unknown.append(f"pipeline {flow.name}: its source, a {type(flow.source).__name__}")
        _add_destinations(found, flow, aws)
        _add_handler(found, flow.name, flow.handler, aws)
    if app.store.startswith("dynamodb:"):
        url = parse_url(app.store)
        names = [flow.name for flow in app.flows]
        needed = store_permissions(app.store, names, account="{account}", region="{region}")
        tables = [
            Permission(
                purpose=f"store {each.why}",
                actions=each.actions,
                # Which partition it is follows from the region, and that may be none of the URL's.
                resources=(each.resource.replace("arn:aws:", "arn:{partition}:", 1),),
            )
            for each in needed
        ]
        found.add(tables, url.aws)
    return found


def _stream_permissions(source: DynamoDBStream) -> list[Permission]:
    """The wire's three calls, and the look at a table for its latest stream."""
    actions = ("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator")
    if source.stream_arn is not None:
        name = source.stream_arn.split("/")[1]
        return [Permission(purpose=f"read the stream of {name}", actions=actions, resources=(source.stream_arn,))]
    table = resource_arn("dynamodb", "table/", str(source.table))
    return [
        Permission(
            purpose=f"find the stream of {source.table}", actions=("dynamodb:DescribeTable",), resources=(table,)
        ),
        Permission(purpose=f"read the stream of {source.table}", actions=actions, resources=(f"{table}/stream/*",)),
    ]


def _add_destinations(found: Grants, flow: Pipeline, aws: AwsSettings) -> None:
    for target in flow.on_failure:
        if not isinstance(target, str):
            name = getattr(target, "name", type(target).__name__)
            found.unknown.append(f"pipeline {flow.name}: its destination {name}")
        elif target not in {DEAD_LETTERS, DROP}:
            found.add([destination_permission(target)], aws)


def _add_handler(found: Grants, pipeline: str, handler: object, aws: AwsSettings) -> None:
    if not isinstance(handler, SinkDeclaration):
        found.unknown.append(f"pipeline {pipeline}: what the code of its handler calls")
        return
    own = getattr(handler.settings, "aws", None) or aws
    permissions = handler.plugin.permissions
    if permissions is None:
        found.unknown.append(f"pipeline {pipeline}: its sink {handler.name}")
    else:
        found.add(permissions(handler.settings), own)
    for inner in _inside(handler.settings):
        _add_handler(found, pipeline, inner, aws)


def _inside(value: object) -> Iterator[object]:
    """Sinks and handlers in the settings of a sink, at any depth, but not those inside another one of them."""
    values = [getattr(value, name) for name in type(value).model_fields] if isinstance(value, BaseModel) else value
    if not isinstance(values, list | tuple):
        return
    for each in values:
        if isinstance(each, SinkDeclaration) or (callable(each) and not isinstance(each, type)):
            yield each
        else:
            yield from _inside(each)


# --- the document ----------------------------------------------------------------------------------------------------


def policy(
    grants: Iterable[Grant], *, partition: str | None, region: str | None, account: str | None
) -> dict[str, Any]:
    """A policy document: one statement for each purpose. `region` and `account` are of what is declared without them."""
    statements: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, Any]] = {}
    taken: dict[str, int] = {}
    for grant in grants:
        place = grant.region or region or REGION
        resources = tuple(
            placed(
                each,
                partition=partition or partition_of(place),
                region=place,
                account=account or ACCOUNT,
            )
            for each in grant.permission.resources
        )
        key = tuple(sorted(grant.permission.actions)), resources
        if key not in statements:
            statements[key] = {
                "Sid": _sid(grant.permission.purpose, taken),
                "Effect": "Allow",
                "Action": list(key[0]),
                "Resource": list(resources),
            }
    return {"Version": "2012-10-17", "Statement": list(statements.values())}


def account_of(grants: Iterable[Grant]) -> str | None:
    """The account that the ARNs name, where all that name one name the same."""
    arns = (_ARN.match(each) for grant in grants for each in grant.permission.resources)
    found = {arn[3] for arn in arns if arn is not None and arn[3]}
    return found.pop() if len(found) == 1 else None


def partition_of(region: str) -> str:
    return next((name for prefix, name in _PARTITIONS.items() if region.startswith(prefix)), "aws")


def placeholders(document: Mapping[str, Any]) -> list[str]:
    """Those that are left to fill."""
    resources = [each for statement in document["Statement"] for each in statement["Resource"]]
    return [place for place in (REGION, ACCOUNT) if any(f":{place}:" in each for each in resources)]


def _sid(purpose: str, taken: dict[str, int]) -> str:
    """The purpose in letters and digits, which is all that a Sid takes."""
    words = re.findall(r"[A-Za-z0-9]+", purpose)
    name = "".join(word[0].upper() + word[1:] for word in words)
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name}{taken[name]}"
