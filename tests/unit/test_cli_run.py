"""Options of `streamflow run` stand in for what the target says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamflow.cli import options
from streamflow.cli.run import redirected, served_at
from streamflow.errors import ConfigError
from streamflow.pipeline import App, AwsOptions, DynamoDBStream, HttpOptions, Pipeline

if TYPE_CHECKING:
    from streamflow.batches import Batch


async def deliver(batch: Batch) -> None:
    """Does nothing."""


def app(aws: AwsOptions | None = None) -> App:
    source = DynamoDBStream(table="orders", aws=aws)
    return App(pipelines=(Pipeline(name="orders", source=source, handler=deliver, batch_size=7),), store="memory:")


def test_what_is_not_given_stays() -> None:
    before = app()
    assert options.changed(before, {"store": None, "http": None}) is before


def test_what_is_given_stands_in() -> None:
    after = options.changed(app(), {"store": "sqlite:///x.db", "http": HttpOptions(port=1), "worker_id": "w"})
    assert (after.store, after.http, after.worker_id) == ("sqlite:///x.db", HttpOptions(port=1), "w")
    assert after.pipelines == app().pipelines


@pytest.mark.parametrize(("option", "value"), [("store", "Redis"), ("worker_id", "a b")])
def test_a_wrong_value_is_told_by_its_option(option: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"^--{option.replace('_', '-')}: "):
        options.changed(app(), {option: value})


def test_the_endpoint_is_replaced_for_streams_with_their_own_way_to_aws() -> None:
    own = AwsOptions(region="us-east-1", endpoint_url="http://one", profile="p")
    after = redirected(app(own), {"endpoint_url": "http://two", "region": None})
    [pipeline] = after.pipelines
    assert after.aws == AwsOptions(endpoint_url="http://two")
    assert pipeline.source.aws == AwsOptions(region="us-east-1", endpoint_url="http://two", profile="p")
    assert pipeline.batch_size == 7


@pytest.mark.parametrize(
    ("text", "declared", "served"),
    [
        ("9102", None, HttpOptions(port=9102)),
        ("0.0.0.0:9102", None, HttpOptions(host="0.0.0.0", port=9102)),
        ("[::1]:0", None, HttpOptions(host="::1")),
        ("9102", HttpOptions(host="0.0.0.0", port=1), HttpOptions(host="0.0.0.0", port=9102)),
        (None, HttpOptions(port=1), None),
    ],
)
def test_an_address_is_read(text: str | None, declared: HttpOptions | None, served: HttpOptions | None) -> None:
    assert served_at(text, declared) == served


@pytest.mark.parametrize("text", ["", "x", "host:", "70000", "1:2:x", "²"])
def test_what_is_no_address_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--http: .* write PORT or HOST:PORT$"):
        served_at(text, None)


@pytest.mark.parametrize("text", ["x", "a b c", "arn:aws:dynamodb:eu-west-1:123456789012:table/orders", ""])
def test_what_is_no_stream_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="is neither the name of a table"):
        options.stream(text)


def test_a_stream_is_named_by_table_or_arn() -> None:
    arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
    assert options.stream("orders") == DynamoDBStream(table="orders")
    assert options.stream(arn) == DynamoDBStream(stream_arn=arn)
