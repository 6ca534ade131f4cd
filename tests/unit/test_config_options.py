"""The options of a mapping in a pipeline file: all are keys, and a mistake is told at the line it stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamflow.config.load import load_file
from streamflow.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from streamflow.pipeline import Pipeline

QUEUE = "arn:aws:sqs:eu-west-1:123456789012:orders-failed"
HEAD = '[pipelines.orders]\ntable = "orders"\nhandler = "json:dumps"\n'  # the options begin on line 4


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(tmp_path: Path, options: str, **variables: str) -> Pipeline:
    file = tmp_path / "orders.toml"
    file.write_text(HEAD + options)
    [pipeline] = load_file(file, variables).pipelines
    return pipeline


def problems(tmp_path: Path, options: str, **variables: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, options, **variables)
    return list(raised.value.problems)


def test_every_option_of_a_mapping_is_a_key(tmp_path: Path) -> None:
    pipeline = loaded(
        tmp_path,
        f"""
        starting_position = "TRIM_HORIZON"
        batch_size = 10000
        maximum_batching_window_s = 300
        parallelization_factor = 10
        maximum_retry_attempts = 0
        maximum_record_age_s = 604800
        bisect_batch_on_function_error = true
        tumbling_window_s = 0
        on_failure = ["{QUEUE}", "dead_letters"]
        on_poison = "park_key"
        parked_keys_max = 7
        uuid = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"
        """,
    )
    assert pipeline.starting_position == "TRIM_HORIZON"
    assert (pipeline.batch_size, pipeline.maximum_batching_window_s) == (10_000, 300)
    assert (pipeline.parallelization_factor, pipeline.bisect_batch_on_function_error) == (10, True)
    assert (pipeline.maximum_retry_attempts, pipeline.maximum_record_age_s) == (0, 604_800)
    assert (pipeline.on_failure, pipeline.on_poison) == ((QUEUE, "dead_letters"), "park_key")
    assert (pipeline.parked_keys_max, pipeline.uuid) == (7, "14e0db71-5d35-4eb5-b481-8945cf9d10c2")


def test_filters_are_texts_of_any_kind_of_quotes(tmp_path: Path) -> None:
    pipeline = loaded(
        tmp_path,
        """\
filter_extensions = true
filters = [
  '{"eventName": ["INSERT"]}',
  "{\\"eventName\\": [\\"REMOVE\\"]}",
  '''
{
  "dynamodb": { "NewImage": { "status": { "S": ["it's paid", { "prefix": "C:\\\\" }] } } }
}''',
]
""",
    )
    assert [text.strip()[:3] for text in pipeline.filters] == ['{"e', '{"e', "{\n "]
    assert pipeline.filter_extensions


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", ("dead_letters",)),
        (f'on_failure = "{QUEUE}"', (QUEUE,)),
        (f'on_failure = ["{QUEUE}"]', (QUEUE,)),
        ('on_failure = "drop"', ("drop",)),
        ('on_failure = "${FAILED}"', ("arn:aws:s3:::failed",)),
        ('on_failure = ["dead_letters", "${FAILED}"]', ("dead_letters", "arn:aws:s3:::failed")),
    ],
)
def test_destinations_are_one_name_or_several(tmp_path: Path, written: str, expected: tuple[str, ...]) -> None:
    assert loaded(tmp_path, written, FAILED="arn:aws:s3:::failed").on_failure == expected


def test_a_window_goes_with_a_lambda_function(tmp_path: Path) -> None:
    (tmp_path / "orders.toml").write_text(
        '[pipelines.orders]\ntable = "orders"\nlambda = { target = "operator:eq", report_batch_item_failures = true }\n'
        "tumbling_window_s = 900\nmaximum_batching_window_s = 0.5\n"
    )
    [pipeline] = load_file(tmp_path / "orders.toml", {}).pipelines
    assert (pipeline.tumbling_window_s, pipeline.maximum_batching_window_s) == (900, 0.5)


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_ranges_are_told_in_lambdas_words_with_their_lines(tmp_path: Path) -> None:
    options = """\
