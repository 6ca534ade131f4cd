"""A mapping as Lambda's API tells it becomes a pipeline file that loads and says the same."""

from __future__ import annotations

import datetime as dt
import sys
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from streamflow.config.lambda_file import pipeline_file
from streamflow.config.lambda_mapping import LiveMapping, pipeline_names, refusal
from streamflow.config.load import load_file
from streamflow.errors import ConfigError
from streamflow.pipeline import AwsOptions, DynamoDBStream, LambdaFunction, PipelineOptions

if TYPE_CHECKING:
    from pathlib import Path

    from streamflow.pipeline import App

UUID = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"
OTHER_UUID = "2c01d9fc-5498-484b-8be4-53d517bd0e41"
STREAM = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
FUNCTION = "arn:aws:lambda:eu-west-1:123456789012:function:invoices"
QUEUE = "arn:aws:sqs:eu-west-1:123456789012:orders-failed"

# As GetEventSourceMapping answers for a mapping that was created with nothing but what is required.
PLAIN: dict[str, Any] = {
    "ResponseMetadata": {"HTTPStatusCode": 200},
    "UUID": UUID,
    "StartingPosition": "TRIM_HORIZON",
    "BatchSize": 100,
    "MaximumBatchingWindowInSeconds": 0,
    "ParallelizationFactor": 1,
    "EventSourceArn": STREAM,
    "FunctionArn": FUNCTION,
    "LastModified": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    "LastProcessingResult": "OK",
    "State": "Enabled",
    "StateTransitionReason": "User action",
    "DestinationConfig": {"OnFailure": {}},
    "MaximumRecordAgeInSeconds": -1,
    "BisectBatchOnFunctionError": False,
    "MaximumRetryAttempts": -1,
    "TumblingWindowInSeconds": 0,
    "FunctionResponseTypes": [],
    "EventSourceMappingArn": f"arn:aws:lambda:eu-west-1:123456789012:event-source-mapping:{UUID}",
}
CONFIGURATION: dict[str, Any] = {
    "FunctionName": "invoices",
    "Runtime": "python3.12",
    "Handler": "app.handler",
    "Role": "arn:aws:iam::123456789012:role/invoices",
    "Timeout": 30,
    "MemorySize": 512,
    "Environment": {"Variables": {"TABLE": "orders", "API_KEY": "hunter2"}},
}


def live(**members: Any) -> LiveMapping:
    return LiveMapping(mapping={**PLAIN, **members}, function=CONFIGURATION)


def written(**members: Any) -> str:
    return pipeline_file([live(**members)])


def read(text: str) -> dict[str, Any]:
    """The one pipeline's table."""
    [table] = tomllib.loads(text)["pipelines"].values()
    assert isinstance(table, dict)
    return table


