"""What `streamflow iam-policy` allows is what streams and destinations really call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest
from aiobotocore.client import AioBaseClient

from discards import IDENTITY, discarded
from policies import actions, check_policy
from streamflow import App, DynamoDBStream, Pipeline
from streamflow.aws.session import open_aws
from streamflow.aws.wire import Wire
from streamflow.cli.policy import grants_of, policy
from streamflow.destinations.aws import open_destination
from streamflow.launch import running
from streamflow.pipeline import AwsOptions
from streamflow.sinks.jsonl import jsonl

if TYPE_CHECKING:
    from pathlib import Path

    from streamflow.testing import LocalStreams

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

REGION = "us-east-1"
QUEUE = f"arn:aws:sqs:{REGION}:000000000000:failed"
TOPIC = f"arn:aws:sns:{REGION}:000000000000:failed"
BUCKET = "arn:aws:s3:::failed-orders"


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The actions of every call over a client or the wire."""
    found: set[str] = set()
    by_client, by_wire = AioBaseClient._make_api_call, Wire.call

    async def client_call(self: Any, operation: str, arguments: dict[str, Any]) -> Any:
        found.add(f"{self.meta.service_model.service_name}:{operation}")
        return await by_client(self, operation, arguments)

    async def wire_call(self: Any, target: str, *arguments: Any, **options: Any) -> Any:
        found.add(f"dynamodb:{target.rpartition('.')[2]}")
        return await by_wire(self, target, *arguments, **options)

    monkeypatch.setattr(AioBaseClient, "_make_api_call", client_call)
    monkeypatch.setattr(Wire, "call", wire_call)
    return found


def allowed(app: App) -> set[str]:
    found = grants_of(app)
    document = policy(found.of(None), partition=None, region=REGION, account="000000000000")
    assert found.unknown == []
    return actions(check_policy(document))


@pytest.mark.parametrize("position", ["TRIM_HORIZON", "LATEST"])
async def test_a_pipeline_calls_what_it_may(
    local_streams: LocalStreams,
    called: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    position: Any,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    arn = local_streams.create_table("orders")
    local_streams.put("orders", {"id": {"S": "a"}})
    local_streams.split("orders")
    aws = AwsOptions(region=REGION, endpoint_url=local_streams.endpoint_url)
    app = App(
        pipelines=(
            Pipeline(
                name="orders",
                source=DynamoDBStream(table="orders"),
                handler=jsonl(path=tmp_path / "orders.jsonl"),
                starting_position=position,
            ),
        ),
        store="memory:",
        aws=aws,
    )
    async with running(app) as worker:
        await worker.wait_started()
        local_streams.put("orders", {"id": {"S": "b"}})
        local_streams.disable_stream("orders")
        await worker.wait()
    assert allowed(app) == called
    assert arn


@pytest.mark.parametrize("target", [QUEUE, TOPIC, BUCKET])
async def test_a_destination_calls_what_it_may(ministack: str, called: set[str], target: str) -> None:
    service = target.split(":")[2]
    client: Any = boto3.client(service, endpoint_url=ministack, region_name=REGION)
    match service:
        case "sqs":
            client.create_queue(QueueName="failed")
        case "sns":
            client.create_topic(Name="failed")
        case _:
            client.create_bucket(Bucket="failed-orders")
    client.close()
    async with (
        open_aws(AwsOptions(region=REGION, endpoint_url=ministack)) as aws,
        open_destination(target, aws=aws, identity=IDENTITY) as destination,
    ):
        await destination.send(discarded())
    app = App(
        pipelines=(
            Pipeline(
                name="orders",
                source=DynamoDBStream(table="orders"),
                handler=jsonl(path="orders.jsonl"),
                on_failure=(target,),
            ),
        )
    )
    assert {action for action in allowed(app) if not action.startswith("dynamodb:")} == called
