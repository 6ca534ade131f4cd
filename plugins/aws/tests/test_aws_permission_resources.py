"""On what the sinks of AWS are permitted to call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streamflow_aws.aws_call import aws_call
from streamflow_aws.call_permissions import permission
from streamflow_aws.dynamodb import dynamodb
from streamflow_aws.eventbridge import eventbridge
from streamflow_aws.firehose import firehose
from streamflow_aws.kinesis import kinesis
from streamflow_aws.lambda_invoke import lambda_invoke
from streamflow_aws.s3 import s3
from streamflow_aws.sqs import sqs

if TYPE_CHECKING:
    from streamflow.sdk import SinkDeclaration

HERE = "arn:{partition}"
PLACE = "{region}:{account}"
STATE_MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:orders"


def resources(sink: SinkDeclaration) -> list[str]:
    assert sink.plugin.permissions is not None
    return [each for needed in sink.plugin.permissions(sink.settings) for each in needed.resources]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/orders", "sqs:eu-west-1:123456789012:orders"),
        ("http://127.0.0.1:4566/000000000000/orders.fifo", "sqs:{region}:000000000000:orders.fifo"),
        ("https://queue.example.com/orders", "sqs:{region}:{account}:orders"),
    ],
)
def test_a_queue_is_known_by_its_url(url: str, found: str) -> None:
    assert resources(sqs(queue_url=url)) == [f"{HERE}:{found}"]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"function": "orders"}, f"{HERE}:lambda:{PLACE}:function:orders"),
        ({"function": "orders", "qualifier": "live"}, f"{HERE}:lambda:{PLACE}:function:orders:live"),
        ({"function": "123456789012:function:orders"}, f"{HERE}:lambda:{{region}}:123456789012:function:orders"),
        (
            {"function": "arn:aws:lambda:eu-west-1:123456789012:function:orders"},
            "arn:aws:lambda:eu-west-1:123456789012:function:orders",
        ),
    ],
)
def test_a_function_is_known_by_any_of_its_names(settings: dict[str, Any], found: str) -> None:
    assert resources(lambda_invoke(**settings)) == [found]


def test_a_name_is_one_of_the_region_and_an_arn_is_itself() -> None:
    arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
    assert resources(kinesis(stream="orders")) == [f"{HERE}:kinesis:{PLACE}:stream/orders"]
    assert resources(kinesis(stream=arn)) == [arn]
    assert resources(firehose(stream="orders")) == [f"{HERE}:firehose:{PLACE}:deliverystream/orders"]
    assert resources(eventbridge()) == [f"{HERE}:events:{PLACE}:event-bus/default"]


def test_a_bucket_may_be_looked_at_and_written_below_the_prefix() -> None:
    assert resources(s3(bucket="archive", prefix="all/orders")) == [
        f"{HERE}:s3:::archive",
        f"{HERE}:s3:::archive/all/orders/*",
    ]


def test_tables_are_told_apart() -> None:
    sink = dynamodb(table="copy", transactional=True, checkpoint_table="checkpoints")
    assert resources(sink) == [f"{HERE}:dynamodb:{PLACE}:table/copy", f"{HERE}:dynamodb:{PLACE}:table/checkpoints"]


def test_a_call_is_on_what_its_parameters_name() -> None:
    parameters = {"stateMachineArn": STATE_MACHINE, "name": "${event_id}", "tags": ["arn:${event_id}"]}
    sink = aws_call(service="stepfunctions", operation="StartExecution", parameters=parameters)
    assert resources(sink) == [STATE_MACHINE]
    logs = aws_call(service="logs", operation="PutLogEvents", parameters={"logGroupName": "orders"})
    assert resources(logs) == ["*"]


@pytest.mark.parametrize(
    ("service", "operation", "action"),
    [
        ("stepfunctions", "StartExecution", "states:StartExecution"),
        ("cloudwatch", "PutMetricData", "cloudwatch:PutMetricData"),
        ("lambda", "Invoke", "lambda:InvokeFunction"),
        ("s3", "HeadObject", "s3:GetObject"),
        ("no-such-service", "Do", "no-such-service:Do"),
    ],
)
def test_an_action_has_the_prefix_and_the_name_that_iam_has_for_it(service: str, operation: str, action: str) -> None:
    assert permission(service, operation, {}).actions == (action,)
