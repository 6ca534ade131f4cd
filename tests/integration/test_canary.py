"""A canary in items, keys and secrets of a whole worker: whatever fails, it gets out where it belongs, and nowhere else.

Line by line, `test_observe_logs.py` has the same of single events.
"""

from __future__ import annotations

import base64
import logging
import traceback
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import orjson
import pytest
from pydantic import SecretStr

import streamflow
from discards import IDENTITY
from scripted_aws import isolate
from servers.webhook import Answer, running_webhook
from streamflow import events
from streamflow.dead_letters import LetterQuery
from streamflow.destinations.invocation_record import invocation_record, s3_key
from streamflow.errors import ConfigError, StoreError, StreamflowError
from streamflow.http_options import HttpOptions
from streamflow.middleware import log_batches
from streamflow.observe.logs import JsonFormatter, KeyValueFormatter
from streamflow.pipeline import App, AwsOptions, DynamoDBStream, LambdaFunction, Pipeline
from streamflow.plugins import open_store
from streamflow.sinks.http import http
from streamflow.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from streamflow.batches import Batch
    from streamflow.dead_letters import DiscardedBatch
    from streamflow.events import Event
    from streamflow.launch import Running
    from streamflow.testing import LocalStreams

pytestmark = [pytest.mark.anyio, pytest.mark.integration]

CANARY = "canary-4111111111111111"
TOKEN = f"{CANARY}-admin"
AWS_SECRET, AWS_TOKEN = f"{CANARY}-aws-secret", f"{CANARY}-aws-token"
SIGNING = base64.b64encode(f"{CANARY}-signs-webhooks".encode()).decode()
BIRDS = (CANARY, SIGNING)
FUNCTION = """
def handler(event, context):
    raise ValueError(f"cannot bear {event}")
"""
# What the SDK tells at the level debug holds requests and answers: that is its own, and nobody's default.
SDK = ("botocore", "aiobotocore")


async def quoting(batch: Batch) -> None:
    """Raises what quotes the item, and so does its cause."""
    try:
        int(str(batch.records[0].keys["id"]))
    except ValueError as error:
        raise TypeError(f"no price in {batch.records[0].new_image}") from error


def failing_once(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, which fails the first time as a driver may: with what it was to store in the cause."""
    failed: list[bool] = []

    async def perform(*args: Any, **kwargs: Any) -> Any:
        if not failed:
            failed.append(True)
            raise StoreError("sqlite: the disk is full") from OSError(f"{CANARY}: {args!r}")
        return await method(*args, **kwargs)

    return perform


class Notices:
    """A destination of the user's own, told what Lambda tells one; it refuses the first batch, in words that quote it."""

    name = "notices"

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.told: list[str] = []

    async def send(self, discarded: DiscardedBatch) -> None:
        if not self.refused:
            self.refused.append(f"cannot take {discarded.batch.records[0].raw!r}")
            raise OSError(self.refused[0])
        notice = orjson.dumps(invocation_record(discarded, IDENTITY)).decode()
        self.told += [notice, s3_key(discarded, IDENTITY), discarded.condition, repr(discarded.batch)]


@asynccontextmanager
async def working(app: App, *kinds: tuple[str, type]) -> AsyncIterator[tuple[Running, list[Event]]]:
    """`app`, until each of these pipelines has told of an event of the kind."""
    told: list[Event] = []

    def missing() -> set[tuple[str, type]]:
        return set(kinds) - {(getattr(event, "pipeline", ""), type(event)) for event in told}

    async with streamflow.running(app, observers=[told.append]) as worker:
        try:
            with anyio.fail_after(40):
                while missing():  # noqa: ASYNC110 - events of a real worker, which nobody else waits for
                    await anyio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"never told: {missing()}") from None
        yield worker, told


def pipelines(streams: LocalStreams, webhook_url: str, function: Path, notices: Notices) -> tuple[Pipeline, ...]:
    aws = AwsOptions(endpoint_url=streams.endpoint_url, region="us-east-1")
    common: dict[str, Any] = {
        "source": DynamoDBStream(table="orders", aws=aws),
        "starting_position": "TRIM_HORIZON",
        "maximum_retry_attempts": 1,
        "checkpoint_interval_s": 0.1,
    }
    sink = http(
        url=webhook_url,
        headers={"Authorization": f"Bearer {CANARY}"},
        signing_secrets=[f"whsec_{SIGNING}"],
    )
    return (
        Pipeline(
            name="quotes", handler=quoting, on_failure=("dead_letters", notices), middleware=(log_batches(),), **common
        ),
        Pipeline(name="parks", handler=quoting, on_poison="park_key", **common),
        Pipeline(name="function", handler=LambdaFunction(target=f"{function}:handler"), on_failure=("drop",), **common),
        Pipeline(name="webhook", handler=sink, **common),
    )


def texts_of(record: logging.LogRecord) -> str:
    """Everything that any handler could make of it."""
    trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
    formatted = KeyValueFormatter().format(record) + JsonFormatter().format(record)
    return formatted + record.getMessage() + repr(vars(record)) + trace


