"""Options of `streamflow run` stand in for what the target says."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import pytest
from pydantic import SecretStr

from streamflow.cli import options
from streamflow.cli.main import Invocation
from streamflow.cli.run import run
from streamflow.cli.run_options import RunOptions, redirected, served_at
from streamflow.cli.supervision.process import command
from streamflow.cli.supervision.worker import Signature, one_of, run_worker
from streamflow.errors import ConfigError
from streamflow.http_options import HttpOptions
from streamflow.observe.lines import Line
from streamflow.observe.logs import JsonFormatter, KeyValueFormatter
from streamflow.pipeline import App, AwsOptions, DynamoDBStream, Pipeline

if TYPE_CHECKING:
    from streamflow.batches import Batch

TOKEN, OTHER_TOKEN = SecretStr("0123456789abcdef"), SecretStr("fedcba9876543210")


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
        ("127.0.0.2:9102", None, HttpOptions(host="127.0.0.2", port=9102)),
        ("0.0.0.0:9102", HttpOptions(token=TOKEN), HttpOptions(host="0.0.0.0", port=9102, token=TOKEN)),
        ("[::1]:0", None, HttpOptions(host="::1")),
        (
            "9102",
            HttpOptions(host="0.0.0.0", port=1, without_token=True),
            HttpOptions(host="0.0.0.0", port=9102, without_token=True),
        ),
        (None, HttpOptions(port=1), None),
    ],
)
def test_an_address_is_read(text: str | None, declared: HttpOptions | None, served: HttpOptions | None) -> None:
    assert served_at(text, declared) == served


def test_the_token_of_an_address_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMFLOW_HTTP_TOKEN", "")
    with pytest.raises(ConfigError, match=r"host is beyond loopback: set token .*STREAMFLOW_HTTP_TOKEN"):
        served_at("0.0.0.0:9102", None)
    monkeypatch.setenv("STREAMFLOW_HTTP_TOKEN", TOKEN.get_secret_value())
    assert served_at("0.0.0.0:9102", None) == HttpOptions(host="0.0.0.0", port=9102, token=TOKEN)
    declared = HttpOptions(token=OTHER_TOKEN)
    assert served_at("9102", declared) == HttpOptions(port=9102, token=OTHER_TOKEN)
    declared = HttpOptions(host="0.0.0.0", without_token=True)
    assert served_at("9102", declared) == HttpOptions(host="0.0.0.0", port=9102, without_token=True)


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


# --- several workers -------------------------------------------------------------------------------------------------

EVERY_OPTION = RunOptions(
    target="--app.py:app",
    store="sqlite:///a b.db",
    http="[::1]:0",
    worker_id="w",
    endpoint_url="http://one",
    region="eu-west-1",
    log_format="json",
    log_level="debug",
    hang_limit=12.5,
)
NO_OPTION = RunOptions(
    target="orders.toml",
    store=None,
    http=None,
    worker_id=None,
    endpoint_url=None,
    region=None,
    log_format="text",
    log_level="info",
    hang_limit=300.0,
)


def asked_for(words: list[str]) -> dict[str, Any]:
    """What the command of a worker takes from the command line that a supervisor writes."""
    assert words[0] == sys.executable
    rest = words[words.index("run-worker") + 1 :]
    return run_worker.make_context("run-worker", rest, obj=Invocation()).params


@pytest.mark.parametrize("chosen", [EVERY_OPTION, NO_OPTION])
def test_a_worker_is_started_with_the_options_of_all(chosen: RunOptions) -> None:
    words = command(chosen, number=2, workers=4, name="host-1", channel=7, debug=True)
    given = asked_for(words)
    place = {name: given.pop(name) for name in ("number", "workers", "name", "channel")}
    assert place == {"number": 2, "workers": 4, "name": "host-1", "channel": 7}
    assert RunOptions(**given) == chosen
    assert "--debug" in words


def test_modules_in_the_current_directory_shadow_others_only_where_they_do_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def flags() -> list[str]:
        words = command(NO_OPTION, number=1, workers=2, name="host-1", channel=7, debug=False)
        return words[1 : words.index("-m")]

    for here in ("", str(Path.cwd())):
        monkeypatch.setattr(sys, "path", [here, *sys.path])
        assert flags() == []
    monkeypatch.setattr(sys, "path", ["bin", *sys.path])
    assert flags() == ["-P"]


@pytest.mark.parametrize(("own", "worker_id"), [(None, "host-1-2"), ("orders", "orders-2")])
def test_each_worker_has_an_id_of_its_own(own: str | None, worker_id: str) -> None:
    declared = options.changed(app(), {"store": "sqlite:///x.db", "worker_id": own})
    assert one_of(declared, number=2, workers=4, name="host-1").worker_id == worker_id


def test_an_id_that_becomes_too_long_is_told_by_its_option() -> None:
    declared = options.changed(app(), {"store": "sqlite:///x.db", "worker_id": "w" * 128})
    with pytest.raises(ConfigError, match=r"^--worker-id: "):
        one_of(declared, number=2, workers=4, name="host-1")


def test_a_store_inside_one_process_cannot_be_shared() -> None:
    with pytest.raises(ConfigError) as caught:
        one_of(app(), number=1, workers=4, name="host-1")
    (problem,) = caught.value.problems
    assert problem.startswith("--workers 4: the store memory: is inside one process")
    assert "--store sqlite:///FILE" in problem


@pytest.mark.parametrize("workers", ["0", "-1", "257", "two"])
def test_a_number_of_workers_that_cannot_be_is_wrong_usage(workers: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        run.make_context("run", ["orders.toml", "--workers", workers])
    assert caught.value.param is not None
    assert caught.value.param.name == "workers"


LINE = Line(level=logging.INFO, fact="lease taken", fields={"pipeline": "orders", "epoch": 1})


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("ours", [True, False])
def test_a_log_line_says_which_worker_wrote_it(
    form: Literal["text", "json"], ours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: dict[str, Any] = {"extra": {"fact": LINE.fact, "fields": LINE.fields}} if ours else {}
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(formatter.format(record))  # type: ignore[method-assign]
    formatter = JsonFormatter() if form == "json" else KeyValueFormatter()
    handler.addFilter(Signature("w-1"))
    logger = logging.getLogger("streamflow.tests.signature")
    monkeypatch.setattr(logger, "handlers", [handler])
    logger.warning("%s", LINE if ours else "retrying\nsoon", **arguments)
    (line,) = told
    if form == "text":
        assert line.endswith("lease taken pipeline=orders epoch=1 worker=w-1" if ours else "retrying soon worker=w-1")
    else:
        document = json.loads(line)
        assert document["worker"] == "w-1"
        assert document["message"] == ("lease taken" if ours else "retrying soon")
        assert document.get("epoch") == (1 if ours else None)


def test_a_supervisor_is_without_what_only_workers_need() -> None:
    program = (
        "import sys, streamflow.cli.run, streamflow.cli.supervision.supervisor;"
        "print(*{name.partition('.')[0] for name in sys.modules}, *sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    loaded = set(printed.stdout.split())
    assert "streamflow.cli.supervision.supervisor" in loaded
    heavy = {"aiohttp", "aioboto3", "aiobotocore", "boto3", "botocore", "prometheus_client", "rich"}
    assert loaded & {*heavy, "streamflow.launch", "streamflow.engine", "streamflow.config.load"} == set()
