"""The options of a pipeline have Lambda's ranges and defaults, and what Lambda refuses is refused in Lambda's words."""

from __future__ import annotations

from typing import Any

import pytest

from streamflow.errors import ConfigError
from streamflow.pipeline import PipelineOptions

PATTERN = '{"eventName": ["INSERT"]}'
QUEUE = "arn:aws:sqs:eu-west-1:123456789012:orders-failed"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:orders-failed"
BUCKET = "arn:aws:s3:::orders-failed"

# Option, the name in Lambda's API, least and greatest value (esm.md 1.2).
RANGES = [
    ("batch_size", "batchSize", 1, 10_000),
    ("maximum_batching_window_s", "maximumBatchingWindowInSeconds", 0, 300),
    ("parallelization_factor", "parallelizationFactor", 1, 10),
    ("maximum_retry_attempts", "maximumRetryAttempts", -1, 10_000),
    ("maximum_record_age_s", "maximumRecordAgeInSeconds", -1, 604_800),
    ("tumbling_window_s", "tumblingWindowInSeconds", 0, 900),
]


class Destination:
    name = "mine"

    async def send(self, discarded: object) -> None:
        """Takes it."""


def accepted(**options: Any) -> PipelineOptions:
    return PipelineOptions(**options)


def problems(**options: Any) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        PipelineOptions(**options)
    return [problem.removeprefix("PipelineOptions: ") for problem in raised.value.problems]


# --- ranges ----------------------------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_a_mapping() -> None:
    options = accepted()
    assert (options.batch_size, options.maximum_batching_window_s, options.parallelization_factor) == (100, 0, 1)
    assert (options.maximum_retry_attempts, options.maximum_record_age_s, options.tumbling_window_s) == (-1, -1, 0)
    assert (options.bisect_batch_on_function_error, options.filters, options.uuid) == (False, (), None)


def test_by_default_nothing_is_lost() -> None:
    options = accepted()
    assert (options.on_failure, options.on_poison) == (("dead_letters",), "dead_letter")


@pytest.mark.parametrize(("option", "member", "least", "greatest"), RANGES)
def test_the_ends_of_a_range_belong_to_it(option: str, member: str, least: int, greatest: int) -> None:
    assert [getattr(accepted(**{option: value}), option) for value in (least, greatest)] == [least, greatest]


@pytest.mark.parametrize(("option", "member", "least", "greatest"), RANGES)
def test_a_value_beyond_its_range_is_refused_in_lambdas_words(
    option: str, member: str, least: int, greatest: int
) -> None:
    said = f"at '{member}' failed to satisfy constraint: Member must have value"
    assert problems(**{option: greatest + 1}) == [
        f"{option}: Value '{greatest + 1}' {said} less than or equal to {greatest}"
    ]
    assert problems(**{option: least - 1}) == [f"{option}: Value '{least - 1}' {said} greater than or equal to {least}"]


@pytest.mark.fault("F3")
def test_all_values_beyond_their_ranges_are_told_at_once() -> None:
    assert [text.partition(":")[0] for text in problems(batch_size=0, parallelization_factor=11, uuid="x")] == [
        "batch_size",
        "parallelization_factor",
        "uuid",
    ]


@pytest.mark.parametrize(("given", "shown"), [(301.0, "301"), (300.5, "300.5"), (float("inf"), "inf"), ("301", "301")])
def test_a_refused_value_is_shown_as_lambda_shows_it(given: object, shown: str) -> None:
    [text] = problems(maximum_batching_window_s=given)
    assert text.startswith(f"maximum_batching_window_s: Value '{shown}' at ")


@pytest.mark.parametrize("age_s", [0, 1, 59])
def test_an_age_below_a_minute_is_refused_in_lambdas_words(age_s: int) -> None:
    text = "MaximumRecordAgeInSeconds must be either -1 (forever) or between 60 and 604800 (inclusive)"
    assert problems(maximum_record_age_s=age_s) == [f"maximum_record_age_s: {text} (found {age_s})"]


def test_the_least_age_is_a_minute() -> None:
    assert accepted(maximum_record_age_s=60).maximum_record_age_s == 60


def test_a_starting_position_that_there_is_not_is_refused_in_lambdas_words() -> None:
    [text] = problems(starting_position="BOGUS")
    assert text == (
        "starting_position: Value 'BOGUS' at 'startingPosition' failed to satisfy constraint: "
        "Member must satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]"
    )


def test_a_starting_position_of_other_streams_is_refused() -> None:
    [text] = problems(starting_position="AT_TIMESTAMP")
    assert text.startswith("starting_position: Unsupported starting position for arn type: ")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"on_poison": "skip"}, "on_poison: Input should be 'dead_letter', 'park_key' or 'block' (found 'skip')"),
        ({"batch_size": "many"}, "batch_size: Input should be a valid integer"),
        ({"batch_size": None}, "batch_size: Input should be a valid integer"),
        ({"starting_position": None}, "starting_position: Input should be 'TRIM_HORIZON' or 'LATEST'"),
        ({"batchSize": 3}, "batchSize: Extra inputs are not permitted"),
        ({"parked_keys_max": 0}, "parked_keys_max: Input should be greater than or equal to 1 (found 0)"),
        ({"uuid": "14e0db71"}, "uuid: String should match pattern"),
        ({"filters": (PATTERN,) * 11}, "filters: Tuple should have at most 10 items"),
    ],
)
def test_what_lambda_has_no_text_for_is_told_in_ours(options: dict[str, Any], expected: str) -> None:
    [text] = problems(**options)
    assert text.startswith(expected)