async def pages(url: str, *paths: str, token: str | None) -> dict[str, str]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    found = {}
    async with aiohttp.ClientSession(headers=headers) as client:
        for path in paths:
            async with client.get(url + path) as response:
                found[path] = await response.text() + repr(response.headers)
    return found


def with_a_bird(texts: Sequence[str]) -> list[str]:
    return [text for text in texts if any(bird in text for bird in BIRDS)]


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    isolate(monkeypatch)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", AWS_SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", AWS_TOKEN)


async def test_whatever_fails_the_canary_is_in_no_log_metric_page_or_notice(
    local_streams: LocalStreams,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "streamflow")
    (tmp_path / "function.py").write_text(FUNCTION)
    local_streams.create_table("orders")
    local_streams.put("orders", {"id": {"S": CANARY}, "price": {"S": CANARY}, CANARY: {"N": "1"}})
    local_streams.corrupt_body("GetRecords", times=2)
    local_streams.truncate_body("GetRecords", times=2)
    local_streams.throttle(times=2)
    for name in ("keep", "park", "update"):
        monkeypatch.setattr(SqliteStore, name, failing_once(getattr(SqliteStore, name)))
    store, notices = f"sqlite:///{tmp_path}/orders.db", Notices()
    with running_webhook() as webhook:
        webhook.answer = lambda received: Answer(500, body=b"cannot store " + received.body)
        app = App(
            pipelines=pipelines(local_streams, webhook.url, tmp_path / "function.py", notices),
            store=store,
            http=HttpOptions(token=SecretStr(TOKEN)),
        )
        async with working(
            app,
            ("quotes", events.RecordsDiscarded),
            ("parks", events.RecordsParked),
            ("parks", events.ParkingFailed),
            ("function", events.RecordsDiscarded),
            ("webhook", events.RecordsDiscarded),
        ) as (worker, told):
            assert worker.admin_url is not None
            shown = await pages(worker.admin_url, "/metrics", "/status", "/readyz", token=TOKEN)
            shown |= await pages(worker.admin_url, "/livez", "/nothing", token=None)
    async with open_store(store) as opened:
        letters = [
            letter for drawer in ("dead", "parked") for letter in await opened.letters(LetterQuery(drawer=drawer))
        ]

    # It was there to get out: in the records that are kept whole, in what failed, and in what each target was sent.
    assert {letter.pipeline for letter in letters} == {"quotes", "parks", "webhook"}
    assert all(CANARY.encode() in letter.record for letter in letters)
    assert CANARY in next(letter.error_text for letter in letters if letter.pipeline == "quotes")
    failures = [event for event in told if isinstance(event, events.BatchFailed)]
    assert {event.pipeline for event in failures if CANARY in str(event.error)} == {"quotes", "parks"}
    assert {event.pipeline for event in failures if isinstance(event.error, StreamflowError)} == {"function", "webhook"}
    assert {type(event) for event in told} >= {events.ReadFailed, events.DestinationFailed}
    assert CANARY.encode() in webhook.received[0].body
    assert webhook.received[0].headers["Authorization"] == f"Bearer {CANARY}"
    assert CANARY in notices.refused[0]
    assert len(notices.told) == 4
    assert 'pipeline="quotes"' in shown["/metrics"]

    records = [record for record in caplog.records if record.name.partition(".")[0] not in SDK]
    facts = {getattr(record, "fact", "") for record in records}
    assert facts >= {"batch failed", "poll failed", "records discarded", "records parked", "parking failed"}
    assert with_a_bird([texts_of(record) for record in records]) == []
    assert with_a_bird([*shown.values(), *capfd.readouterr(), repr(app)]) == []
    assert with_a_bird(notices.told) == []
    assert with_a_bird([str(event.error) for event in failures if isinstance(event.error, StreamflowError)]) == []
    heads = [
        f"{each.pipeline} {each.shard_id} {each.sequence_number} {each.reason} {each.error_type}" for each in letters
    ]
    assert with_a_bird(heads) == []


def admin(**values: Any) -> HttpOptions:
    return HttpOptions(**values)


@pytest.mark.parametrize(
    "declare",
    [
        lambda: admin(token=f"{CANARY} two words"),
        lambda: admin(token=[CANARY]),
        lambda: admin(token=TOKEN, without_token=True),
        lambda: http(url="https://hooks.example", headers={"Authorization": f"{CANARY}\n"}),
        lambda: http(url="https://hooks.example", headers={"Host": CANARY}),
        lambda: http(url="https://hooks.example", headers=CANARY),
        lambda: http(url="https://hooks.example", signing_secrets=[f"whsec_{CANARY}"]),
        lambda: http(url=f"https://user:{CANARY}@hooks.example"),
        lambda: open_store(f"nosuchstore://user:{CANARY}@host/db"),
    ],
)
def test_what_is_wrong_with_a_secret_is_told_without_it(declare: Callable[[], object]) -> None:
    with pytest.raises(ConfigError) as caught:
        declare()
    assert with_a_bird(["".join(traceback.format_exception(caught.value))]) == []
