"""The wire against servers on loopback: what it sends, what it mends by itself, and what it makes of bad answers."""

from __future__ import annotations

import gzip
import math
import socket
import ssl
import threading
import zlib
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trustme
from aiohttp import web

from scripted_aws import Received, ScriptedServer, isolate, json_answer, raw_server, refusal, serving
from streamflow.aws.session import open_aws
from streamflow.errors import AccessDeniedError, ConfigError, SourceError, ThrottledError
from streamflow.pipeline import AwsOptions
from streamflow.testing.proxies import open_fault_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from streamflow.aws.wire import Wire

pytestmark = pytest.mark.anyio

TARGET = "DynamoDBStreams_20120810.GetRecords"
NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


class FixedClock:
    """Wall time stands at what it was given; monotonic time at 0."""

    def __init__(self, wall_s: float) -> None:
        self.wall_s = wall_s

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return self.wall_s


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch)


@asynccontextmanager
async def wire_to(url: str, *, ca_bundle: str | None = None, clock: FixedClock | None = None) -> AsyncIterator[Wire]:
    options = AwsOptions(region="eu-west-1", endpoint_url=url, ca_bundle=ca_bundle)
    async with open_aws(options, clock=clock) as aws, aws.open_wire("dynamodbstreams") as wire:
        yield wire


@asynccontextmanager
async def wire_to_answer(answer: web.Response) -> AsyncIterator[Wire]:
    async with serving(lambda _: answer) as server, wire_to(server.url) as wire:
        yield wire


async def refused(server: ScriptedServer) -> SourceError:
    with pytest.raises(SourceError) as caught:
        async with wire_to(server.url) as wire:
            await wire.call(TARGET, b"{}")
    return caught.value


# --- what it sends ---------------------------------------------------------------------------------------------------


async def test_a_call_is_signed_for_service_region_and_target() -> None:
    answer = json_answer({"ok": 1}, Date=format_datetime(NOW, usegmt=True))
    async with serving(lambda _: answer) as server, wire_to(server.url) as wire:
        response = await wire.call(TARGET, b'{"Limit":1}')
    assert response.body == b'{"ok":1}'
    assert response.server_time_s == NOW.timestamp()
    (received,) = server.received
    assert received.body == b'{"Limit":1}'
    assert received.headers["X-Amz-Target"] == TARGET
    assert received.headers["Content-Type"] == "application/x-amz-json-1.0"
    assert received.headers["Host"] == f"127.0.0.1:{server.port}"
    assert "/eu-west-1/dynamodb/aws4_request" in received.headers["Authorization"]
    assert "X-Amz-Security-Token" not in received.headers


async def test_a_session_token_is_sent_and_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-the-test")
    async with serving(lambda _: json_answer({})) as server, wire_to(server.url) as wire:
        await wire.call(TARGET, b"{}")
    assert server.received[0].headers["X-Amz-Security-Token"] == "token-of-the-test"
    assert "x-amz-security-token" in server.received[0].headers["Authorization"]


async def test_a_netrc_entry_does_not_replace_the_signature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with serving(lambda _: json_answer({})) as server, wire_to(server.url) as wire:
        await wire.call(TARGET, b"{}")
    assert server.received[0].access_key == "AKIDEXAMPLE"


# --- what it mends by itself -----------------------------------------------------------------------------------------