batch_size = 10001
maximum_batching_window_s = -1
parallelization_factor = 0
maximum_retry_attempts = -2
maximum_record_age_s = 59
tumbling_window_s = 901
starting_position = "BOGUS"
"""
    at, value = "failed to satisfy constraint: Member must", "have value"
    assert problems(tmp_path, options) == [
        f"orders.toml:4: pipelines.orders.batch_size: Value '10001' at 'batchSize' {at} {value} less than or equal to 10000",
        (
            "orders.toml:5: pipelines.orders.maximum_batching_window_s: Value '-1' at 'maximumBatchingWindowInSeconds' "
            f"{at} {value} greater than or equal to 0"
        ),
        (
            f"orders.toml:6: pipelines.orders.parallelization_factor: Value '0' at 'parallelizationFactor' {at} {value} "
            "greater than or equal to 1"
        ),
        (
            f"orders.toml:7: pipelines.orders.maximum_retry_attempts: Value '-2' at 'maximumRetryAttempts' {at} {value} "
            "greater than or equal to -1"
        ),
        (
            "orders.toml:8: pipelines.orders.maximum_record_age_s: "
            "MaximumRecordAgeInSeconds must be either -1 (forever) or between 60 and 604800 (inclusive)"
        ),
        (
            f"orders.toml:9: pipelines.orders.tumbling_window_s: Value '901' at 'tumblingWindowInSeconds' {at} {value} "
            "less than or equal to 900"
        ),
        (
            f"orders.toml:10: pipelines.orders.starting_position: Value 'BOGUS' at 'startingPosition' {at} "
            "satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]"
        ),
    ]


@pytest.mark.fault("F3")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            "tumbling_window_s = 10\nparallelization_factor = 2",
            (
                "orders.toml:5: pipelines.orders.parallelization_factor: Parallelization factor must be equal to 1 when "
                "tumbling window period is configured (parallelization_factor, tumbling_window_s)"
            ),
        ),
        (
            'tumbling_window_s = 10\nfilters = [\'{"eventName": ["INSERT"]}\']',
            (
                "orders.toml:5: pipelines.orders.filters: filters cannot be combined with a tumbling window "
                "(filters, tumbling_window_s)"
            ),
        ),
        (
            'tumbling_window_s = 10\nmaximum_retry_attempts = 1\non_poison = "park_key"',
            (
                "orders.toml:6: pipelines.orders.on_poison: park_key cannot be combined with a tumbling window: its state "
                "would miss the parked changes (on_poison, tumbling_window_s)"
            ),
        ),
        (
            'on_poison = "park_key"\nmaximum_retry_attempts = -1',
            (
                "orders.toml:5: pipelines.orders.maximum_retry_attempts: park_key sets an item aside when its retries are "
                "used up: maximum_retry_attempts = -1 never uses them up, give it a number"
            ),
        ),
    ],
)
def test_options_that_exclude_each_other_are_told_at_one_of_them(tmp_path: Path, options: str, expected: str) -> None:
    assert problems(tmp_path, options) == [expected]


def test_an_option_that_misses_another_is_told_at_its_table(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, '\non_poison = "park_key"')
    assert problem.startswith("orders.toml:1: pipelines.orders: park_key sets an item aside")


def test_a_wrong_pattern_is_told_at_its_line(tmp_path: Path) -> None:
    options = 'filters = [\n  \'{"eventName": ["INSERT"]}\',\n  \'{"eventName": "INSERT"}\',\n]\n'
    [problem] = problems(tmp_path, options)
    assert problem.startswith("orders.toml:6: pipelines.orders.filters[1]: Invalid filter pattern definition. (")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (f'on_failure = "{QUEUE}.fifo"', "SQS FIFO is not a supported destination: name a standard queue"),
        (
            'on_failure = ["drop", "dead_letters"]',
            'name at least one destination, or "drop" alone to lose what is given up',
        ),
        ("on_failure = []", 'name at least one destination, or "drop" alone to lose what is given up'),
        ("on_failure = 3", "should be an array (found 3)"),
        ("on_failure = [3]", "a destination is a name, an ARN, or an object with name and send(discarded)"),
        ("batch_size = true", "should be a number, not true"),
        ("batch_size = 1.5", "should be a valid integer, got a number with a fractional part (found 1.5)"),
        ("batchSize = 100", "unknown key, did you mean batch_size?"),
        ('uuid = "orders"', "should match pattern"),
        ('on_poison = "skip"', "should be 'dead_letter', 'park_key' or 'block' (found 'skip')"),
    ],
)
def test_other_mistakes_are_told_at_their_key(tmp_path: Path, options: str, expected: str) -> None:
    [problem] = problems(tmp_path, options)
    assert problem.startswith(f"orders.toml:4: pipelines.orders.{options.partition(' ')[0]}: {expected}")


@pytest.mark.parametrize("written", ['on_failure = "${WHERE}"', 'on_failure = ["dead_letters", "${WHERE}"]'])
def test_the_value_of_a_variable_is_not_shown_as_a_destination(tmp_path: Path, written: str) -> None:
    [problem] = problems(tmp_path, written, WHERE="hunter2")
    assert problem.startswith("orders.toml:4: pipelines.orders.on_failure: '${WHERE}' is none of dead_letters")


def test_the_value_of_a_variable_is_not_shown_as_an_option(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, 'batch_size = "${SIZE}"', SIZE="10002")
    assert problem.startswith("orders.toml:4: pipelines.orders.batch_size: Value '${SIZE}' at 'batchSize' ")


def test_a_mistake_of_two_keys_of_aws_is_told_at_its_line(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, '[pipelines.orders.aws]\nregion = "eu-west-1"\nexternal_id = "x"\n')
    assert problem == "orders.toml:6: pipelines.orders.aws.external_id: external_id goes with role_arn"
