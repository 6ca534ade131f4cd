"""What a webhook is sent and what its answers mean: the pure parts of the http sink."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from streamflow.errors import ConfigError, SinkBusyError, StreamflowError
from streamflow.sinks.http import http
from streamflow.sinks.http_answers import Answered, Refused, meaning, retry_after_s
from streamflow.sinks.http_requests import Message, body_of, key_of, message, secret_bytes, signed_headers
from streamflow.testing.sink_contract import Changes

if TYPE_CHECKING:
    from streamflow.sinks.http_requests import Body

NOW_S = 1_795_600_000.0
MESSAGES = [Message(f"event-{number}", str(number), b'{"n":%d}' % number) for number in range(4)]
KEY = base64.b64encode(bytes(range(32))).decode()


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("array", b'[{"n":0},{"n":1}]'),
        ("ndjson", b'{"n":0}\n{"n":1}\n'),
        ("event", b'{"Records":[{"n":0},{"n":1}]}'),
    ],
)
def test_a_body_holds_the_records(body: Body, expected: bytes) -> None:
    assert body_of(MESSAGES[:2], body) == expected


def test_a_single_body_is_the_record() -> None:
    assert body_of(MESSAGES[:1], "single") == b'{"n":0}'


def test_an_event_is_what_a_lambda_function_gets() -> None:
    changes = Changes()
    batch = changes.batch(*changes.put_many(3))
    assert body_of([message(record, "lambda") for record in batch], "event") == batch.lambda_event_json()


def test_the_key_is_that_of_these_records_and_no_others() -> None:
    assert key_of(MESSAGES) == key_of(list(MESSAGES))
    others = [MESSAGES[1:], MESSAGES[:-1], [MESSAGES[0], MESSAGES[3]], [MESSAGES[0], MESSAGES[2], MESSAGES[3]]]
    assert len({key_of(MESSAGES), *map(key_of, others)}) == 5
    assert key_of(MESSAGES[:1]) == "event-0"


def test_signatures_are_those_of_standard_webhooks() -> None:
    """The signed text is written out as the specification has it."""
    other = base64.b64encode(b"x" * 24).decode()
    keys = [secret_bytes(f"whsec_{KEY}"), secret_bytes(other)]
    headers = signed_headers(keys, identity="msg_1", timestamp_s=1_700_000_000, body=b'{"a":1}')
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("msg_1", "1700000000")
    expected = []
    for key in (bytes(range(32)), b"x" * 24):
        digest = hmac.new(key, b'msg_1.1700000000.{"a":1}', hashlib.sha256).digest()
        expected.append("v1," + base64.b64encode(digest).decode())
    assert headers["webhook-signature"] == " ".join(expected)


def test_the_published_example_has_its_signature() -> None:
    headers = signed_headers(
        [secret_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
        identity="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp_s=1_614_265_330,
        body=b'{"test": 2432232314}',
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", ["whsec_", "whsec_c2hvcnQ=", "not base64 ☃", "whsec_" + "YQ==" * 40], ids=str)
def test_what_is_no_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        http(url="https://example.com", signing_secrets=[secret])
    assert "signing secret" in str(wrong.value)
    assert secret.removeprefix("whsec_") == "" or secret.removeprefix("whsec_") not in str(wrong.value)


# --- answers ---------------------------------------------------------------------------------------------------------


def means(status: int, *, retry_after: str | None = None, content: bytes = b"") -> Any:
    return meaning(status, retry_after, content, MESSAGES, now_s=NOW_S)


@pytest.mark.parametrize(
    "content", [b"", b"ok", b"{}", b"null", b'{"batchItemFailures":[]}', b'{"batchItemFailures":null}']
)
@pytest.mark.parametrize("status", [200, 202, 204])
def test_success_is_success(status: int, content: bytes) -> None:
    assert means(status, content=content) == Answered(None)


def test_failures_in_the_answer_count_from_the_first_on() -> None:
    content = orjson.dumps({"batchItemFailures": [{"itemIdentifier": "3"}, {"itemIdentifier": "1"}]})
    answers = means(200, content=content).answers
    assert [None if answer is None else answer.kind for answer in answers] == [None, "failed", "waiting", "failed"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"batchItemFailures":[{"itemIdentifier":"77"}]}',
        b'{"batchItemFailures":[{"itemIdentifier":""}]}',
        b'{"batchItemFailures":"all"}',
        b'["batchItemFailures"]',
        b'{"batchItemFailures":[',
    ],
)
def test_failures_that_nobody_understands_fail_the_request(content: bytes) -> None:
    with pytest.raises(StreamflowError, match="its answer"):
        means(200, content=content)


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422, 431])
def test_content_that_is_not_wanted_is_refused(status: int) -> None:
    assert means(status) == Refused(f"it answers {status}")


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (308, "redirect"),
        (401, "credentials"),
        (403, "credentials"),
        (404, "look at the url"),
        (405, "method"),
        (408, "408"),
        (410, "gone"),
        (425, "425"),
        (500, "500"),
        (503, "503"),
    ],
)
def test_what_is_not_about_the_records_refuses_none(status: int, says: str) -> None:
    with pytest.raises(StreamflowError, match=says) as failed:
        means(status)
    assert not isinstance(failed.value, SinkBusyError)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_a_pause_that_is_asked_for_is_made(status: int) -> None:
    with pytest.raises(SinkBusyError) as busy:
        means(status, retry_after="7")
    assert busy.value.retry_after_s == 7.0


def test_too_many_requests_are_a_pause_without_a_header_too_and_no_pause_is_endless() -> None:
    with pytest.raises(SinkBusyError) as busy:
        means(429)
    assert busy.value.retry_after_s == 1.0
    with pytest.raises(SinkBusyError) as busy:
        means(503, retry_after="86400")
    assert busy.value.retry_after_s == 300.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("Wed, 25 Nov 2026 09:47:10 GMT", 30.0),
        ("Wed, 25 Nov 2026 09:00:00 GMT", 0.0),
        ("Wed, 99 Nov 2026 09:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert retry_after_s(text, now_s=NOW_S) == seconds


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://example.com"},
        {"url": "https:///path"},
        {"url": "https://user:pass@example.com/"},
        {"url": "https://example.com:port/"},
        {"url": "https://example.com/a b"},
        {"url": "https://example.com/#part"},
        {"headers": {"Host": "other"}},
        {"headers": {"Webhook-Id": "1"}},
        {"headers": {"X-Injected": "a\r\nb: c"}},
        {"headers": {"no name": "a"}},
        {"body": "event", "payload": "image"},
        {"concurrency": 0},
        {"timeout_s": 0},
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        http(**({"url": "https://example.com/"} | wrong))


def test_secrets_are_not_shown() -> None:
    declared = http(
        url="https://example.com/", headers={"Authorization": "Bearer abc"}, signing_secrets=[f"whsec_{KEY}"]
    )
    assert "abc" not in repr(declared.settings)
    assert KEY not in repr(declared.settings)


def test_a_request_for_each_record_is_a_limit_of_one() -> None:
    assert http(url="https://example.com/", body="single").capabilities.request_records_max == 1
    assert http(url="https://example.com/", request_records_max=25).capabilities.request_records_max == 25