def clock_guard(received: Received) -> web.Response:
    """Refuses a request signed more than five minutes off, in DynamoDB's words."""
    signed_at = datetime.strptime(received.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    date = format_datetime(NOW, usegmt=True)
    if abs(NOW - signed_at) > timedelta(minutes=5):
        return refusal("InvalidSignatureException", "Signature expired: it is now later", status=400, Date=date)
    return json_answer({}, Date=date)


@pytest.mark.fault("F34")
@pytest.mark.parametrize("hours_off", [-2, 3])
async def test_a_wrong_clock_is_corrected_once_and_stays_corrected(hours_off: int) -> None:
    clock = FixedClock((NOW + timedelta(hours=hours_off)).timestamp())
    async with serving(clock_guard) as server, wire_to(server.url, clock=clock) as wire:
        await wire.call(TARGET, b"{}")
        assert len(server.received) == 2
        await wire.call(TARGET, b"{}")
        assert len(server.received) == 3


async def test_a_bad_signature_at_the_right_time_is_not_repeated() -> None:
    def answer(_: Received) -> web.Response:
        return refusal("InvalidSignatureException", "it does not match", Date=format_datetime(NOW, usegmt=True))

    async with serving(answer) as server, wire_to(server.url, clock=FixedClock(NOW.timestamp())) as wire:
        with pytest.raises(AccessDeniedError, match="check the access key"):
            await wire.call(TARGET, b"{}")
    assert len(server.received) == 1


@pytest.mark.fault("F34")
async def test_a_clock_that_cannot_be_corrected_is_blamed() -> None:
    def answer(_: Received) -> web.Response:
        return refusal("RequestTimeTooSkewed", "too far", Date=format_datetime(NOW, usegmt=True))

    async with serving(answer) as server, wire_to(server.url, clock=FixedClock(0.0)) as wire:
        with pytest.raises(AccessDeniedError, match="this machine's clock"):
            await wire.call(TARGET, b"{}")
    assert len(server.received) == 2


def only_new_token(received: Received) -> web.Response:
    if received.headers["X-Amz-Security-Token"] == "new":
        return json_answer({})
    return refusal("ExpiredTokenException", "The security token included in the request is expired")


@pytest.mark.fault("F34")
async def test_an_expired_token_is_looked_up_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "old")
    async with serving(only_new_token) as server, wire_to(server.url) as wire:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "new")
        await wire.call(TARGET, b"{}")
    assert [received.headers["X-Amz-Security-Token"] for received in server.received] == ["old", "new"]


@pytest.mark.fault("F34")
async def test_an_expired_token_without_a_new_one_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "old")
    async with serving(only_new_token) as server, wire_to(server.url) as wire:
        with pytest.raises(AccessDeniedError, match="renew the credentials") as caught:
            await wire.call(TARGET, b"{}")
    assert caught.value.code == "ExpiredTokenException"
    assert len(server.received) == 1


# --- bad answers -----------------------------------------------------------------------------------------------------


@pytest.mark.fault("F32")
async def test_throttling_says_how_long_to_wait() -> None:
    async with serving(lambda _: refusal("ThrottlingException", Retry_After="7")) as server:
        error = await refused(server)
    assert isinstance(error, ThrottledError)
    assert (error.code, error.retry_after_s) == ("ThrottlingException", 7.0)


async def test_nobody_can_make_a_shard_wait_for_ever() -> None:
    async with serving(lambda _: refusal("ThrottlingException", Retry_After="9" * 400)) as server:
        error = await refused(server)
    assert isinstance(error, ThrottledError)
    assert error.retry_after_s == 300.0


async def test_a_refusal_that_is_nested_beyond_reason_is_transient() -> None:
    async with serving(lambda _: web.Response(status=500, text='{"a":' + "[" * 5_000)) as server:
        assert (await refused(server)).code == "HTTP500"


@pytest.mark.fault("F32")
async def test_a_load_balancers_page_is_transient() -> None:
    async with serving(lambda _: web.Response(status=503, text="<html>busy</html>")) as server:
        error = await refused(server)
    assert type(error) is SourceError
    assert error.code == "HTTP503"


async def test_the_error_code_may_come_in_a_header() -> None:
    headers = {"x-amzn-ErrorType": "LimitExceededException:http://internal.amazon.com/"}
    async with serving(lambda _: web.Response(status=400, headers=headers)) as server:
        assert isinstance(await refused(server), ThrottledError)


async def test_a_redirect_is_not_followed() -> None:
    async with serving(lambda _: web.Response(status=307, headers={"Location": "/elsewhere"})) as server:
        error = await refused(server)
        assert error.code == "HTTP307"
        assert len(server.received) == 1


@pytest.mark.fault("F35")
async def test_a_body_with_a_wrong_checksum_is_corrupt() -> None:
    async with serving(lambda _: json_answer({"Records": []}, x_amz_crc32="1")) as server:
        error = await refused(server)
    assert type(error) is SourceError
    assert error.code == "CorruptAnswer"


