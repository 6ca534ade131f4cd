"""The admin server over real sockets on loopback: pages, refusals, bounds."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from streamflow.admin import server
from streamflow.admin.server import open_admin
from streamflow.errors import ConfigError, StoreError
from streamflow.events import PageRead, PipelineFailed, PipelineStarted, ShardOpened
from streamflow.http_options import HttpOptions
from streamflow.observe.health import Health
from streamflow.observe.metrics import Metrics
from streamflow.observe.progress import Progress
from streamflow.positions import TRIM_HORIZON

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from prometheus_client.core import Metric

pytestmark = pytest.mark.anyio

TOKEN = "0123456789abcdef-._~+/="
STARTED = PipelineStarted(pipeline="orders", stream_arn="arn:x", shards=0)


class Admin:
    """An open server, what it shows, and a client."""

    def __init__(self, url: str, client: aiohttp.ClientSession, registry: CollectorRegistry) -> None:
        self.url = url
        self.client = client
        self.registry = registry
        self.health = Health()
        self.progress = Progress()

    async def ask(self, path: str, *, method: str = "GET", **options: Any) -> tuple[int, str, dict[str, str]]:
        async with self.client.request(method, self.url + path, **options) as response:
            return response.status, await response.text(), dict(response.headers)

    async def raw(self, request: bytes) -> bytes:
        """Send bytes, and read until the server closes."""
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(request)
            answer = b""
            with anyio.fail_after(10):
                async for part in stream:
                    answer += part
            return answer


@asynccontextmanager
async def opened(host: str = "127.0.0.1", *, status: bool = True, **options: Any) -> AsyncGenerator[Admin]:
    registry = CollectorRegistry()
    admin = Admin("", aiohttp.ClientSession(), registry)
    async with (
        admin.client,
        open_admin(
            HttpOptions(host=host, **options),
            registry=registry,
            health=admin.health,
            progress=admin.progress if status else None,
        ) as url,
    ):
        admin.url = url
        yield admin


async def test_what_a_client_sends_wrongly_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    wrong = f"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\x01\r\n\r\n"
    async with opened(token=SecretStr(TOKEN)) as admin:
        assert (await admin.raw(wrong.encode())).startswith(b"HTTP/1.0 400 ")
    assert caplog.records == []


# --- pages -----------------------------------------------------------------------------------------------------------


async def test_metrics_come_as_text() -> None:
    async with opened() as admin:
        Metrics(admin.registry)(STARTED)
        status, text, headers = await admin.ask("/metrics")
    assert status == 200
    assert 'streamflow_pipeline_running{pipeline="orders"} 1.0' in text
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")


async def test_metrics_come_as_openmetrics_where_the_scraper_asks_for_it() -> None:
    async with opened() as admin:
        Metrics(admin.registry)
        accept = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5"
        _, text, headers = await admin.ask("/metrics", headers={"Accept": accept})
    assert text.endswith("# EOF\n")
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")


async def test_probes_answer_with_their_reasons() -> None:
    async with opened() as admin:
        status, text, _ = await admin.ask("/readyz")
        assert (status, json.loads(text)) == (503, {"ok": False, "reasons": ["no pipeline has started yet"]})
        assert (await admin.ask("/livez"))[0] == 200
        admin.health(STARTED)
        status, text, _ = await admin.ask("/readyz")
        assert (status, json.loads(text)) == (200, {"ok": True, "reasons": []})
        admin.health(PipelineFailed(pipeline="orders", error=StoreError("no")))
        assert (await admin.ask("/livez"))[0] == 503


async def test_status_is_the_progress_as_json() -> None:
    async with opened() as admin:
        admin.progress(STARTED)
        status, text, _ = await admin.ask("/status")
    assert status == 200
    (orders,) = json.loads(text)["pipelines"]
    assert (orders["state"], orders["last_processing_result"]) == ("running", "No records processed")


async def test_without_progress_there_is_no_status() -> None:
    async with opened(status=False) as admin:
        assert (await admin.ask("/status"))[0] == 404


async def test_head_is_answered_without_a_body() -> None:
    async with opened() as admin:
        status, text, _ = await admin.ask("/livez", method="HEAD")
    assert (status, text) == (200, "")


class Probe:
    """A collector that notes the thread it is asked in."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.threads: set[int] = set()

    def collect(self) -> Iterator[Metric]:
        self.threads.add(threading.get_ident())
        yield from self.metrics.collect()