def test_a_long_value_is_not_shown() -> None:
    [text] = problems(batch_size=-(10**100))
    assert "0000" not in text


@pytest.mark.fault("F3")
def test_a_larger_batch_needs_no_batching_window() -> None:
    assert accepted(batch_size=101, maximum_batching_window_s=0).batch_size == 101


# --- options that exclude each other ---------------------------------------------------------------------------------


@pytest.mark.fault("F3")
def test_a_tumbling_window_excludes_lanes_in_lambdas_words() -> None:
    [text] = problems(tumbling_window_s=10, parallelization_factor=2)
    said = "Parallelization factor must be equal to 1 when tumbling window period is configured"
    assert text.startswith(f"declaration: {said}")


def test_a_tumbling_window_excludes_filters() -> None:
    [text] = problems(tumbling_window_s=10, filters=(PATTERN,))
    assert text == "declaration: filters cannot be combined with a tumbling window (filters, tumbling_window_s)"


def test_a_tumbling_window_bears_empty_filters_and_everything_else() -> None:
    options = accepted(
        tumbling_window_s=10,
        filters=(),
        maximum_batching_window_s=5,
        bisect_batch_on_function_error=True,
        maximum_retry_attempts=0,
        maximum_record_age_s=60,
        on_poison="block",
    )
    assert options.tumbling_window_s == 10


def test_a_tumbling_window_excludes_parking() -> None:
    [text] = problems(tumbling_window_s=10, on_poison="park_key", maximum_retry_attempts=3)
    assert text.endswith("(on_poison, tumbling_window_s)")


@pytest.mark.fault("F3")
def test_parking_needs_retries_that_can_be_used_up() -> None:
    [text] = problems(on_poison="park_key")
    assert "maximum_retry_attempts = -1 never uses them up" in text
    assert accepted(on_poison="park_key", maximum_retry_attempts=0).on_poison == "park_key"


# --- filters ---------------------------------------------------------------------------------------------------------


def test_filters_are_json_texts() -> None:
    assert accepted(filters=[PATTERN, PATTERN]).filters == (PATTERN, PATTERN)


@pytest.mark.parametrize(
    "pattern", ["", "no JSON", "[]", "{}", '{"a": "x"}', '{"a": []}', '{"a": [{"sounds-like": "x"}]}']
)
def test_a_wrong_pattern_is_refused_in_lambdas_words(pattern: str) -> None:
    [text] = problems(filters=(PATTERN, pattern))
    assert text.startswith("declaration: filters.1: Invalid filter pattern definition. (")


def test_what_lambda_cannot_filter_needs_the_extensions() -> None:
    pattern = '{"dynamodb": {"NewImage": {"total": {"N": [{"changed": true}]}}}}'
    [text] = problems(filters=(pattern,))
    assert text.startswith("declaration: filters.0: Invalid filter pattern definition. (")


# --- destinations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        ("dead_letters",),
        ("drop",),
        (QUEUE,),
        (TOPIC, "dead_letters"),
        (BUCKET, QUEUE, TOPIC),
        ("arn:aws-cn:sqs:cn-north-1:123456789012:orders_failed",),
    ],
)
def test_destinations_are_named(given: tuple[str, ...]) -> None:
    assert accepted(on_failure=given).on_failure == given


@pytest.mark.parametrize("name", [QUEUE, "drop"])
def test_a_single_destination_needs_no_list(name: str) -> None:
    assert accepted(on_failure=name).on_failure == (name,)


def test_a_destination_may_be_an_object() -> None:
    mine = Destination()
    assert accepted(on_failure=mine).on_failure == (mine,)
    assert accepted(on_failure=[mine, "dead_letters"]).on_failure == (mine, "dead_letters")


@pytest.mark.parametrize("given", [(), ("drop", "dead_letters"), (QUEUE, "drop"), ("drop", "drop")])
def test_drop_stands_alone(given: tuple[str, ...]) -> None:
    [text] = problems(on_failure=given)
    assert text == 'on_failure: name at least one destination, or "drop" alone to lose what is given up'


@pytest.mark.parametrize(
    ("arn", "expected"),
    [
        (f"{QUEUE}.fifo", "SQS FIFO is not a supported destination: name a standard queue"),
        (f"{TOPIC}.fifo", "SNS FIFO is not a supported destination: name a standard topic"),
    ],
)
def test_fifo_destinations_are_refused(arn: str, expected: str) -> None:
    [text] = problems(on_failure=("dead_letters", arn))
    assert text == f"on_failure: {expected}"


@pytest.mark.parametrize(
    "given",
    [
        "dead_letter",
        "https://sqs.eu-west-1.amazonaws.com/123456789012/orders",
        "arn:aws:sqs:eu-west-1:1234:orders",
        "arn:aws:s3:::orders-failed/folder",
        "arn:aws:lambda:eu-west-1:123456789012:function:orders",
        "",
    ],
)
def test_other_destinations_are_refused(given: str) -> None:
    [text] = problems(on_failure=given)
    assert "is none of dead_letters, drop, the ARN of a standard SQS queue" in text


@pytest.mark.parametrize("given", [(3,), (object(),), (None,)])
def test_what_cannot_send_is_no_destination(given: object) -> None:
    [text] = problems(on_failure=given)
    assert text.startswith("on_failure: a destination is a name, an ARN, or an object with name and send(discarded)")