@pytest.mark.fault("F35")
async def test_a_body_that_is_no_text_is_corrupt() -> None:
    async with serving(lambda _: web.Response(body=b'{"Records":["\xff\xfe"]}')) as server:
        error = await refused(server)
    assert type(error) is SourceError
    assert error.code == "CorruptAnswer"


@pytest.mark.fault("F35")
async def test_a_connection_cut_within_the_body_is_transient() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b'{"Records":['
    async with raw_server(half) as (port, _), wire_to(f"http://127.0.0.1:{port}") as wire:
        with pytest.raises(SourceError, match="truncated") as caught:
            await wire.call(TARGET, b"{}")
    assert type(caught.value) is SourceError


async def test_a_packed_body_is_unpacked_behind_its_checksum() -> None:
    packed = gzip.compress(b'{"ok":1}')
    headers = {"Content-Encoding": "gzip", "x-amz-crc32": str(zlib.crc32(packed))}
    async with wire_to_answer(web.Response(body=packed, headers=headers)) as wire:
        assert (await wire.call(TARGET, b"{}")).body == b'{"ok":1}'


async def test_a_packed_body_that_is_cut_is_corrupt() -> None:
    async with serving(
        lambda _: web.Response(body=gzip.compress(b'{"ok":1}')[:-9], headers={"Content-Encoding": "gzip"})
    ) as server:
        assert (await refused(server)).code == "CorruptAnswer"


@pytest.mark.fault("F13")
async def test_a_packed_body_is_unpacked_no_further_than_an_answer_may_be_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamflow.aws.wire._BODY_BYTES_MAX", 100_000)
    bomb = gzip.compress(b'{"Records":[' + bytes(10_000_000))
    assert len(bomb) < 100_000
    async with serving(lambda _: web.Response(body=bomb, headers={"Content-Encoding": "gzip"})) as server:
        assert (await refused(server)).code == "CorruptAnswer"


@pytest.mark.fault("F13")
@pytest.mark.parametrize("says_how_long", [True, False])
async def test_a_body_is_read_no_further_than_an_answer_may_be_long(
    says_how_long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamflow.aws.wire._BODY_BYTES_MAX", 100_000)
    head = b"Content-Length: 500000\r\n" if says_how_long else b""
    async with (
        raw_server(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + b"x" * 400_000) as (port, _),
        wire_to(f"http://127.0.0.1:{port}") as wire,
    ):
        with pytest.raises(SourceError, match="more than 100000 bytes"):
            await wire.call(TARGET, b"{}")


async def test_whatever_ends_a_call_gives_its_turn_and_its_connection_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamflow.aws.wire.CONNECTIONS_MAX", 1)
    monkeypatch.setattr("streamflow.aws.wire._BODY_BYTES_MAX", 100)
    answers = iter([bytes(1_000_000), b"{}", b"{}", b"{}"])
    async with (
        serving(lambda _: web.Response(body=next(answers))) as server,
        open_fault_proxy("127.0.0.1", server.port) as proxy,
        wire_to(f"http://127.0.0.1:{proxy.port}") as wire,
    ):
        with pytest.raises(SourceError, match="more than 100 bytes"):
            await wire.call(TARGET, b"{}")
        proxy.delay(math.inf)
        with anyio.move_on_after(0.2) as given_up:
            await wire.call(TARGET, b"{}")
        assert given_up.cancelled_caught
        proxy.pass_through()
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wire.call, TARGET, b"{}")
                tasks.start_soon(wire.call, TARGET, b"{}")


@pytest.mark.fault("F35")
async def test_an_answer_that_is_no_http_is_told_without_quoting_it() -> None:
    async with raw_server(b'{"Records":["secret"]}\r\n\r\n') as (port, _), wire_to(f"http://127.0.0.1:{port}") as wire:
        with pytest.raises(SourceError, match="an answer that is no HTTP") as caught:
            await wire.call(TARGET, b"{}")
    assert type(caught.value) is SourceError
    assert "secret" not in str(caught.value)