def loaded(text: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    """As `streamflow check` would, once people have named a target that exists."""
    file = directory / "imported.toml"
    file.write_text(text.replace('"app:handler"', '"operator:eq"').replace('"module:function"', '"operator:eq"'))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return load_file(file, {})


# --- what stays the same ---------------------------------------------------------------------------------------------


def test_every_option_of_a_mapping_has_the_same_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = written(
        StartingPosition="LATEST",
        BatchSize=25,
        MaximumBatchingWindowInSeconds=5,
        ParallelizationFactor=4,
        MaximumRetryAttempts=3,
        MaximumRecordAgeInSeconds=3_600,
        BisectBatchOnFunctionError=True,
        FunctionResponseTypes=["ReportBatchItemFailures"],
        DestinationConfig={"OnFailure": {"Destination": QUEUE}},
    )
    app = loaded(text, tmp_path, monkeypatch)
    [pipeline] = app.pipelines
    assert {name: getattr(pipeline, name) for name in PipelineOptions.model_fields} == dict(
        PipelineOptions(
            starting_position="LATEST",
            batch_size=25,
            maximum_batching_window_s=5,
            parallelization_factor=4,
            maximum_retry_attempts=3,
            maximum_record_age_s=3_600,
            bisect_batch_on_function_error=True,
            on_failure=(QUEUE,),
            uuid=UUID,
        )
    )
    assert pipeline.name == "invoices"
    assert pipeline.source == DynamoDBStream(stream_arn=STREAM)
    assert pipeline.handler == LambdaFunction(
        target="operator:eq",
        function_name="invoices",
        timeout_s=30,
        memory_size_mb=512,
        report_batch_item_failures=True,
    )
    assert (app.aws, app.store) == (AwsOptions(region="eu-west-1"), "sqlite:///invoices.db")


def test_a_window_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [pipeline] = loaded(written(TumblingWindowInSeconds=900), tmp_path, monkeypatch).pipelines
    assert pipeline.tumbling_window_s == 900


def test_a_plain_mapping_has_every_option_written_down() -> None:
    assert read(written()) == {
        "stream_arn": STREAM,
        "uuid": UUID,
        "starting_position": "TRIM_HORIZON",
        "batch_size": 100,
        "maximum_batching_window_s": 0,
        "parallelization_factor": 1,
        "maximum_retry_attempts": -1,
        "maximum_record_age_s": -1,
        "bisect_batch_on_function_error": False,
        "tumbling_window_s": 0,
        "on_failure": ["dead_letters"],
        "lambda": {
            "target": "app:handler",
            "function_name": "invoices",
            "timeout_s": 30,
            "memory_size_mb": 512,
            "concurrency": 1,
            "report_batch_item_failures": False,
        },
    }


@pytest.mark.parametrize(
    "pattern",
    [
        '{"eventName":["INSERT"]}',
        '{"a":["it\'s"]}',
        '{"a":["C:\\\\","\\u00e9","é"]}',
        '{\n  "a": ["\'\'\'"]\n}',
        '{"a":["${HOME}"]}',
        '\t{"a":\r\n["x"]}',
    ],
)
def test_filters_stay_letter_by_letter(pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    criteria = {"Filters": [{"Pattern": pattern}, {"Pattern": '{"eventName":["REMOVE"]}'}]}
    [pipeline] = loaded(written(FilterCriteria=criteria), tmp_path, monkeypatch).pipelines
    assert pipeline.filters == (pattern, '{"eventName":["REMOVE"]}')


@pytest.mark.parametrize("criteria", [{}, {"Filters": []}, None])
def test_empty_filter_criteria_are_no_filters(criteria: object) -> None:
    assert "filters" not in read(written(FilterCriteria=criteria))


def test_members_that_an_emulator_leaves_out_have_their_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = pipeline_file([LiveMapping(mapping={"UUID": UUID, "EventSourceArn": STREAM})])
    [pipeline] = loaded(text, tmp_path, monkeypatch).pipelines
    assert (pipeline.name, pipeline.batch_size) == ("imported", 100)
    assert pipeline.handler == LambdaFunction(target="operator:eq")


# --- what people have to see to --------------------------------------------------------------------------------------


def test_both_ways_to_take_over_are_explained_above_the_starting_position() -> None:
    before = written().partition("starting_position = ")[0].splitlines()[-6:]
    assert any(line.startswith('# "TRIM_HORIZON" reads all that the stream still holds') for line in before)
    assert any(line.startswith('# "LATEST" reads what comes from the first start on') for line in before)


@pytest.mark.parametrize("state", ["Enabled", "Disabled"])
def test_the_state_is_a_comment(state: str) -> None:
    assert f"; when it was imported: {state}, last result: OK." in written(State=state)
    assert read(written(State=state)) == read(written())


@pytest.mark.parametrize(
    ("destination", "on_failure", "said"),
    [
        ({}, "dead_letters", '# The mapping has no destination, and loses what it gives up, as "drop" would'),
        ({"OnFailure": {"Destination": ""}}, "dead_letters", "# The mapping has no destination"),
        ({"OnFailure": {"Destination": QUEUE}}, QUEUE, "# Only positions go there, as before"),
        (
            {"OnFailure": {"Destination": "arn:aws:s3:::orders-failed"}},
            "arn:aws:s3:::orders-failed",
            "# The whole batch goes there, as before",
        ),
        (
            {"OnFailure": {"Destination": "arn:aws:events:eu-west-1:123456789012:event-bus/x"}},
            "dead_letters",
            "# Not carried over: arn:aws:events:eu-west-1:123456789012:event-bus/x is no destination",
        ),
    ],
)
def test_where_records_go_that_are_given_up(destination: object, on_failure: str, said: str) -> None:
    text = written(DestinationConfig=destination)
    assert read(text)["on_failure"] == [on_failure]
    assert said in text


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("KMSKeyArn", "arn:aws:kms:eu-west-1:123456789012:key/1", "it encrypts the filters on AWS"),
        ("MetricsConfig", {"Metrics": ["EventCount"]}, "streamflow always counts"),
        ("ScalingConfig", {"MaximumConcurrency": 2}, "it is for SQS only"),
        ("ProvisionedPollerConfig", {"MinimumPollers": 1}, "it is for Kafka and SQS only"),
        ("StartingPositionTimestamp", dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "cannot be read from a time on"),
        ("LoggingConfig", {"SystemLogLevel": "a\nb = 1"}, "streamflow does not know it"),
        ("DestinationConfig", {"OnSuccess": {"Destination": QUEUE}}, "streamflow does not know it"),
    ],
)
def test_what_has_no_key_becomes_a_comment(member: str, value: object, said: str) -> None:
    text = written(**{member: value})
    comment = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    assert "Not carried over: " in comment
    assert said in comment
    assert read(text) == read(written())


