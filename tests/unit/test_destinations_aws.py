"""SQS, SNS and S3 as destinations, against a server on loopback that refuses, breaks off and falls silent."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

import anyio
import orjson
import pytest
from aiohttp import web
from botocore.exceptions import ClientError

from discards import IDENTITY, discarded, record
from scripted_aws import Received, ScriptedServer, isolate, json_answer, raw_server, refusal
from streamflow.aws.session import open_aws
from streamflow.destinations import aws as room
from streamflow.destinations.aws import open_destination
from streamflow.destinations.invocation_record import invocation_record, s3_key, s3_record
from streamflow.errors import ConfigError, DestinationError
from streamflow.pipeline import AwsOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from streamflow.aws.session import Aws
    from streamflow.protocols import Destination

pytestmark = pytest.mark.anyio

QUEUE = "arn:aws:sqs:eu-west-3:123456789012:orders-failed"
TOPIC = "arn:aws:sns:eu-west-3:123456789012:orders-failed"
BUCKET = "arn:aws:s3:::orders-failed"
KINDS = [QUEUE, TOPIC, BUCKET]


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch)


class Cloud:
    """SQS, SNS and S3 at once. `refusals` says no to the next calls, `denied` to every call of these operations."""

    def __init__(self, *refusals: tuple[int, str], denied: tuple[str, ...] = ()) -> None:
        self.refusals = list(refusals)
        self.denied = denied
        self.operations: list[str] = []

    def __call__(self, received: Received) -> web.Response:
        operation = operation_of(received)
        self.operations.append(operation)
        if operation in self.denied:
            return refused(received, 403, "AccessDenied")
        if self.refusals:
            return refused(received, *self.refusals.pop(0))
        match operation:
            case "GetQueueUrl":
                return json_answer({"QueueUrl": "https://queue.example/123456789012/orders-failed"})
            case "SendMessage":
                return json_answer({"MessageId": "m-1", "MD5OfMessageBody": "0"})
            case "Publish":
                return xml(
                    "<PublishResponse><PublishResult><MessageId>m-1</MessageId></PublishResult></PublishResponse>"
                )
        return web.Response()


def operation_of(received: Received) -> str:
    if received.method == "PUT":
        return "PutObject"
    return received.operation or parse_qs(received.body.decode())["Action"][0]


def refused(received: Received, status: int, code: str) -> web.Response:
    if received.method == "PUT":
        return xml(f"<Error><Code>{code}</Code><Message>because</Message></Error>", status)
    if received.operation:
        return refusal(code, "because", status=status)
    return xml(f"<ErrorResponse><Error><Code>{code}</Code><Message>because</Message></Error></ErrorResponse>", status)


def xml(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/xml")


def sent(received: Received) -> Any:
    """The record in a call that was received."""
    match operation_of(received):
        case "SendMessage":
            return orjson.loads(orjson.loads(received.body)["MessageBody"])
        case "Publish":
            return orjson.loads(parse_qs(received.body.decode())["Message"][0])
    return orjson.loads(received.body)


def scope_of(received: Received) -> str:
    """Region and service of the signature."""
    return "/".join(received.headers["Authorization"].partition("Credential=")[2].split("/")[2:4])


@asynccontextmanager
async def destination_at(
    answer: Callable[[Received], web.Response], arn: str
) -> AsyncIterator[tuple[Destination, ScriptedServer]]:
    async with serving(answer) as server, opened(server.url, arn) as destination:
        yield destination, server


@asynccontextmanager
async def serving(answer: Callable[[Received], web.Response]) -> AsyncIterator[ScriptedServer]:
    """As `scripted_aws.serving`, and an upload is asked to go on (100), which a client of S3 waits for."""
    server = ScriptedServer("", 0)

    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        received = Received(method=request.method, url=str(request.url), headers=request.headers, body=body)
        server.received.append(received)
        return answer(received)

    application = web.Application(client_max_size=2**24)
    application.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.port = runner.addresses[0][1]
        server.url = f"http://127.0.0.1:{server.port}"
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def opened(url: str, arn: str) -> AsyncIterator[Destination]:
    async with (
        open_aws(AwsOptions(region="us-east-1", endpoint_url=url)) as aws,
        open_destination(arn, aws=cast("Aws", OneAttempt(aws)), identity=IDENTITY) as destination,
    ):
        yield destination


class OneAttempt:
    """A way to AWS without the SDK's own repetitions, and their pauses."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def client(self, service: str, *, region: str | None) -> AbstractAsyncContextManager[Any]:
        return self._aws.client(service, region=region, attempts_max=1)


# --- what is sent ----------------------------------------------------------------------------------------------------


