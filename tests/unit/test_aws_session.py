"""Session, credentials and roles, against a server on loopback that is STS and DynamoDB at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import botocore.exceptions as botocore_errors
import pytest
from aiohttp import web

from scripted_aws import Received, isolate, json_answer, raw_server, refusal, serving
from streamflow.aws.errors import translate
from streamflow.aws.identity import session_name
from streamflow.aws.session import open_aws
from streamflow.clock import SystemClock
from streamflow.errors import AccessDeniedError, ConfigError, NotFoundError, SourceError
from streamflow.pipeline import AwsOptions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

TARGET = "DynamoDBStreams_20120810.GetRecords"
ROLE = "arn:aws:iam::123456789012:role/orders"


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch)


class RoleServer:
    """Assumes any role; the n-th credentials have the access key ASIAROLE<n> and live for `lives_s[n]` seconds."""

    def __init__(self, *lives_s: float) -> None:
        self.lives_s = lives_s
        self.assumed: list[dict[str, list[str]]] = []

    def __call__(self, received: Received) -> web.Response:
        if received.headers.get("X-Amz-Target"):
            return json_answer({})
        life = timedelta(seconds=self.lives_s[len(self.assumed)])
        self.assumed.append(parse_qs(received.body.decode()))
        expiration = datetime.fromtimestamp(SystemClock().wall(), UTC) + life
        return web.Response(
            content_type="text/xml",
            text=f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
            <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/orders/s</Arn><AssumedRoleId>X:s</AssumedRoleId>
            </AssumedRoleUser><Credentials><AccessKeyId>ASIAROLE{len(self.assumed)}</AccessKeyId>
            <SecretAccessKey>s</SecretAccessKey><SessionToken>token{len(self.assumed)}</SessionToken>
            <Expiration>{expiration.isoformat()}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>""",
        )


# --- a declaration that cannot work ----------------------------------------------------------------------------------


async def test_a_missing_region_is_a_mistake_with_a_next_step() -> None:
    with pytest.raises(ConfigError, match="set region, AWS_DEFAULT_REGION"):
        async with open_aws(AwsOptions()):
            pass


async def test_an_unknown_profile_names_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text("[profile staging]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with pytest.raises(ConfigError, match=r"production.*known profiles: staging"):
        async with open_aws(AwsOptions(profile="production")):
            pass


async def test_a_profile_gives_region_and_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text(
        "[profile staging]\nregion = eu-north-1\naws_access_key_id = AKIDSTAGING\naws_secret_access_key = s\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    async with (
        serving(lambda _: json_answer({})) as server,
        open_aws(AwsOptions(profile="staging", endpoint_url=server.url)) as aws,
        aws.open_wire("dynamodbstreams") as wire,
    ):
        await wire.call(TARGET, b"{}")
        assert aws.region == "eu-north-1"
    assert server.received[0].access_key == "AKIDSTAGING"
    assert "/eu-north-1/" in server.received[0].headers["Authorization"]


async def test_missing_credentials_are_denied_access_with_a_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(AccessDeniedError, match="set AWS_ACCESS_KEY_ID"):
        async with open_aws(AwsOptions(region="eu-west-1")):
            pass


async def test_half_of_the_credentials_is_denied_access(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessDeniedError, match="AWS_SECRET_ACCESS_KEY"):
        async with open_aws(AwsOptions(region="eu-west-1")):
            pass


async def test_a_missing_certificate_file_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match=r"there is no file nowhere\.pem"):
        async with open_aws(AwsOptions(region="eu-west-1", ca_bundle="nowhere.pem")):
            pass


async def test_an_endpoint_that_is_none_is_a_mistake() -> None:
    async with open_aws(AwsOptions(region="eu-west-1", endpoint_url="http://")) as aws:
        with pytest.raises(ConfigError, match="dynamodbstreams"):
            async with aws.open_wire("dynamodbstreams"):
                pass


# --- roles -----------------------------------------------------------------------------------------------------------


async def test_the_role_is_assumed_for_hot_and_cold_calls() -> None:
    sts = RoleServer(3600)
    async with serving(sts) as server:
        options = AwsOptions(region="eu-west-1", endpoint_url=server.url, role_arn=ROLE, external_id="7f9c")
        async with open_aws(options) as aws, aws.open_wire("dynamodbstreams") as wire:
            await wire.call(TARGET, b"{}")
            async with aws.client("dynamodb") as client:
                await client.list_tables()
    (asked,) = sts.assumed
    assert asked["RoleArn"] == [ROLE]
    assert asked["ExternalId"] == ["7f9c"]
    assert asked["RoleSessionName"] == [session_name()]
    assumed, hot, cold = server.received
    assert assumed.access_key == "AKIDEXAMPLE"
    assert hot.access_key == cold.access_key == "ASIAROLE1"
    assert hot.headers["X-Amz-Security-Token"] == cold.headers["X-Amz-Security-Token"] == "token1"


@pytest.mark.fault("F34")
async def test_the_roles_credentials_are_refreshed_before_they_expire() -> None:
    sts = RoleServer(60, 3600)  # the first are good for a minute more, and are replaced all the same
    async with serving(sts) as server:
        options = AwsOptions(region="eu-west-1", endpoint_url=server.url, role_arn=ROLE)
        async with open_aws(options) as aws, aws.open_wire("dynamodbstreams") as wire:
            await wire.call(TARGET, b"{}")
            await wire.call(TARGET, b"{}")
    assert len(sts.assumed) == 2
    assert [received.access_key for received in server.received if received.operation] == ["ASIAROLE2", "ASIAROLE2"]


