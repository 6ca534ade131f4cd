"""The http sink against a server on loopback."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import orjson
import pytest
import trustme

from opened_sinks import WallClock, opened
from servers.webhook import Answer, Received, Webhook, running_webhook
from streamflow import __version__
from streamflow.errors import ConfigError, SinkBusyError, StreamflowError
from streamflow.failures import RecordsFailedError
from streamflow.sinks.http import http
from streamflow.sinks.http_requests import secret_bytes, signed_headers
from streamflow.testing.sink_contract import Changes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

SECRET = "whsec_VGhlIHVuaXQgdGVzdHMnIG93biBzZWNyZXQgIQ=="


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as webhook:
        yield webhook


def numbers(received: Received) -> list[str]:
    return [record["dynamodb"]["SequenceNumber"] for record in orjson.loads(received.body)]


async def test_a_batch_is_one_signed_request(webhook: Webhook) -> None:
    changes = Changes()
    batch = changes.batch(*changes.put_many(3))
    declared = http(url=webhook.url, headers={"authorization": "Bearer abc"}, signing_secrets=[SECRET])
    clock = WallClock()
    async with opened(declared, clock=clock) as sink:
        await sink.writer.write(batch)
        await sink.writer.write(batch.again())
    first, second = webhook.received
    assert (first.method, first.path) == ("POST", "/hook")
    assert numbers(first) == [record.sequence_number for record in batch]
    assert first.headers["Authorization"] == "Bearer abc"
    assert first.headers["Content-Type"] == "application/json"
    assert first.headers["User-Agent"] == f"streamflow/{__version__}"
    key = first.headers["Idempotency-Key"]
    assert second.headers["Idempotency-Key"] == key
    signed = signed_headers([secret_bytes(SECRET)], identity=key, timestamp_s=int(clock.now_s), body=first.body)
    assert {name: first.headers[name] for name in signed} == signed


async def test_nothing_is_signed_without_a_secret(webhook: Webhook) -> None:
    changes = Changes()
    async with opened(http(url=webhook.url, method="PUT", body="ndjson")) as sink:
        await sink.writer.write(changes.batch(changes.put("one")))
    (received,) = webhook.received
    assert received.method == "PUT"
    assert received.headers["Content-Type"] == "application/x-ndjson"
    assert "webhook-signature" not in received.headers


async def test_the_records_that_are_refused_are_found(webhook: Webhook) -> None:
    changes = Changes()
    changes.put_many(20)
    bad = {changes.records[3].sequence_number, changes.records[11].sequence_number}
    webhook.answer = lambda received: Answer(422 if bad & set(numbers(received)) else 200)
    async with opened(http(url=webhook.url)) as sink:
        with pytest.raises(RecordsFailedError) as failed:
            await sink.writer.write(changes.batch(*changes.records))
    assert [(each.record.sequence_number, each.kind) for each in failed.value.failures] == [
        (changes.records[3].sequence_number, "refused"), (changes.records[11].sequence_number, "refused"),
    ]  # fmt: skip
    assert failed.value.failures[0].reason == f"http://127.0.0.1:{webhook.port}: it answers 422"
    taken = [number for received in webhook.taken for number in numbers(received)]
    assert sorted(taken) == sorted({record.sequence_number for record in changes.records} - bad)
    assert len({received.headers["Idempotency-Key"] for received in webhook.received}) == len(webhook.received)


async def test_a_failure_while_the_refused_are_looked_for_is_no_refusal(webhook: Webhook) -> None:
    changes = Changes()
    first, second = changes.put_many(2)

    def answer(received: Received) -> Answer:
        if len(numbers(received)) == 2:
            return Answer(400)
        return Answer(500) if numbers(received) == [first.sequence_number] else Answer(429)

    webhook.answer = answer
    async with opened(http(url=webhook.url)) as sink:
        with pytest.raises(RecordsFailedError) as failed:
            await sink.writer.write(changes.batch(first, second))
    assert [(each.record, each.kind) for each in failed.value.failures] == [(first, "failed"), (second, "waiting")]


async def test_what_the_answer_says_of_single_records_is_told(webhook: Webhook) -> None:
    changes = Changes()
    records = changes.put_many(4)
    failing = {"batchItemFailures": [{"itemIdentifier": records[2].sequence_number}]}
    webhook.answer = lambda _: Answer(body=orjson.dumps(failing))
    async with opened(http(url=webhook.url)) as sink:
        with pytest.raises(RecordsFailedError) as failed:
            await sink.writer.write(changes.batch(*records))
    assert [(each.record, each.kind) for each in failed.value.failures] == [
        (records[2], "failed"), (records[3], "waiting"),
    ]  # fmt: skip


async def test_a_target_that_asks_for_a_pause_gets_it(webhook: Webhook) -> None:
    changes = Changes()
    webhook.answer = lambda _: Answer(503, headers={"Retry-After": "12"})
    async with opened(http(url=webhook.url)) as sink:
        with pytest.raises(SinkBusyError) as busy:
            await sink.writer.write(changes.batch(*changes.put_many(2)))
    assert busy.value.retry_after_s == 12.0


async def test_a_redirect_is_not_followed(webhook: Webhook) -> None:
    changes = Changes()
    webhook.answer = lambda received: Answer(
        307 if received.path == "/hook" else 200, headers={"Location": "/elsewhere?token=abc"}
    )
    async with opened(http(url=webhook.url)) as sink:
        with pytest.raises(StreamflowError, match="it answers 307, a redirect, which is not followed") as failed:
            await sink.writer.write(changes.batch(changes.put("one")))
    assert "abc" not in str(failed.value)
    assert [received.path for received in webhook.received] == ["/hook"]


@pytest.mark.fault("F13")
async def test_an_answer_without_end_is_not_read_to_its_end(webhook: Webhook) -> None:
    changes = Changes()
    webhook.answer = lambda _: Answer(body=b"x" * 10_000_000)
    async with opened(http(url=webhook.url, response_bytes_max=2_048)) as sink:
        with pytest.raises(StreamflowError, match="answers 200 with more than 2048 bytes: raise response_bytes_max"):
            await sink.writer.write(changes.batch(changes.put("one")))


async def test_an_answer_that_does_not_come_is_not_waited_for(webhook: Webhook) -> None:
    changes = Changes()
    webhook.answer = lambda _: Answer(delay_s=5.0)
    async with opened(http(url=webhook.url, timeout_s=0.1)) as sink:
        with pytest.raises(StreamflowError, match=r"did not answer within 0\.1 s"):
            await sink.writer.write(changes.batch(changes.put("one")))


async def test_changes_of_one_item_are_never_under_way_together(webhook: Webhook) -> None:
    changes = Changes()
    changes.put_many(60, items=6)
    webhook.answer = lambda _: Answer(delay_s=0.005)
    async with opened(http(url=webhook.url, body="single", concurrency=4)) as sink:
        await sink.writer.write(changes.batch(*changes.records))
    by_item: dict[str, list[int]] = {}
    for received in webhook.received:
        change = orjson.loads(received.body)["dynamodb"]
        by_item.setdefault(change["Keys"]["id"]["S"], []).append(int(change["SequenceNumber"]))
    assert all(found == sorted(found) and len(found) == 10 for found in by_item.values())
    assert webhook.at_once_max == 4


async def test_connections_are_bounded_over_all_shards(webhook: Webhook) -> None:
    changes = Changes(shards=8)
    changes.put_many(80)
    webhook.answer = lambda _: Answer(delay_s=0.01)
    declared = http(url=webhook.url, body="single", concurrency=3)
    async with opened(declared) as sink, anyio.create_task_group() as tasks:
        for batch in changes.batches(changes.records):
            tasks.start_soon(sink.writer.write, batch)
    assert len(webhook.taken) == 80
    assert webhook.at_once_max == 3


async def test_a_target_that_is_not_there_fails_the_batch() -> None:
    changes = Changes()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/hook?token=abc"
        async with opened(http(url=url)) as sink:
            with pytest.raises(StreamflowError, match=r"Connect call failed|Connection refused") as failed:
                await sink.writer.write(changes.batch(changes.put("one")))
    assert "abc" not in str(failed.value)


# --- where it must not go --------------------------------------------------------------------------------------------


@contextmanager
def names_mean(monkeypatch: pytest.MonkeyPatch, address: str) -> Iterator[None]:
    async def resolve(self: object, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        found = {"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
        return [found]

    with monkeypatch.context() as patch:
        patch.setattr(aiohttp.resolver.ThreadedResolver, "resolve", resolve)
        yield


@pytest.mark.fault("F37")
async def test_a_name_that_leads_to_metadata_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = Changes()
    async with opened(http(url="http://innocent.example/hook", timeout_s=2)) as sink:
        refused = pytest.raises(StreamflowError, match=r"169\.254\.169\.254 is an address of link-local")
        with names_mean(monkeypatch, "169.254.169.254"), refused:
            await sink.writer.write(changes.batch(changes.put("one")))


async def test_a_name_that_leads_into_a_private_network_is_reached_if_that_is_allowed(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = Changes()
    url = f"http://service.example:{webhook.port}/hook"
    with names_mean(monkeypatch, "127.0.0.1"):
        async with opened(http(url=url)) as sink:
            await sink.writer.write(changes.batch(changes.put("one")))
        async with opened(http(url=url, private_addresses=False)) as sink:
            with pytest.raises(StreamflowError, match="private_addresses is false"):
                await sink.writer.write(changes.batch(changes.put("two")))
    assert len(webhook.received) == 1


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("http://169.254.169.254/", True),
        ("http://[fe80::1]/", True),
        ("http://[fd00:ec2::254]/", True),
        ("http://127.0.0.1/", False),
    ],
)
async def test_an_address_in_the_url_is_refused_at_the_start(url: str, private: bool) -> None:
    with pytest.raises(ConfigError, match="sink http: url"):
        async with opened(http(url=url, private_addresses=private)):
            pass


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure_webhook(authority: trustme.CA) -> Iterator[Webhook]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with running_webhook(context) as webhook:
        yield webhook


@pytest.mark.fault("F36")
async def test_certificates_are_verified(secure_webhook: Webhook, authority: trustme.CA, tmp_path: Path) -> None:
    changes = Changes()
    batch = changes.batch(changes.put("one"))
    async with opened(http(url=secure_webhook.url)) as sink:
        with pytest.raises(StreamflowError, match="its certificate is not trusted"):
            await sink.writer.write(batch)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    async with opened(http(url=secure_webhook.url, ca_bundle=str(bundle))) as sink:
        await sink.writer.write(batch)
    assert len(secure_webhook.received) == 1


async def test_a_bundle_that_is_none_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(ConfigError, match=f"ca_bundle .*{name} holds no certificates"):
            async with opened(http(url="https://example.com/", ca_bundle=str(tmp_path / name))):
                pass


def test_nothing_of_the_server_is_left() -> None:
    assert not [thread for thread in threading.enumerate() if thread.name == "webhook"]
