"""`LastProcessingResult`: Lambda's exact words, and what changes them."""

from __future__ import annotations

import pytest

from streamflow import events
from streamflow.errors import (
    DestinationError,
    HandlerTimeoutError,
    LambdaFunctionError,
    PartialFailure,
    SinkBusyError,
    StoreError,
    TrimmedError,
    WindowStateError,
)
from streamflow.observe.results import (
    ACCEPTED,
    FUNCTION_FAILED,
    NOTHING_PROCESSED,
    ProcessingResult,
    processing_result,
)
from streamflow.positions import TRIM_HORIZON


def delivered(*, partial: bool = False) -> events.BatchDelivered:
    return events.BatchDelivered(
        pipeline="orders",
        shard_id="s",
        records=2,
        bytes=1,
        delivered=2,
        dropped={},
        attempts=1,
        handler_s=0.1,
        first_created_at_s=1.0,
        last_created_at_s=1.0,
        now_s=2.0,
        partial=partial,
    )


def failed(error: BaseException, *, invoked: bool = True) -> events.BatchFailed:
    return events.BatchFailed(
        pipeline="orders",
        shard_id="s",
        records=2,
        attempt=1,
        handler_s=0.1,
        error=error,
        retry_after_s=1.0,
        invoked=invoked,
    )


def read_failed(code: str, message: str, *, throttled: bool = False) -> events.ReadFailed:
    return events.ReadFailed(
        pipeline="orders", shard_id="s", code=code, throttled=throttled, retry_after_s=1.0, message=message
    )


def discovery_failed(code: str, message: str) -> events.DiscoveryFailed:
    return events.DiscoveryFailed(pipeline="orders", code=code, message=message, retry_after_s=1.0)


def test_the_words_are_lambdas() -> None:
    assert NOTHING_PROCESSED.text == "No records processed"
    assert ACCEPTED.text == "OK"
    assert FUNCTION_FAILED.text == "PROBLEM: Function call failed"


@pytest.mark.parametrize("event", [delivered(), delivered(partial=True), failed(PartialFailure(["12"]))])
def test_an_accepted_response_is_ok_also_if_it_reports_failures(event: events.Event) -> None:
    assert processing_result(event) == ACCEPTED


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        HandlerTimeoutError(3.0),
        LambdaFunctionError("no list", function_error=None),
        WindowStateError("no state"),
        PartialFailure([]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_function_error_and_an_invalid_response_are_a_problem_of_the_function(error: Exception) -> None:
    assert processing_result(failed(error)) == FUNCTION_FAILED


DENIED = (
    "User: arn:aws:sts::1:assumed-role/r/s is not authorized to perform: dynamodb:DescribeStream on resource: arn:x"
)


@pytest.mark.parametrize(
    "event",
    [
        read_failed("AccessDeniedException", DENIED),
        read_failed("AccessDeniedException", f"AccessDeniedException: {DENIED}"),
        discovery_failed("AccessDeniedException", f"AccessDeniedException: {DENIED}"),
    ],
)
def test_a_source_error_is_told_in_the_services_own_words(event: events.Event) -> None:
    assert processing_result(event) == ProcessingResult(kind="source_error", text=f"PROBLEM: {DENIED}")


def test_a_pipeline_that_its_source_ended_says_why() -> None:
    result = processing_result(events.PipelineFailed(pipeline="orders", error=TrimmedError("records are lost")))
    assert result == ProcessingResult(kind="source_error", text="PROBLEM: records are lost")


@pytest.mark.parametrize(
    "event",
    [
        failed(SinkBusyError("later", retry_after_s=1.0), invoked=False),
        read_failed("ThrottlingException", "slow down", throttled=True),
        discovery_failed("LimitExceededException", "slow down"),
        discovery_failed("StoreError", "disk full"),
        events.PipelineFailed(pipeline="orders", error=StoreError("disk full")),
        events.PipelineStarted(pipeline="orders", stream_arn="arn", shards=1),
        events.RecordsDiscarded(
            pipeline="orders",
            shard_id="s",
            records=1,
            condition="RecordAgeExceeded",
            invoke_count=1,
            destinations=(),
            first=None,
            last=None,
        ),
        events.RecordsParked(pipeline="orders", shard_id="s", records=1, opened=1, parked_keys=1),
        events.DestinationFailed(
            pipeline="orders",
            shard_id="s",
            destination="dead_letters",
            records=1,
            attempt=1,
            error=DestinationError("no", code="X"),
            retry_after_s=1.0,
        ),
        events.CheckpointStored(pipeline="orders", shard_id="s", checkpoint=TRIM_HORIZON, duration_s=0.1),
    ],
    ids=lambda event: type(event).__name__,
)
def test_all_else_leaves_the_result_as_it_is(event: events.Event) -> None:
    assert processing_result(event) is None


def test_a_message_without_end_is_cut() -> None:
    result = processing_result(read_failed("X", "x" * 100_000))
    assert result is not None
    assert len(result.text) == 1_000