async def test_a_role_that_may_not_be_assumed_is_named() -> None:
    answer = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
    <Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>"""
    async with serving(lambda _: web.Response(status=403, content_type="text/xml", text=answer)) as server:
        options = AwsOptions(region="eu-west-1", endpoint_url=server.url, role_arn=ROLE)
        with pytest.raises(AccessDeniedError, match=f"cannot assume the role {ROLE}: AccessDenied: not auth") as caught:
            async with open_aws(options):
                pass
    assert caught.value.code == "AccessDenied"


@pytest.mark.parametrize("host", ["orders-7.internal", "ein rechner/mit (zeichen)", "x" * 200])
def test_the_name_of_the_roles_session_is_one_that_iam_takes(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    name = session_name()
    assert name.startswith("streamflow-")
    assert len(name) <= 64
    assert all(character.isalnum() or character in "+=,.@-_" for character in name)


# --- cold calls ------------------------------------------------------------------------------------------------------


async def test_a_cold_calls_error_reads_like_that_of_a_hot_one() -> None:
    async with serving(lambda _: refusal("ResourceNotFoundException", "no such table")) as server:
        options = AwsOptions(region="eu-west-1", endpoint_url=server.url)
        async with open_aws(options) as aws, aws.client("dynamodb") as client:
            with pytest.raises(botocore_errors.ClientError) as caught:
                await client.describe_table(TableName="orders")
    assert isinstance(translate(caught.value), NotFoundError)


@pytest.mark.fault("F31")
async def test_a_cold_call_may_be_told_not_to_repeat() -> None:
    async with serving(lambda _: refusal("InternalServerError", status=500)) as server:
        options = AwsOptions(region="eu-west-1", endpoint_url=server.url)
        async with open_aws(options) as aws, aws.client("dynamodb", attempts_max=1) as client:
            with pytest.raises(botocore_errors.ClientError) as caught:
                await client.list_tables()
    assert type(translate(caught.value)) is SourceError
    assert len(server.received) == 1


@pytest.mark.fault("F35")
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"Item":{"id":{"S":', {}),
        (b"", {}),
        (b"<html>busy</html>", {}),
        (b"[]", {}),
        (b'{"Item":' * 3_000, {}),
        (b'{"Item":{"id":{"S":"\xff"}}}', {}),
        (b'{"Item":{}}', {"x-amz-crc32": "1"}),
    ],
    ids=["cut", "empty", "page", "list", "deep", "no text", "checksum"],
)
async def test_what_is_no_answer_of_the_service_is_no_empty_answer(body: bytes, headers: dict[str, str]) -> None:
    answer = web.Response(body=body, content_type="application/x-amz-json-1.0", headers=headers)
    async with serving(lambda _: answer) as server:
        options = AwsOptions(region="eu-west-1", endpoint_url=server.url)
        async with open_aws(options) as aws, aws.client("dynamodb", attempts_max=1) as client:
            with pytest.raises((SourceError, UnicodeDecodeError)) as caught:
                await client.get_item(TableName="orders", Key={"id": {"S": "1"}})
    assert translate(caught.value).code == "CorruptAnswer"


@pytest.mark.fault("F35")
async def test_an_answer_to_a_cold_call_that_is_no_http_is_told_without_quoting_it() -> None:
    async with raw_server(b'{"Items":["secret"]}\r\n\r\n') as (port, _):
        options = AwsOptions(region="eu-west-1", endpoint_url=f"http://127.0.0.1:{port}")
        async with open_aws(options) as aws, aws.client("dynamodb", attempts_max=1) as client:
            with pytest.raises(botocore_errors.HTTPClientError) as caught:
                await client.list_tables()
    assert str(translate(caught.value)) == "the service sent an answer that is no HTTP"


async def test_an_operation_that_answers_nothing_may_answer_with_nothing() -> None:
    answer = web.Response(body=b"", content_type="application/x-amz-json-1.0")
    async with serving(lambda _: answer) as server:
        options = AwsOptions(region="eu-west-1", endpoint_url=server.url)
        async with open_aws(options) as aws, aws.client("sqs", attempts_max=1) as client:
            await client.delete_message(QueueUrl=f"{server.url}/1/q", ReceiptHandle="r")


async def test_clients_to_come_use_the_keys_that_are_found_after_the_old_ones_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    file.write_text("[default]\naws_access_key_id = AKIDOLD\naws_secret_access_key = s\n", encoding="utf-8")
    async with (
        serving(lambda _: json_answer({})) as server,
        open_aws(AwsOptions(region="eu-west-1", endpoint_url=server.url)) as aws,
    ):
        file.write_text("[default]\naws_access_key_id = AKIDNEW\naws_secret_access_key = s\n", encoding="utf-8")
        async with aws.client("dynamodb") as client:
            await client.list_tables()
        await aws.renew()
        async with aws.client("dynamodb") as client:
            await client.list_tables()
    assert [received.access_key for received in server.received] == ["AKIDOLD", "AKIDNEW"]


@pytest.mark.parametrize(("asked_s", "waits_s"), [(None, 20.0), (960.0, 960.0)])
async def test_an_answer_may_take_as_long_as_is_asked_for(asked_s: float | None, waits_s: float) -> None:
    async with open_aws(AwsOptions(region="eu-west-1")) as aws, aws.client("lambda", read_timeout_s=asked_s) as client:
        assert client.meta.config.read_timeout == waits_s
        assert client.meta.config.max_pool_connections == 100


async def test_an_object_is_sent_without_asking_whether_it_is_wanted() -> None:
    async with (
        serving(lambda _: web.Response(headers={"ETag": '"1"'})) as server,
        open_aws(AwsOptions(region="eu-west-1", endpoint_url=server.url)) as aws,
        aws.client("s3") as client,
    ):
        await client.put_object(Bucket="archive", Key="key", Body=b"text")
    (put,) = server.received
    assert put.body == b"text"
    assert "Expect" not in put.headers
