"""`streamflow iam-policy` allows what a file's pipelines do, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from kept import Command
from policies import actions, check_policy, resources
from streamflow.destinations.permissions import destination_permission
from streamflow.errors import ConfigError
from streamflow.plugins import installed
from streamflow.sdk import Permission, SinkPlugin
from streamflow.sdk.permissions import placed, resource_arn

if TYPE_CHECKING:
    from pathlib import Path

READ = {"dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"}
STREAM_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"


class PolicyOf:
    """Writes `app.toml` or `app.py`, and runs the command on it."""

    def __init__(self, folder: Path, command: Command) -> None:
        self._folder = folder
        self._command = command
        self.told = ""

    def __call__(self, text: str, *arguments: str) -> dict[str, Any]:
        (self._folder / "app.toml").write_text(text)
        out, self.told = self._command("iam-policy", "app.toml", *arguments)
        return check_policy(json.loads(out))

    def refused(self, text: str, *arguments: str) -> str:
        (self._folder / "app.toml").write_text(text)
        return self._command("iam-policy", "app.toml", *arguments, code=2)[1]


@pytest.fixture
def policy_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> PolicyOf:
    monkeypatch.chdir(tmp_path)
    return PolicyOf(tmp_path, Command(capsys))


def test_a_table_is_looked_up_and_its_stream_read(policy_of: PolicyOf) -> None:
    found = policy_of(
        """
        [aws]
        region = "eu-west-1"
        [pipelines.orders]
        table = "orders"
        sink = { type = "console" }
        """,
        "--account",
        "123456789012",
    )
    assert [(each["Sid"], each["Action"], each["Resource"]) for each in found["Statement"]] == [
        (
            "FindTheStreamOfOrders",
            ["dynamodb:DescribeTable"],
            ["arn:aws:dynamodb:eu-west-1:123456789012:table/orders"],
        ),
        ("ReadTheStreamOfOrders", sorted(READ), ["arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/*"]),
    ]
    assert policy_of.told == ""


def test_a_stream_by_arn_needs_no_table(policy_of: PolicyOf) -> None:
    found = policy_of(f'[pipelines.orders]\nstream_arn = "{STREAM_ARN}"\nsink = {{ type = "console" }}')
    assert actions(found) == READ
    assert resources(found, "dynamodb:GetRecords") == [STREAM_ARN]


def test_what_nobody_said_is_a_place_to_fill_and_told(policy_of: PolicyOf) -> None:
    text = '[pipelines.orders]\ntable = "orders"\nsink = { type = "console" }'
    found = policy_of(text)
    assert resources(found, "dynamodb:DescribeTable") == ["arn:aws:dynamodb:REGION:ACCOUNT_ID:table/orders"]
    assert policy_of.told == "note: replace REGION, or say --region\nnote: replace ACCOUNT_ID, or say --account\n"
    found = policy_of(text, "--region", "cn-north-1", "--account", "123456789012")
    assert resources(found, "dynamodb:DescribeTable") == ["arn:aws-cn:dynamodb:cn-north-1:123456789012:table/orders"]
    assert policy_of.told == ""
    found = policy_of(text, "--region", "eu-west-1", "--partition", "aws-us-gov")
    assert resources(found, "dynamodb:DescribeTable") == ["arn:aws-us-gov:dynamodb:eu-west-1:ACCOUNT_ID:table/orders"]


def test_destinations_may_be_sent_to_and_tell_the_account(policy_of: PolicyOf) -> None:
    found = policy_of(
        """
        [aws]
        region = "eu-west-1"
        [pipelines.orders]
        table = "orders"
        sink = { type = "console" }
        on_failure = ["dead_letters", "arn:aws:sqs:eu-west-1:123456789012:failed", "arn:aws:s3:::failed-orders"]
        [pipelines.audit]
        table = "orders"
        sink = { type = "console" }
        on_failure = "arn:aws:sns:eu-west-1:123456789012:failed"
        """
    )
    assert actions(found) == READ | {
        "dynamodb:DescribeTable", "s3:PutObject", "sns:Publish", "sqs:GetQueueUrl", "sqs:SendMessage",
    }  # fmt: skip
    assert resources(found, "s3:PutObject") == ["arn:aws:s3:::failed-orders/aws/lambda/*"]
    assert resources(found, "dynamodb:DescribeTable") == ["arn:aws:dynamodb:eu-west-1:123456789012:table/orders"]
    assert len(found["Statement"]) == 5  # what both pipelines need stands there once


def test_a_destination_must_be_one() -> None:
    with pytest.raises(ConfigError, match="is no destination"):
        destination_permission("arn:aws:iam::123456789012:role/x")


def test_each_role_has_a_policy_of_its_own(policy_of: PolicyOf) -> None:
    role = "arn:aws:iam::123456789012:role/streams/orders-reader"
    text = f"""
        [aws]
        region = "eu-west-1"
        role_arn = "{role}"
        [pipelines.orders]
        table = "orders"
        sink = {{ type = "console" }}
        """
    found = policy_of(text)
    assert found["Statement"] == [
        {"Sid": "AssumeOrdersReader", "Effect": "Allow", "Action": ["sts:AssumeRole"], "Resource": [role]}
    ]
    assert f"note: {role} needs a policy of its own: --role {role}" in policy_of.told
    assert actions(policy_of(text, "--role", role)) == READ | {"dynamodb:DescribeTable"}
    assert "assumes no role 'arn:other'" in policy_of.refused(text, "--role", "arn:other")


def test_sinks_inside_others_are_found_and_code_is_told(policy_of: PolicyOf, tmp_path: Path) -> None:
    (tmp_path / "own_code.py").write_text("async def deliver(batch):\n    pass\n")
    found = policy_of(
        """
        [pipelines.orders]
        table = "orders"
        [pipelines.orders.sink]
        type = "route"
        [[pipelines.orders.sink.routes]]
        when = '{"eventName": ["REMOVE"]}'
        sink = { type = "own_code:deliver" }
        [[pipelines.orders.sink.routes]]
        sink = { type = "console" }
        """,
        "--region",
        "eu-west-1",
        "--account",
        "123456789012",
    )
    assert actions(found) == READ | {"dynamodb:DescribeTable"}
    assert policy_of.told == "note: not in this policy: pipeline orders: what the code of its handler calls\n"


APP = """
from contextlib import asynccontextmanager
from streamflow.pipeline import App, DynamoDBStream, Pipeline
from streamflow.sdk import AwsSettings, Capabilities, Permission, Settings, SinkPlugin, resource_arn