async def test_a_body_that_does_not_say_how_long_it_is_is_read_to_its_end() -> None:
    whole = b'HTTP/1.1 200 OK\r\n\r\n{"ok":1}'
    async with raw_server(whole) as (port, _), wire_to(f"http://127.0.0.1:{port}") as wire:
        assert (await wire.call(TARGET, b"{}")).body == b'{"ok":1}'


@pytest.mark.fault("F38")
async def test_a_server_that_says_nothing_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamflow.aws.wire.TOTAL_TIMEOUT_S", 0.2)
    async with (
        serving(lambda _: json_answer({})) as server,
        open_fault_proxy("127.0.0.1", server.port) as proxy,
        wire_to(f"http://127.0.0.1:{proxy.port}") as wire,
    ):
        proxy.delay(math.inf)
        with anyio.fail_after(10), pytest.raises(SourceError, match="no answer in time") as caught:
            await wire.call(TARGET, b"{}")
        assert caught.value.code == "TimeoutError"
        proxy.pass_through()
        await wire.call(TARGET, b"{}")


# --- names -----------------------------------------------------------------------------------------------------------


class Names:
    """Stands in for the resolver of the machine: `fails` so often, `waits` for a word, then leads to this machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fails = 0
        self.threads: set[int] = set()
        self.asked = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self.look_up)

    def look_up(self, host: str, *args: Any, **named: Any) -> Any:
        if host != "streams.example":
            return self._real(host, *args, **named)
        self.threads.add(threading.get_ident())
        self.asked.set()
        self.may_answer.wait()
        if self.fails:
            self.fails -= 1
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._real("127.0.0.1", *args, **named)


@pytest.mark.fault("F37")
async def test_a_name_that_is_not_known_is_told_and_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch)
    names.fails = 2
    async with (
        serving(lambda _: json_answer({"ok": 1})) as server,
        wire_to(f"http://streams.example:{server.port}") as wire,
    ):
        for _ in range(2):
            with pytest.raises(SourceError, match=r"cannot reach the service: .*streams\.example") as caught:
                await wire.call(TARGET, b"{}")
            assert type(caught.value) is SourceError
        assert (await wire.call(TARGET, b"{}")).body == b'{"ok":1}'


@pytest.mark.fault("F37")
async def test_a_resolver_that_does_not_answer_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch)
    names.may_answer.clear()
    answers: list[bytes] = []
    async with (
        serving(lambda _: json_answer({"ok": 1})) as server,
        wire_to(f"http://streams.example:{server.port}") as slow,
        wire_to(server.url) as quick,
        anyio.create_task_group() as tasks,
    ):

        async def ask() -> None:
            answers.append((await slow.call(TARGET, b"{}")).body)

        tasks.start_soon(ask)
        await anyio.to_thread.run_sync(names.asked.wait)
        assert (await quick.call(TARGET, b"{}")).body == b'{"ok":1}'
        assert not answers
        names.may_answer.set()
    assert answers == [b'{"ok":1}']
    assert threading.get_ident() not in names.threads


async def test_an_unreachable_endpoint_is_named() -> None:
    async with raw_server(b"") as (port, _):
        pass
    async with wire_to(f"http://127.0.0.1:{port}") as wire:
        with pytest.raises(SourceError, match=f"127.0.0.1:{port}") as caught:
            await wire.call(TARGET, b"{}")
    assert caught.value.code == "ClientConnectorError"


# --- proxies and endpoints -------------------------------------------------------------------------------------------


async def test_calls_that_wait_for_a_connection_have_it_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamflow.aws.wire.CONNECTIONS_MAX", 1)
    served: list[str] = []

    async def call_on(wire: Wire, caller: str) -> None:
        for _ in range(5):
            await wire.call(TARGET, b"{}")
            served.append(caller)

    async with (
        serving(lambda _: json_answer({})) as server,
        wire_to(server.url) as wire,
        anyio.create_task_group() as tasks,
    ):
        for caller in "abc":
            tasks.start_soon(call_on, wire, caller)
    assert {frozenset(served[start : start + 3]) for start in range(0, 15, 3)} == {frozenset("abc")}


async def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(lambda _: json_answer({"by": "proxy"})) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with wire_to("http://streams.example:8000") as wire:
            assert (await wire.call(TARGET, b"{}")).body == b'{"by":"proxy"}'
    assert proxy.received[0].url == "http://streams.example:8000/"
    assert proxy.received[0].headers["Host"] == "streams.example:8000"


async def test_no_proxy_is_used_for_what_no_proxy_names(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(lambda _: json_answer({})) as proxy, serving(lambda _: json_answer({})) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        async with wire_to(server.url) as wire:
            await wire.call(TARGET, b"{}")
    assert (len(proxy.received), len(server.received)) == (0, 1)


@pytest.mark.parametrize(
    ("variables", "host"),
    [
        ({}, "streams.dynamodb.us-east-1.amazonaws.com"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "streams.dynamodb-fips.us-east-1.amazonaws.com"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "streams-dynamodb.us-east-1.api.aws"),
        ({"AWS_ENDPOINT_URL_DYNAMODB_STREAMS": "https://streams.example"}, "streams.example"),
    ],
)
async def test_the_endpoint_is_the_one_of_the_sdk(
    variables: dict[str, str], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with raw_server(b"HTTP/1.1 502 Bad Gateway\r\n\r\n") as (port, first_lines):
        monkeypatch.setenv("HTTPS_PROXY", f"http://somebody:hush@127.0.0.1:{port}")
        async with open_aws(AwsOptions(region="us-east-1")) as aws, aws.open_wire("dynamodbstreams") as wire:
            with pytest.raises(SourceError, match="proxy refused: HTTP 502") as caught:
                await wire.call(TARGET, b"{}")
    assert first_lines == [f"CONNECT {host}:443 HTTP/1.1"]
    assert "hush" not in str(caught.value)


# --- TLS -------------------------------------------------------------------------------------------------------------


def server_tls(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.mark.fault("F36")
async def test_an_unknown_authority_is_refused() -> None:
    async with serving(lambda _: json_answer({}), tls=server_tls(trustme.CA(), "127.0.0.1")) as server:
        error = await refused(server)
        assert "ca_bundle" in str(error)
        assert not server.received


@pytest.mark.parametrize("given_by", ["option", "environment"])
async def test_a_private_authority_is_trusted_where_it_is_named(
    given_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, bundle = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    if given_by == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    async with (
        serving(lambda _: json_answer({"ok": 1}), tls=server_tls(authority, "127.0.0.1")) as server,
        wire_to(server.url, ca_bundle=str(bundle) if given_by == "option" else None) as wire,
    ):
        assert (await wire.call(TARGET, b"{}")).body == b'{"ok":1}'


@pytest.mark.fault("F36")
async def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    authority, bundle = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    async with serving(lambda _: json_answer({}), tls=server_tls(authority, "streams.example")) as server:
        async with wire_to(server.url, ca_bundle=str(bundle)) as wire:
            with pytest.raises(SourceError, match="TLS failed"):
                await wire.call(TARGET, b"{}")
        assert not server.received


@pytest.mark.fault("F36")
async def test_a_certificate_whose_time_is_over_is_refused(tmp_path: Path) -> None:
    authority, bundle = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    past = datetime(2001, 1, 1, tzinfo=UTC)
    authority.issue_cert("127.0.0.1", not_before=past, not_after=past + timedelta(days=1)).configure_cert(context)
    async with serving(lambda _: json_answer({}), tls=context) as server:
        async with wire_to(server.url, ca_bundle=str(bundle)) as wire:
            with pytest.raises(SourceError, match=r"TLS failed: .*expired"):
                await wire.call(TARGET, b"{}")
        assert not server.received


@pytest.mark.fault("F36")
async def test_nothing_is_said_in_the_clear_to_a_port_without_tls() -> None:
    async with serving(lambda _: json_answer({})) as server:
        async with wire_to(f"https://127.0.0.1:{server.port}") as wire:
            with pytest.raises(SourceError, match="TLS failed"):
                await wire.call(TARGET, b"{}")
        assert not server.received


async def test_a_bundle_that_holds_no_certificates_is_a_mistake_of_the_declaration(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("nothing")
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        async with wire_to("https://127.0.0.1:1", ca_bundle=str(bundle)):
            pass
