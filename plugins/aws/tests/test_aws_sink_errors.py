"""What botocore raises, as the contract of sinks has it."""

from __future__ import annotations

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError, ParamValidationError

from scripted_clients import refusal
from streamflow.sdk import SinkBusyError
from streamflow_aws.errors import AwsCallError, config_error, kind_of, translated

SECRET = "customer 4711"


@pytest.mark.parametrize(
    "code",
    [
        "ThrottlingException", "ProvisionedThroughputExceededException", "SlowDown", "TooManyRequestsException",
        "KMSThrottlingException", "KMS.ThrottlingException", "RequestThrottled", "Throttled", "OverLimit",
    ],
)  # fmt: skip
def test_a_throttle_asks_for_a_pause(code: str) -> None:
    found = translated(refusal(code), "put_records")
    assert isinstance(found, SinkBusyError)
    assert found.retry_after_s == 1.0
    assert code in str(found)


def test_status_429_is_a_throttle_whatever_its_code() -> None:
    assert isinstance(translated(refusal("Strange", status=429), "invoke"), SinkBusyError)


def test_a_code_may_be_a_throttle_of_one_service_alone() -> None:
    error = refusal("ServiceUnavailableException", status=503)
    assert isinstance(translated(error, "put"), AwsCallError)
    assert isinstance(translated(error, "put", busy_codes=frozenset({"ServiceUnavailableException"})), SinkBusyError)


@pytest.mark.parametrize(("header", "pause_s"), [("7", 7.0), ("3600", 60.0), ("soon", 1.0), ("", 1.0)])
def test_retry_after_is_kept_within_a_minute(header: str, pause_s: float) -> None:
    found = translated(refusal("SlowDown", status=503, retry_after=header), "put_object")
    assert isinstance(found, SinkBusyError)
    assert found.retry_after_s == pause_s


@pytest.mark.parametrize(
    ("code", "message", "status", "kind"),
    [
        ("ExpiredToken", "", 400, "expired"),
        ("AccessDeniedException", "", 400, "denied"),
        ("KMSNotFoundException", "", 400, "denied"),
        ("KmsDisabled", "", 400, "denied"),
        ("AWS.SimpleQueueService.NonExistentQueue", "", 400, "missing"),
        ("ResourceNotFoundException", "", 400, "missing"),
        ("BatchRequestTooLong", "", 400, "too_large"),
        ("", "", 413, "too_large"),
        ("ValidationException", "Total size of the entries in the request is over the limit.", 400, "too_large"),
        ("InvalidParameter", "Invalid parameter: Message too long", 400, "too_large"),
        ("ValidationException", "1 validation error detected", 400, "invalid"),
        ("InternalFailure", "too large a load", 500, "failed"),
        ("Unheard", "", 400, "failed"),
    ],
)
def test_every_other_code_has_a_kind(code: str, message: str, status: int, kind: str) -> None:
    assert kind_of(code, message, status) == kind
    found = translated(refusal(code, message, status=status), "put")
    assert isinstance(found, AwsCallError)
    assert found.kind == kind
    assert found.response["Error"]["Code"] == code


def test_what_a_service_quotes_of_a_request_is_not_shown() -> None:
    quoted = f"Value '{SECRET}' at 'records.1.member.data' failed to satisfy constraint"
    assert SECRET not in str(translated(refusal("ValidationException", quoted), "put_records"))
    invalid = ParamValidationError(report=f"Invalid type for parameter Records[0].Data, value: {SECRET}")
    found = translated(invalid, "put_records")
    assert SECRET not in str(found)
    assert isinstance(found, AwsCallError)
    assert found.kind == "invalid"


def test_of_a_denial_the_first_line_is_shown_but_not_the_signed_request() -> None:
    message = "The signature does not match.\nx-amz-security-token: topsecret"
    text = str(translated(refusal("SignatureDoesNotMatch", message, status=403), "put_events"))
    assert text == "put_events: SignatureDoesNotMatch: The signature does not match."


def test_an_unreachable_service_is_a_failure_and_missing_credentials_a_denial() -> None:
    gone = translated(EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), "put_events")
    assert isinstance(gone, AwsCallError)
    assert gone.kind == "failed"
    assert "cannot reach the service" in str(gone)
    unknown = translated(NoCredentialsError(), "put_events")
    assert isinstance(unknown, AwsCallError)
    assert unknown.kind == "denied"
    assert str(translated(KeyError(SECRET), "put_events")) == "put_events: unexpected KeyError"


@pytest.mark.parametrize(
    ("code", "step"),
    [
        ("QueueDoesNotExist", "make it: aws sqs create-queue"),
        ("AccessDenied", "takes sqs:GetQueueAttributes"),
        ("ExpiredToken", "renew the credentials"),
        ("InternalFailure", "check region, endpoint_url"),
    ],
)
def test_what_to_do_before_the_sink_can_be_opened_is_said(code: str, step: str) -> None:
    error = translated(refusal(code), "get_queue_attributes")
    assert isinstance(error, AwsCallError)
    found = config_error(
        error, target="the queue", permission="sqs:GetQueueAttributes", creation="aws sqs create-queue"
    )
    assert step in str(found)
    assert str(found).startswith("the queue cannot be used: ")