def test_empty_members_say_nothing() -> None:
    assert written(Topics=[], KMSKeyArn="", ScalingConfig={}, SelfManagedEventSource=None) == written()


# --- the function ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "target", "said"),
    [
        ({}, "app:handler", "# CHECK target: the function's handler is app.handler"),
        ({"Handler": "src/orders/app.main"}, "src.orders.app:main", "# CHECK target"),
        ({"Runtime": "nodejs22.x", "Handler": "index.handler"}, "module:function", "the function's runtime is nodejs22.x"),
        ({"Runtime": None, "Handler": None, "PackageType": "Image"}, "module:function", "# FILL IN target, module:function"),
        ({"Handler": "handler"}, "module:function", "# FILL IN target, module:function"),
    ],
)  # fmt: skip
def test_the_target_is_taken_from_the_handler_where_it_can_be(function: Any, target: str, said: str) -> None:
    text = pipeline_file([LiveMapping(mapping=PLAIN, function={**CONFIGURATION, **function})])
    assert read(text)["lambda"]["target"] == target
    assert said.lower() in text.lower()


def test_a_function_that_could_not_be_read_is_told() -> None:
    text = pipeline_file([LiveMapping(mapping=PLAIN, unread="AccessDeniedException")])
    assert "could not be read (AccessDeniedException): set them here.\n# timeout_s = 3\n" in text
    assert read(text)["lambda"] == {
        "target": "module:function",
        "function_name": "invoices",
        "concurrency": 1,
        "report_batch_item_failures": False,
    }


def test_environment_variables_are_named_and_not_told() -> None:
    text = written()
    assert "API_KEY, TABLE." in text
    assert "hunter2" not in text


def test_the_role_that_lambda_polls_as_is_told() -> None:
    assert "as arn:aws:iam::123456789012:role/invoices." in written()


# --- several mappings ------------------------------------------------------------------------------------------------


def other_table(table: str, **members: Any) -> LiveMapping:
    return live(EventSourceArn=STREAM.replace("table/orders/", f"table/{table}/"), **members)


def test_several_mappings_are_several_pipelines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = loaded(pipeline_file([live(), other_table("old.orders", BatchSize=7)]), tmp_path, monkeypatch)
    assert [(pipeline.name, pipeline.batch_size) for pipeline in app.pipelines] == [
        ("invoices-orders", 100),
        ("invoices-old.orders", 7),
    ]


def test_another_region_is_that_of_its_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = STREAM.replace("eu-west-1", "us-east-1")
    app = loaded(pipeline_file([live(), live(EventSourceArn=arn, UUID=OTHER_UUID)]), tmp_path, monkeypatch)
    assert [pipeline.source.aws for pipeline in app.pipelines] == [None, AwsOptions(region="us-east-1")]