@pytest.mark.fault("F55")
async def test_a_scrape_with_a_thousand_shards_is_rendered_off_the_loop_thread() -> None:
    async with opened() as admin:
        metrics = Metrics(CollectorRegistry())
        probe = Probe(metrics)
        admin.registry.register(probe)
        for number in range(1_000):
            shard_id = f"shard-{number}"
            metrics(ShardOpened(pipeline="orders", shard_id=shard_id, start=TRIM_HORIZON, epoch=1))
        _, text, _ = await admin.ask("/metrics")
    assert text.count("streamflow_shard_iterator_age_seconds{") == 201
    assert len(probe.threads) == 1
    assert threading.get_ident() not in probe.threads


class Slow:
    """A collector that events overtake: while it is being rendered, the loop goes on changing shards."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def collect(self) -> Iterator[Metric]:
        families = self.metrics.collect()
        yield next(families)
        self.entered.set()
        assert self.go_on.wait(10)
        yield from families


@pytest.mark.fault("F55")
async def test_events_go_on_during_a_scrape() -> None:
    answers: list[tuple[int, str, dict[str, str]]] = []
    async with opened() as admin, anyio.create_task_group() as tasks:
        metrics = Metrics(CollectorRegistry())
        slow = Slow(metrics)
        admin.registry.register(slow)

        async def scrape() -> None:
            answers.append(await admin.ask("/metrics"))

        tasks.start_soon(scrape)
        await anyio.to_thread.run_sync(slow.entered.wait, 10)
        for number in range(100):
            shard_id = f"shard-{number}"
            metrics(ShardOpened(pipeline="orders", shard_id=shard_id, start=TRIM_HORIZON, epoch=1))
            metrics(
                PageRead(
                    pipeline="orders", shard_id=shard_id, records=0, bytes=0, duration_s=0.1, last_created_at_s=None
                )
            )
        assert (await admin.ask("/livez"))[0] == 200
        slow.go_on.set()
    assert answers[0][0] == 200


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/metrics", "/nothing"])
async def test_only_get_and_head_are_served(method: str, path: str) -> None:
    async with opened() as admin:
        status, _, headers = await admin.ask(path, method=method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9102", "127.0.0.1.evil.example", "localhost.", "", "[::1", "127.0.0.2"]
)
async def test_another_name_for_loopback_is_refused(host: str) -> None:
    async with opened() as admin:
        assert (await admin.ask("/metrics", headers={"Host": host}))[0] in {400, 421}


async def test_two_host_headers_are_refused() -> None:
    async with opened() as admin:
        answer = await admin.raw(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
    assert answer.split(b" ")[1] in {b"400", b"421"}


async def test_an_absolute_target_does_not_get_around_the_host_header() -> None:
    async with opened() as admin:
        answer = await admin.raw(b"GET http://localhost/metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert answer.split(b" ")[1] == b"421"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9102", "[::1]", "[::1]:9102"])
async def test_the_names_of_loopback_are_served(host: str) -> None:
    async with opened() as admin:
        assert (await admin.ask("/livez", headers={"Host": host}))[0] == 200


async def test_beyond_loopback_any_name_is_served() -> None:
    async with opened("0.0.0.0", without_token=True) as admin:
        assert admin.url.startswith("http://127.0.0.1:")
        assert (await admin.ask("/livez", headers={"Host": "pod-7.example"}))[0] == 200


@pytest.mark.fault("F56")
async def test_a_body_is_refused_unread() -> None:
    async with opened() as admin:
        answer = await admin.raw(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\nx")
    assert answer.split(b" ")[1] == b"413"


@pytest.mark.fault("F56")
@pytest.mark.parametrize(
    "headers", [b"X: " + b"x" * 20_000 + b"\r\n", b"".join(b"X-%d: x\r\n" % number for number in range(500))]
)
async def test_large_and_many_headers_are_refused(headers: bytes) -> None:
    async with opened() as admin:
        answer = await admin.raw(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n")
    assert answer.split(b" ")[1] in {b"400", b"431"}


async def test_answers_are_neither_cached_nor_sniffed_nor_kept_alive() -> None:
    async with opened() as admin:
        for path in ("/livez", "/nothing"):
            _, _, headers = await admin.ask(path)
            assert headers["Cache-Control"] == "no-store"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Connection"] == "close"
            assert headers["Server"] == "streamflow"


# --- the token -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_with_the_token_everything_is_read(host: str, scheme: str) -> None:
    async with opened(host, token=TOKEN) as admin:
        Metrics(admin.registry)(STARTED)
        known = {"Authorization": f"{scheme} {TOKEN}"}
        status, text, _ = await admin.ask("/metrics", headers=known)
        assert (status, "streamflow_pipeline_running" in text) == (200, True)
        assert (await admin.ask("/status", headers=known))[0] == 200
        assert (await admin.ask("/nothing", headers=known))[0] == 404
        status, text, _ = await admin.ask("/readyz", headers=known)
        assert (status, json.loads(text)["reasons"]) == (503, ["no pipeline has started yet"])


@pytest.mark.parametrize(
    "sent",
    [
        [],
        [b"Authorization: "],
        [b"Authorization: Bearer"],
        [b"Authorization: Bearer " + TOKEN[:-1].encode()],
        [b"Authorization: Bearer " + TOKEN.encode() + b"="],
        [b"Authorization: Bearer " + TOKEN.upper().encode()],
        [b"Authorization: Basic " + TOKEN.encode()],
        [b"Authorization: " + TOKEN.encode()],
        [b"Authorization: Bearer \xff\xe9"],
        [b"Authorization: Bearer " + TOKEN.encode(), b"Authorization: Bearer x"],
        [b"Cookie: token=" + TOKEN.encode()],
    ],
    ids=lambda sent: b" and ".join(sent).decode("latin-1") or "nothing",
)
@pytest.mark.parametrize("path", ["/metrics", "/status", "/nothing", "//livez", "/livez/../metrics"])
async def test_without_the_token_nothing_is_told(path: str, sent: list[bytes]) -> None:
    async with opened(token=TOKEN) as admin:
        Metrics(admin.registry)(STARTED)
        lines = [b"GET " + path.encode() + b" HTTP/1.1", b"Host: localhost", *sent, b"", b""]
        answer = await admin.raw(b"\r\n".join(lines))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] in {b"401", b"400"}
    assert b"orders" not in body
    assert TOKEN.encode() not in answer
    if head.split(b" ")[1] == b"401":
        assert b"WWW-Authenticate: Bearer" in head


async def test_probes_need_no_token_and_then_give_no_reasons() -> None:
    async with opened("0.0.0.0", token=TOKEN) as admin:
        status, text, _ = await admin.ask("/readyz", headers={"Host": "10.1.2.3:9102"})
        assert (status, json.loads(text)) == (503, {"ok": False})
        status, text, _ = await admin.ask("/livez")
        assert (status, json.loads(text)) == (200, {"ok": True})


async def test_with_the_token_another_name_for_loopback_is_still_refused() -> None:
    async with opened(token=TOKEN) as admin:
        headers = {"Host": "evil.example", "Authorization": f"Bearer {TOKEN}"}
        assert (await admin.ask("/metrics", headers=headers))[0] == 421


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "worker.example", "localhost.example"])
def test_beyond_loopback_a_token_is_asked_for_or_said_not_to_be(host: str) -> None:
    with pytest.raises(ConfigError, match=r"host is beyond loopback: set token .* or without_token = true where"):
        HttpOptions(host=host)
    assert HttpOptions(host=host, token=SecretStr(TOKEN)).token is not None
    assert HttpOptions(host=host, without_token=True).token is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost", "LOCALHOST"])
def test_on_loopback_no_token_is_asked_for(host: str) -> None:
    assert HttpOptions(host=host).on_loopback


def test_a_token_and_none_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        HttpOptions(token=SecretStr(TOKEN), without_token=True)


@pytest.mark.parametrize("token", ["", "hunter2", "hunter2" * 3 + "\n", "hunter2 hunter2 hunter2", "hunter2é" * 3])
def test_what_is_no_token_is_told_without_it(token: str) -> None:
    wrong: dict[str, Any] = {"token": token}
    with pytest.raises(ConfigError, match="openssl rand -hex 32") as caught:
        HttpOptions(**wrong)
    assert "hunter2" not in str(caught.value)


def test_the_token_is_in_no_text_of_the_options() -> None:
    options = HttpOptions(token=SecretStr(TOKEN))
    assert TOKEN not in repr(options) + str(options) + options.model_dump_json()


# --- bounds ----------------------------------------------------------------------------------------------------------


@pytest.mark.fault("F56")
async def test_of_too_many_connections_the_oldest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 2)
    async with opened() as admin:
        host, port = admin.url.removeprefix("http://").rsplit(":", 1)
        async with (
            await anyio.connect_tcp(host, int(port)) as first,
            await anyio.connect_tcp(host, int(port)) as second,
        ):
            await first.send(b"GET /live")
            await second.send(b"GET /live")
            with anyio.fail_after(10):
                assert (await admin.raw(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")).startswith(b"HTTP/1.1 200")
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await first.receive()
                await second.send(b"z HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert (await second.receive()).startswith(b"HTTP/1.1 200")


@pytest.mark.fault("F56")
async def test_a_client_that_never_finishes_its_headers_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTION_LIFE_S", 0.05)
    async with opened() as admin:
        host, port = admin.url.removeprefix("http://").rsplit(":", 1)
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(b"GET /livez HTTP/1.1\r\nHo")
            with anyio.fail_after(5), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()


async def test_a_taken_port_is_explained() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            async with open_admin(HttpOptions(port=port), registry=CollectorRegistry(), health=Health()):
                raise AssertionError("it must not open")
    assert f"127.0.0.1 port {port}" in str(caught.value)
    assert "port 0" in str(caught.value)


async def test_a_host_that_is_not_ours_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1"):
        async with open_admin(
            HttpOptions(host="192.0.2.1", token=SecretStr(TOKEN)), registry=CollectorRegistry(), health=Health()
        ):
            raise AssertionError("it must not open")


async def test_the_port_is_free_again_after_the_context() -> None:
    async with opened() as admin:
        port = int(admin.url.rsplit(":", 1)[1])
        await admin.ask("/livez")
    async with open_admin(HttpOptions(port=port), registry=CollectorRegistry(), health=Health()) as url:
        assert url == f"http://127.0.0.1:{port}"


async def test_an_error_of_the_host_comes_out_as_it_is() -> None:
    with pytest.raises(StoreError, match=r"^disk full$"):
        async with opened():
            raise StoreError("disk full")


async def test_ipv6_loopback_is_served_where_the_machine_has_it() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no ::1")
    async with opened("::1") as admin:
        assert admin.url.startswith("http://[::1]:")
        assert (await admin.ask("/livez"))[0] == 200


async def test_who_asks_for_metrics_soon_after_somebody_else_gets_the_same_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened() as admin:
        Metrics(admin.registry)(STARTED)
        before = await admin.ask("/metrics")
        admin.registry.unregister(next(iter(admin.registry._collector_to_names)))
        after = await admin.ask("/metrics")
        assert after[1] == before[1]
        monkeypatch.setattr(server, "PAGE_AGE_S_MAX", 0.0)
        assert (await admin.ask("/metrics"))[1] != before[1]


async def test_the_page_of_metrics_is_in_the_form_that_is_asked_for() -> None:
    async with opened() as admin:
        Metrics(admin.registry)(STARTED)
        await admin.ask("/metrics")
        _, text, _ = await admin.ask("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0"})
    assert text.endswith("# EOF\n")
