"""Our signature is botocore's, whatever is signed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from streamflow.aws.signing import Keys, Scope, signed_headers
from streamflow.aws.wire import Endpoint

PRINTABLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
KEYS = st.builds(
    Keys,
    access_key=st.text(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"), min_size=16, max_size=24),
    secret_key=st.text(PRINTABLE, min_size=1, max_size=60),
    token=st.none() | st.text(PRINTABLE, min_size=1, max_size=400),
)
HOSTS = st.builds(
    "{}://{}{}/".format,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["127.0.0.1", "[::1]", "localhost"])
    | st.from_regex(r"[a-z][a-z0-9-]{0,10}(\.[a-z][a-z0-9]{1,8}){1,4}", fullmatch=True),
    st.sampled_from(["", ":80", ":443", ":8000"]) | st.integers(1, 65_535).map(":{}".format),
)
MOMENTS = st.datetimes(datetime(2015, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds it


def headers_of_botocore(url: str, keys: Keys, endpoint: Endpoint, *, target: str, body: bytes, at: datetime) -> Any:
    request = AWSRequest("POST", url, {"Content-Type": endpoint.content_type, "X-Amz-Target": target}, body)
    credentials = Credentials(keys.access_key, keys.secret_key, keys.token)
    with patch("botocore.auth.get_current_datetime", return_value=at.replace(tzinfo=None)):
        SigV4Auth(credentials, endpoint.signing_name, endpoint.region).add_auth(request)
    return dict(request.headers.items())


@given(
    keys=KEYS,
    url=HOSTS,
    region=st.sampled_from(["eu-west-1", "us-gov-west-1", "cn-north-1"]),
    service=st.sampled_from(["dynamodb", "kinesis"]),
    target=st.from_regex(r"[A-Za-z]{1,20}_[0-9]{8}\.[A-Za-z]{1,20}", fullmatch=True),
    version=st.sampled_from(["1.0", "1.1"]),
    body=st.binary(max_size=2_000),
    at=MOMENTS,
)
def test_headers_equal_those_of_botocore(
    keys: Keys, url: str, region: str, service: str, target: str, version: str, body: bytes, at: datetime
) -> None:
    endpoint = Endpoint(
        url=url,
        region=region,
        signing_name=service,
        content_type=f"application/x-amz-json-{version}",
        certificates="",
    )
    scope = Scope(region=region, service=service, host=endpoint.host, content_type=endpoint.content_type)
    ours = signed_headers(scope, keys, target=target, body=body, at=at)
    assert ours.pop("Host") == endpoint.host
    assert ours == headers_of_botocore(url, keys, endpoint, target=target, body=body, at=at)


def test_the_key_of_a_day_is_not_used_on_the_next() -> None:
    keys = Keys(access_key="AKIDEXAMPLE", secret_key="secret")
    scope = Scope(region="eu-west-1", service="dynamodb", host="h", content_type="c")
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    before, after = (
        signed_headers(scope, keys, target="t", body=b"", at=at) for at in (midnight - timedelta(seconds=1), midnight)
    )
    assert "/20260228/" in before["Authorization"]
    assert "/20260301/" in after["Authorization"]


def test_keys_do_not_print_themselves() -> None:
    assert "hush" not in repr(Keys(access_key="A", secret_key="hush", token="hush"))
