"""One table of error codes, and what becomes of errors that never were an answer."""

from __future__ import annotations

import socket
import ssl
from types import SimpleNamespace
from typing import Any

import aiohttp
import botocore.exceptions as botocore_errors
import msgspec
import pytest

from streamflow.aws.errors import classify, meaning, translate
from streamflow.errors import (
    AccessDeniedError,
    IteratorExpiredError,
    NotFoundError,
    RequestRefusedError,
    SourceError,
    ThrottledError,
    TrimmedError,
)

PLACE: Any = SimpleNamespace(ssl=True, host="streams.example", port=443, is_ssl=True)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ExpiredIteratorException", IteratorExpiredError),
        ("TrimmedDataAccessException", TrimmedError),
        ("ResourceNotFoundException", NotFoundError),
        ("LimitExceededException", ThrottledError),
        ("ProvisionedThroughputExceededException", ThrottledError),
        ("ThrottlingException", ThrottledError),
        ("AccessDeniedException", AccessDeniedError),
        ("UnrecognizedClientException", AccessDeniedError),
        ("ExpiredTokenException", AccessDeniedError),
        ("RequestTimeTooSkewed", AccessDeniedError),
        ("ValidationException", RequestRefusedError),
        ("InternalServerError", SourceError),
        ("ServiceUnavailable", SourceError),
    ],
)
def test_a_code_has_its_class_and_is_kept(code: str, expected: type[SourceError]) -> None:
    error = classify(code, "reason", 400)
    assert type(error) is expected
    assert error.code == code
    assert str(error).startswith(f"{code}: reason")


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
def test_an_unknown_code_is_transient(status: int) -> None:
    assert type(classify("SomethingNewException", "", status)) is SourceError


def test_without_a_code_the_status_speaks() -> None:
    assert type(classify("", "", 429)) is ThrottledError
    error = classify("", "", 503)
    assert type(error) is SourceError
    assert error.code == "HTTP503"
    assert str(error) == "HTTP 503: no reason given"


def test_throttling_codes_say_so() -> None:
    assert meaning("LimitExceededException", 400).throttled
    assert not meaning("ValidationException", 400).throttled


def test_a_throttled_error_carries_the_pause_asked_for() -> None:
    error = classify("ThrottlingException", "slow down", 400, retry_after_s=3.0)
    assert isinstance(error, ThrottledError)
    assert error.retry_after_s == 3.0


def test_the_signed_request_in_a_signature_error_is_not_shown() -> None:
    message = "The signature does not match.\n\nThe Canonical String should have been\nx-amz-security-token:hush"
    assert "hush" not in str(classify("InvalidSignatureException", message, 403))


def test_an_answer_that_botocore_read_is_classified_by_its_code() -> None:
    answer: Any = {"Error": {"Code": "ResourceNotFoundException", "Message": "m"}, "ResponseMetadata": {}}
    assert isinstance(translate(botocore_errors.ClientError(answer, "DescribeTable")), NotFoundError)


@pytest.mark.parametrize(
    ("error", "expected", "text"),
    [
        (botocore_errors.NoCredentialsError(), AccessDeniedError, "credentials"),
        (botocore_errors.TokenRetrievalError(provider="sso", error_msg="expired"), AccessDeniedError, "credentials"),
        (botocore_errors.ParamValidationError(report="Limit"), RequestRefusedError, "Limit"),
        (botocore_errors.EndpointConnectionError(endpoint_url="http://x"), SourceError, "cannot reach"),
        (botocore_errors.ReadTimeoutError(endpoint_url="http://x"), SourceError, "cannot reach"),
        (aiohttp.ClientConnectorCertificateError(PLACE, ssl.CertificateError("self-signed")), SourceError, "ca_bundle"),
        (aiohttp.ClientConnectorDNSError(PLACE, OSError(-2, "unknown name")), SourceError, "streams.example"),
        (aiohttp.ServerDisconnectedError(), SourceError, "cannot reach"),
        (aiohttp.ServerTimeoutError(), SourceError, "in time"),
        (TimeoutError(), SourceError, "in time"),
        (aiohttp.ClientPayloadError(), SourceError, "corrupt"),
        (socket.gaierror(-2, "unknown name"), SourceError, "unknown name"),
        (msgspec.DecodeError("Input data was truncated"), SourceError, "corrupt"),
        (UnicodeDecodeError("utf-8", b"item data", 0, 1, "invalid"), SourceError, "corrupt"),
    ],
)
def test_what_happens_on_the_way_is_explained(error: Exception, expected: type[SourceError], text: str) -> None:
    found = translate(error)
    assert type(found) is expected
    assert text in str(found)
    assert found.code


@pytest.mark.fault("F35")
def test_an_unexpected_error_is_transient_and_keeps_its_text_to_itself() -> None:
    found = translate(RuntimeError("item data"))
    assert type(found) is SourceError
    assert str(found) == "unexpected RuntimeError"
    assert found.code == "RuntimeError"


def test_an_error_of_ours_stays_what_it_is() -> None:
    error = TrimmedError("m")
    assert translate(error) is error