async def test_a_queue_gets_the_record_in_its_own_region_and_is_looked_up_once() -> None:
    async with destination_at(Cloud(), QUEUE) as (destination, server):
        await destination.send(discarded())
        await destination.send(discarded([record(1)]))
    look_up, first, second = server.received
    assert orjson.loads(look_up.body) == {"QueueName": "orders-failed", "QueueOwnerAWSAccountId": "123456789012"}
    assert sent(first) == invocation_record(discarded(), IDENTITY)
    assert sent(second) == invocation_record(discarded([record(1)]), IDENTITY)
    assert orjson.loads(first.body)["QueueUrl"] == "https://queue.example/123456789012/orders-failed"
    assert {scope_of(received) for received in server.received} == {"eu-west-3/sqs"}


async def test_a_topic_gets_the_record_in_its_own_region() -> None:
    async with destination_at(Cloud(), TOPIC) as (destination, server):
        await destination.send(discarded())
    (publish,) = server.received
    assert sent(publish) == invocation_record(discarded(), IDENTITY)
    assert parse_qs(publish.body.decode())["TopicArn"] == [TOPIC]
    assert scope_of(publish) == "eu-west-3/sns"


async def test_a_bucket_gets_the_object_with_the_payload_in_the_region_of_the_session() -> None:
    async with destination_at(Cloud(), BUCKET) as (destination, server):
        await destination.send(discarded())
    (put,) = server.received
    assert sent(put) == s3_record(discarded(), IDENTITY)
    assert urlsplit(put.url).path == f"/orders-failed/{s3_key(discarded(), IDENTITY)}"
    assert put.headers["Content-Type"] == "application/octet-stream"
    assert scope_of(put) == "us-east-1/s3"


@pytest.mark.parametrize("arn", KINDS)
async def test_the_name_is_the_arn_and_opening_calls_nobody(arn: str) -> None:
    async with destination_at(Cloud(), arn) as (destination, server):
        assert destination.name == arn
    assert server.received == []


@pytest.mark.parametrize("arn", ["orders", "arn:aws:kinesis:eu-west-1:123456789012:stream/s", "arn:aws:s3"])
async def test_another_arn_is_a_mistake(arn: str) -> None:
    with pytest.raises(ConfigError, match="no destination: name the ARN of an SQS queue"):
        async with opened("http://127.0.0.1:9", arn):
            pass


# --- the look-up of a queue ------------------------------------------------------------------------------------------


async def test_a_role_that_may_only_send_sends() -> None:
    async with destination_at(Cloud(denied=("GetQueueUrl",)), QUEUE) as (destination, server):
        await destination.send(discarded())
        await destination.send(discarded())
    look_up, first, second = server.received
    assert operation_of(look_up) == "GetQueueUrl"
    url = f"{server.url}/123456789012/orders-failed"
    assert orjson.loads(first.body)["QueueUrl"] == orjson.loads(second.body)["QueueUrl"] == url


async def test_a_queue_that_was_not_there_is_looked_up_again() -> None:
    missing = (400, "AWS.SimpleQueueService.NonExistentQueue")
    cloud = Cloud(missing, missing)
    async with destination_at(cloud, QUEUE) as (destination, server):
        with pytest.raises(DestinationError):
            await destination.send(discarded())
        await destination.send(discarded())
    assert cloud.operations == ["GetQueueUrl", "SendMessage", "GetQueueUrl", "SendMessage"]
    assert orjson.loads(server.received[-1].body)["QueueUrl"].startswith("https://queue.example/")


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.fault("F26")
@pytest.mark.parametrize(
    ("arn", "code", "next_step"),
    [
        (QUEUE, "QueueDoesNotExist", "aws sqs create-queue --queue-name orders-failed --region eu-west-3"),
        (TOPIC, "NotFound", "aws sns create-topic --name orders-failed --region eu-west-3"),
        (BUCKET, "NoSuchBucket", "aws s3 mb s3://orders-failed"),
        (QUEUE, "AccessDenied", f"it takes sqs:SendMessage on {QUEUE}"),
        (TOPIC, "AuthorizationError", f"it takes sns:Publish on {TOPIC}"),
        (BUCKET, "AccessDenied", f"it takes s3:PutObject on {BUCKET}"),
        (TOPIC, "KMSAccessDenied", "kms:GenerateDataKey and kms:Decrypt on its key"),
        (QUEUE, "InvalidClientTokenId", "check the access key"),
        (BUCKET, "SomethingNew", "because"),
    ],
)  # fmt: skip
async def test_a_refusal_says_what_where_why_and_the_next_step(arn: str, code: str, next_step: str) -> None:
    async with destination_at(Cloud(*[(403, code)] * 9), arn) as (destination, _):
        with pytest.raises(DestinationError) as failure:
            await destination.send(discarded([record(note="the secret")]))
    assert isinstance(failure.value.__cause__, ClientError)
    assert failure.value.code == code
    assert str(failure.value).startswith(f"{arn} did not take the batch: {code}: because")
    assert next_step in str(failure.value)
    assert "the secret" not in str(failure.value)
    assert "secret-of-the-test" not in str(failure.value)