class Own(Settings):
    aws: AwsSettings | None = None
    '''How to get there.'''

@asynccontextmanager
async def open_own(settings, context):
    yield None

def plugin(**more):
    return SinkPlugin(
        name="own", api_version="1.0", summary="Writes.", settings=Own, examples={"one": {}}, open=open_own,
        capabilities=Capabilities(order="none", idempotence="none"), **more,
    )

told = plugin(permissions=lambda settings: [
    Permission(purpose="write", actions=("own:Put",), resources=(resource_arn("own", "thing/", "x"),))
])
class Sent:
    name = "sent"
    async def send(self, discarded):
        pass

class Source:
    def open(self): ...

source = DynamoDBStream(table="orders")
far = App(pipelines=(
    Pipeline(name="orders", source=source, handler=told(aws=AwsSettings(region="us-east-1"))),
))
stored = App(
    pipelines=(Pipeline(name="orders", source=source, handler=told()),), store="dynamodb://leases?region=eu-central-1"
)
silent = App(pipelines=(Pipeline(name="orders", source=Source(), handler=plugin()(), on_failure=Sent()),))
"""


def test_a_sink_reaches_its_own_region(tmp_path: Path, policy_of: PolicyOf, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "app.py").write_text(APP)
    out, _ = Command(capsys)("iam-policy", "app.py:far", "--region", "eu-west-1", "--account", "123456789012")
    assert resources(check_policy(json.loads(out)), "own:Put") == ["arn:aws:own:us-east-1:123456789012:thing/x"]


def test_a_store_in_dynamodb_has_its_tables(
    tmp_path: Path, policy_of: PolicyOf, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app.py").write_text(APP)
    out, _ = Command(capsys)("iam-policy", "app.py:stored", "--region", "eu-west-1", "--account", "123456789012")
    found = check_policy(json.loads(out))
    assert resources(found, "dynamodb:UpdateItem")[0] == "arn:aws:dynamodb:eu-central-1:123456789012:table/leases"
    assert "dynamodb:Scan" in actions(found)


def test_what_does_not_say_what_it_calls_is_told(
    tmp_path: Path, policy_of: PolicyOf, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app.py").write_text(APP)
    out, err = Command(capsys)("iam-policy", "app.py:silent")
    assert json.loads(out)["Statement"] == []
    assert err.splitlines() == [
        "note: not in this policy: pipeline orders: its source, a Source",
        "note: not in this policy: pipeline orders: its destination sent",
        "note: not in this policy: pipeline orders: its sink own",
    ]


def test_an_account_has_twelve_digits(policy_of: PolicyOf) -> None:
    text = '[pipelines.orders]\ntable = "orders"\nsink = { type = "console" }'
    assert "--account: '1' is no account" in policy_of.refused(text, "--account", "1")


@pytest.mark.parametrize(
    ("actions", "resources"),
    [
        (("s3:*",), ("arn:aws:s3:::b",)),
        (("PutObject",), ("*",)),
        ((), ("*",)),
        (("s3:Put",), ()),
        (("s3:Put",), ("b",)),
    ],
)
def test_a_permission_has_actions_without_wildcards_on_resources(
    actions: tuple[str, ...], resources: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match="no permission"):
        Permission(purpose="write", actions=actions, resources=resources)


def test_a_resource_is_placed_where_the_plugin_runs() -> None:
    arn = resource_arn("sns", "", "orders")
    assert placed(arn, partition="aws", region="eu-west-1", account="1") == "arn:aws:sns:eu-west-1:1:orders"
    assert resource_arn("sns", "", "arn:aws:sns:x:1:orders") == "arn:aws:sns:x:1:orders"


def test_every_sink_that_is_installed_says_what_it_calls() -> None:
    sinks = [each.plugin for each in installed() if isinstance(each.plugin, SinkPlugin)]
    assert {"console", "jsonl", "route"} <= {sink.name for sink in sinks}
    for sink in sinks:
        assert sink.permissions is not None, sink.name
        for example in sink.examples.values():
            assert all(isinstance(each, Permission) for each in sink.permissions(sink.configured(example)))
