"""`streamflow import-mapping` against MiniStack, whose mappings nobody here wrote: made by boto3, read by the command."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from streamflow.cli.main import invoke
from streamflow.config.load import load_file
from streamflow.pipeline import LambdaFunction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

PATTERN = '{"eventName":["INSERT"],"dynamodb":{"NewImage":{"name":{"S":["it\'s"]}}}}'
QUEUE = "arn:aws:sqs:us-east-1:000000000000:orders-failed"
SOURCE = "def handler(event, context):\n    return None\n"


@pytest.fixture
def functions(ministack: str) -> Iterator[Any]:
    """boto3's client for Lambda on MiniStack, with a function `invoices`."""
    client = boto3.client("lambda", endpoint_url=ministack, config=Config(retries={"total_max_attempts": 1}))
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", SOURCE)
    client.create_function(
        FunctionName="invoices",
        Runtime="python3.11",
        Role="arn:aws:iam::000000000000:role/invoices",
        Handler="app.handler",
        Timeout=17,
        MemorySize=256,
        Code={"ZipFile": code.getvalue()},
    )
    yield client
    client.close()


@pytest.fixture
def streams(dynamodb: Any) -> list[str]:
    """ARNs of the streams of two tables."""
    return [
        dynamodb.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )["TableDescription"]["LatestStreamArn"]
        for name in ("orders", "returns")
    ]


def create_mapping(functions: Any, stream_arn: str, **options: Any) -> str:
    """Disabled: nothing should poll while the test looks."""
    created = functions.create_event_source_mapping(
        FunctionName="invoices", EventSourceArn=stream_arn, Enabled=False, StartingPosition="TRIM_HORIZON", **options
    )
    return str(created["UUID"])


def run(endpoint: str, *arguments: str) -> int:
    return invoke(["import-mapping", *arguments, "--endpoint-url", endpoint])


def test_a_mapping_becomes_a_file_that_loads(
    ministack: str, functions: Any, streams: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = create_mapping(
        functions,
        streams[0],
        BatchSize=25,
        MaximumBatchingWindowInSeconds=3,
        ParallelizationFactor=2,
        MaximumRetryAttempts=4,
        MaximumRecordAgeInSeconds=120,
        BisectBatchOnFunctionError=True,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        FilterCriteria={"Filters": [{"Pattern": PATTERN}]},
        DestinationConfig={"OnFailure": {"Destination": QUEUE}},
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert run(ministack, uuid, "--output", "orders.toml") == 0
    file = tmp_path / "orders.toml"
    text = file.read_text()
    assert 'target = "app:handler"' in text
    file.write_text(text.replace("app:handler", "operator:eq"))
    [pipeline] = load_file(file, {}).pipelines
    assert (pipeline.source.stream_arn, pipeline.uuid) == (streams[0], uuid)
    assert (pipeline.batch_size, pipeline.maximum_batching_window_s, pipeline.parallelization_factor) == (25, 3, 2)
    assert (pipeline.maximum_retry_attempts, pipeline.maximum_record_age_s) == (4, 120)
    assert (pipeline.bisect_batch_on_function_error, pipeline.starting_position) == (True, "TRIM_HORIZON")
    assert (pipeline.filters, pipeline.on_failure) == ((PATTERN,), (QUEUE,))
    assert pipeline.handler == LambdaFunction(
        target="operator:eq",
        function_name="invoices",
        timeout_s=17,
        memory_size_mb=256,
        report_batch_item_failures=True,
    )


def test_all_mappings_of_a_function_become_one_file(
    ministack: str, functions: Any, streams: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for stream_arn in streams:
        create_mapping(functions, stream_arn)
    queue = boto3.client("sqs", endpoint_url=ministack)
    queue.create_queue(QueueName="orders")
    functions.create_event_source_mapping(
        FunctionName="invoices", EventSourceArn="arn:aws:sqs:us-east-1:000000000000:orders", Enabled=False
    )
    queue.close()
    assert run(ministack, "--function", "invoices") == 0
    printed = capsys.readouterr()
    assert [line for line in printed.out.splitlines() if line.startswith("[pipelines.")] == [
        "[pipelines.invoices-orders]",
        "[pipelines.invoices-orders.lambda]",
        "[pipelines.invoices-returns]",
        "[pipelines.invoices-returns.lambda]",
    ]
    assert "reads an SQS queue (arn:aws:sqs:us-east-1:000000000000:orders)" in printed.err
    file = tmp_path / "orders.toml"
    file.write_text(printed.out.replace("app:handler", "operator:eq"))
    assert invoke(["check", str(file), "--json"]) == 0
    assert [pipeline["name"] for pipeline in json.loads(capsys.readouterr().out)["pipelines"]] == [
        "invoices-orders",
        "invoices-returns",
    ]


def test_an_unknown_mapping_is_told(ministack: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ministack, "14e0db71-5d35-4eb5-b481-8945cf9d10c2") == 1
    assert "The resource you requested does not exist." in capsys.readouterr().err


def test_a_function_without_mappings_is_told(
    ministack: str, functions: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(ministack, "--function", "invoices") == 1
    assert "the function 'invoices' has no event source mapping in us-east-1" in capsys.readouterr().err