@pytest.mark.parametrize("arn", KINDS)
@pytest.mark.parametrize(("status", "code"), [(503, "ServiceUnavailable"), (400, "ThrottlingException")])
async def test_a_service_in_trouble_is_an_error_until_it_is_well(arn: str, status: int, code: str) -> None:
    cloud = Cloud(*[(status, code)] * 50)
    async with destination_at(cloud, arn) as (destination, _):
        with pytest.raises(DestinationError) as failure:
            await destination.send(discarded())
        assert failure.value.code == code
        cloud.refusals.clear()
        await destination.send(discarded())


@pytest.mark.parametrize("arn", KINDS)
async def test_a_short_trouble_is_bridged_by_the_sdk(arn: str) -> None:
    async with (
        serving(Cloud((503, "ServiceUnavailable"))) as server,
        open_aws(AwsOptions(region="us-east-1", endpoint_url=server.url)) as aws,
        open_destination(arn, aws=aws, identity=IDENTITY) as destination,
    ):
        await destination.send(discarded())
    assert sent(server.received[-1])


@pytest.mark.parametrize("arn", KINDS)
async def test_a_connection_that_breaks_off_is_an_error(arn: str) -> None:
    truncated = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
    async with raw_server(truncated) as (port, _), opened(f"http://127.0.0.1:{port}", arn) as destination:
        with pytest.raises(DestinationError, match=f"^{arn} did not take the batch: ") as failure:
            await destination.send(discarded())
    assert failure.value.code


@pytest.mark.parametrize("arn", KINDS)
async def test_nobody_there_is_an_error(arn: str, unused_port: int) -> None:
    async with opened(f"http://127.0.0.1:{unused_port}", arn) as destination:
        with pytest.raises(DestinationError, match="cannot reach the service") as failure:
            await destination.send(discarded())
    assert failure.value.code == "EndpointConnectionError"


@pytest.mark.parametrize("arn", KINDS)
async def test_a_service_that_falls_silent_is_an_error_in_the_end(arn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SEND_TIMEOUT_S", 0.2)
    async with silent_server() as (url, _), opened(url, arn) as destination:
        with pytest.raises(DestinationError, match=r"within 0\.2 s") as failure:
            await destination.send(discarded())
    assert failure.value.code == "Timeout"


@pytest.mark.parametrize("arn", KINDS)
async def test_a_send_may_be_cancelled(arn: str) -> None:
    async with silent_server() as (url, asked), opened(url, arn) as destination, anyio.create_task_group() as tasks:
        tasks.start_soon(destination.send, discarded())
        with anyio.fail_after(10):
            await asked.wait()
        tasks.cancel_scope.cancel()
    assert tasks.cancel_scope.cancelled_caught


@pytest.mark.parametrize("arn", KINDS)
async def test_keys_that_were_renewed_in_a_file_are_used(
    arn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    cloud = Cloud()

    def answer(received: Received) -> web.Response:
        if received.access_key == "AKIDOLD":
            return refused(received, 403, "ExpiredToken")
        return json_answer({}) if "Streams" in received.headers.get("X-Amz-Target", "") else cloud(received)

    write_keys(credentials, "AKIDOLD")
    async with serving(answer) as server, AsyncExitStack() as stack:
        aws = await stack.enter_async_context(open_aws(AwsOptions(region="us-east-1", endpoint_url=server.url)))
        destination = await stack.enter_async_context(open_destination(arn, aws=aws, identity=IDENTITY))
        wire = await stack.enter_async_context(aws.open_wire("dynamodbstreams"))
        with pytest.raises(DestinationError, match="renew the credentials"):
            await destination.send(discarded())
        write_keys(credentials, "AKIDNEW")
        await wire.call("DynamoDBStreams_20120810.GetRecords", b"{}")
        await destination.send(discarded())
        await destination.send(discarded())
    assert server.received[-1].access_key == "AKIDNEW"


def write_keys(file: Path, access_key: str) -> None:
    file.write_text(f"[default]\naws_access_key_id = {access_key}\naws_secret_access_key = s\n")


@pytest.fixture
async def unused_port() -> int:
    async with raw_server(b"") as (port, _):
        return port


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[str, anyio.Event]]:
    """Takes connections and never answers; the event is set at the first request."""
    asked = anyio.Event()

    async def listen(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            async for _ in stream:
                asked.set()

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, listen)
        yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}", asked
        tasks.cancel_scope.cancel()