def test_names_are_as_short_as_they_are_unique() -> None:
    assert pipeline_names([live()]) == ["invoices"]
    assert pipeline_names([live(FunctionArn=f"{FUNCTION}:$LATEST")]) == ["invoices"]
    assert pipeline_names([live(), live(FunctionArn=f"{FUNCTION}:live")]) == ["invoices", "invoices-live"]
    assert pipeline_names([live(), other_table("old")]) == ["invoices-orders", "invoices-old"]
    assert pipeline_names([live(), live(UUID=OTHER_UUID)]) == [
        f"invoices-{UUID}",
        f"invoices-{OTHER_UUID}",
    ]


@pytest.mark.parametrize("function", ["_" * 64, "a" * 64, "_a"])
def test_a_name_fits_a_pipeline(function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = f"arn:aws:lambda:eu-west-1:123456789012:function:{function}:{'b' * 100}"
    text = pipeline_file([live(FunctionArn=arn), other_table("t" * 200, FunctionArn=arn, UUID=OTHER_UUID)])
    names = [pipeline.name for pipeline in loaded(text, tmp_path, monkeypatch).pipelines]
    assert len({*names}) == 2


# --- what cannot become a pipeline -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arn", "kind"),
    [
        ("arn:aws:kinesis:eu-west-1:123456789012:stream/orders", "a Kinesis stream"),
        ("arn:aws:kinesis:eu-west-1:123456789012:stream/orders/consumer/c:1", "a Kinesis stream"),
        ("arn:aws:sqs:eu-west-1:123456789012:orders", "an SQS queue"),
        ("arn:aws:kafka:eu-west-1:123456789012:cluster/orders/1", "a Kafka cluster"),
        ("arn:aws:mq:eu-west-1:123456789012:broker:orders:b-1", "a message broker"),
        ("arn:aws:rds:eu-west-1:123456789012:cluster:orders", "a DocumentDB cluster"),
        ("arn:aws:dynamodb:eu-west-1:123456789012:table/orders", "a table, not the stream of one"),
        ("arn:aws:foo:eu-west-1:123456789012:orders", "an unknown source"),
        ("orders", "an unknown source"),
    ],
)
def test_other_sources_are_refused_with_the_reason(arn: str, kind: str) -> None:
    with pytest.raises(ConfigError) as raised:
        written(EventSourceArn=arn)
    assert str(raised.value).startswith(
        f"mapping {UUID} reads {kind} ({arn}): streamflow reads the streams of DynamoDB"
    )


def test_a_cluster_of_ones_own_is_refused() -> None:
    source = {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["localhost:9092"]}}
    found = refusal(LiveMapping(mapping={"UUID": UUID, "SelfManagedEventSource": source}))
    assert found is not None
    assert found.startswith(f"mapping {UUID} reads a self-managed Kafka cluster: ")


def test_filters_that_cannot_be_read_are_an_error() -> None:
    error = {"ErrorCode": "AccessDeniedException", "Message": "no kms:Decrypt"}
    with pytest.raises(
        ConfigError, match=r"its filters cannot be read, AccessDeniedException: no kms:Decrypt; .*key/1"
    ):
        written(FilterCriteriaError=error, KMSKeyArn="arn:aws:kms:eu-west-1:123456789012:key/1")


def test_a_filter_without_a_pattern_is_an_error() -> None:
    with pytest.raises(ConfigError, match="one of its filters has no pattern"):
        written(FilterCriteria={"Filters": [{"Pattern": "{}"}, {}]})


def test_every_mapping_that_cannot_be_imported_is_told_at_once() -> None:
    kinesis = live(EventSourceArn="arn:aws:kinesis:eu-west-1:123456789012:stream/orders")
    with pytest.raises(ConfigError) as raised:
        pipeline_file([kinesis, live(), live(FilterCriteriaError={"ErrorCode": "x", "Message": "y"})])
    assert len(raised.value.problems) == 2


def test_no_text_of_a_mapping_can_add_a_key() -> None:
    evil = 'x"\nstore = "sqlite:///evil.db'
    text = pipeline_file(
        [
            LiveMapping(
                mapping={**PLAIN, "State": evil, "UUID": evil, "LastProcessingResult": evil, evil: evil},
                function={"Role": evil, "Runtime": evil, "Environment": {"Variables": {evil: "1"}}},
                unread=evil,
            )
        ]
    )
    assert tomllib.loads(text)["store"] == "sqlite:///invoices.db"
    assert read(text)["uuid"] == evil
