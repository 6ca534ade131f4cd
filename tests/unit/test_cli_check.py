"""`streamflow check` shows what would run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from streamflow.cli.check import code_name, planned
from streamflow.cli.main import invoke
from streamflow.http_options import HttpOptions
from streamflow.middleware.timeout import timeout
from streamflow.pipeline import App, AwsOptions, DynamoDBStream, LambdaFunction, Pipeline
from streamflow.sdk import AwsSettings, Capabilities, Settings, SinkPlugin
from streamflow.sinks.route import route

EXAMPLE = Path(__file__).parents[2] / "examples" / "orders.toml"

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from streamflow.batches import Batch
    from streamflow.protocols import Writer
    from streamflow.sdk.context import SinkContext


async def deliver(batch: Batch) -> None:
    """Does nothing."""


class Counter:
    async def __call__(self, batch: Batch) -> None:
        """Does nothing."""


def test_a_plan_names_source_chain_and_store() -> None:
    stream = DynamoDBStream(table="orders", aws=AwsOptions(endpoint_url="http://127.0.0.1:4566"))
    pipeline = Pipeline(name="orders", source=stream, handler=deliver, middleware=(timeout(3),))
    app = App(pipelines=(pipeline,), store="memory:", http=HttpOptions(port=9102), aws=AwsOptions(region="eu-west-1"))
    assert planned(app) == {
        "store": "memory:",
        "worker_id": None,
        "http": "127.0.0.1:9102",
        "pipelines": [
            {
                "name": "orders",
                "source": "table orders (http://127.0.0.1:4566)",
                "starting_position": "LATEST",
                "batch_size": 100,
                "middleware": ["timeout"],
                "handler": f"{__name__}:deliver",
                "filters": 0,
                "warnings": [],
            }
        ],
    }


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (deliver, f"{__name__}:deliver"),
        (Counter(), f"{__name__}:Counter"),
        (timeout(3), "timeout"),
        (LambdaFunction(target="app:handler"), "lambda app:handler"),
    ],
)
def test_code_is_called_what_people_call_it(code: object, name: str) -> None:
    assert code_name(code) == name


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"idle_poll_interval_s": 0.1}, "idle_poll_interval_s = 0.1 does nothing: it is below poll_interval_s = 0.25"),
        (
            {"polling": "cost", "idle_poll_interval_s": 100, "maximum_record_age_s": 60},
            (
                "a record may wait for 110 s in an idle shard, and is given up before its first attempt: "
                "maximum_record_age_s = 60"
            ),
        ),
        (
            {"idle_polls_per_s_max": 50, "maximum_record_age_s": 60},
            (
                "with more than 3,000 shards idle_polls_per_s_max = 50 lets records wait until they are given up before their "
                "first attempt: maximum_record_age_s = 60"
            ),
        ),
    ],
)
def test_options_about_polls_that_do_harm_or_nothing_are_warned_of(options: dict[str, Any], warning: str) -> None:
    assert polling_warnings(**options) == [warning]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"polling": "cost", "idle_polls_per_s_max": 50},
        {"idle_poll_interval_s": 0.25},
        {"polling": "cost", "maximum_record_age_s": 60},
        {"idle_polls_per_s_max": 50, "maximum_record_age_s": 300},
    ],
)
def test_options_about_polls_that_fit_are_not_warned_of(options: dict[str, Any]) -> None:
    assert polling_warnings(**options) == []


def polling_warnings(**options: Any) -> list[str]:
    return warned(App(pipelines=(declared(**options),), store="memory:"))


def declared(**options: Any) -> Pipeline:
    return Pipeline(**{"name": "orders", "source": DynamoDBStream(table="orders"), "handler": deliver, **options})


def warned(app: App) -> list[str]:
    found: list[str] = planned(app)["pipelines"][0]["warnings"]
    return found


FAR = "http://dynamodb.internal:8000"


class QueueSettings(Settings):
    aws: AwsSettings | None = None
    """How to get there."""


def _never(_settings: QueueSettings, _context: SinkContext) -> AbstractAsyncContextManager[Writer]:
    raise AssertionError("nobody opens it")


QUEUE = SinkPlugin(
    name="queue",
    api_version="1.0",
    summary="For tests.",
    settings=QueueSettings,
    examples={"only": {}},
    open=_never,
    capabilities=Capabilities(order="none", idempotence="none"),
)


def in_the_clear(url: str) -> str:
    return (
        f'endpoint_url = "{url}" is neither https nor on this machine: who is on the way reads the records and the session '
        "token, and can change what is answered. Make it https://, with ca_bundle where the certificate is your own, or reach "
        "it over loopback"
    )


@pytest.mark.parametrize("url", [FAR, "http://10.0.0.7:8000", "http://[fd00::7]:8000", "http://localhost.example.com"])
def test_an_endpoint_to_which_requests_cross_a_network_in_the_clear_is_warned_of(url: str) -> None:
    assert warned(App(pipelines=(declared(),), aws=AwsOptions(endpoint_url=url))) == [in_the_clear(url)]


@pytest.mark.parametrize(
    "url",
    [
        "https://dynamodb.internal",
        "http://localhost:8000",
        "http://127.0.0.1:8000",
        "http://127.3.2.1",
        "http://[::1]:1",
    ],
)
def test_an_endpoint_that_is_encrypted_or_on_this_machine_is_not_warned_of(url: str) -> None:
    assert warned(App(pipelines=(declared(),), aws=AwsOptions(endpoint_url=url))) == []


def test_an_endpoint_is_found_wherever_it_is_declared_and_told_once() -> None:
    source = DynamoDBStream(table="orders", aws=AwsOptions(endpoint_url=FAR))
    nested = route(routes=({"sink": QUEUE(aws=AwsSettings(endpoint_url="http://queues.internal"))},))
    app = App(pipelines=(declared(source=source, handler=nested),), aws=AwsOptions(endpoint_url=FAR))
    told = [warning for warning in warned(app) if warning.startswith("endpoint_url")]
    assert told == [in_the_clear(FAR), in_the_clear("http://queues.internal")]


def test_a_password_in_an_endpoint_is_not_shown() -> None:
    app = App(pipelines=(declared(),), aws=AwsOptions(endpoint_url="http://someone:secret@dynamodb.internal"))
    assert "secret" not in str(warned(app))


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr("sys.path", list(sys.path))
    for variable in ("ORDERS_STORE", "ORDERS_HTTP_PORT"):
        monkeypatch.delenv(variable, raising=False)
    yield str(EXAMPLE)
    sys.modules.pop("orders_handlers", None)


def test_the_example_is_valid(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["check", example]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{example} is valid",
        "  store     sqlite:///orders.db",
        "  admin     127.0.0.1:0",
        "  pipeline  orders",
        "    source  table orders, from TRIM_HORIZON at the first run",
        "    chain   timeout → drop → orders_handlers:deliver, up to 500 records at a time",
    ]


def file_with_filters(folder: Path, filters: list[str], *, extensions: bool = False) -> str:
    file = folder / "filtered.toml"
    file.write_text(
        f"""[pipelines.orders]
table = "orders"
handler = "orders_handlers:deliver"
filters = {json.dumps(filters)}
filter_extensions = {json.dumps(extensions)}
"""
    )
    return str(file)


INSERTS = '{"eventName": ["INSERT"]}'
ABOVE_100 = '{"dynamodb": {"NewImage": {"n": {"N": [{"numeric": [">", 100]}]}}}}'
WITHOUT_A = '{"dynamodb": {"NewImage": {"a": [{"exists": false}]}}}'


def test_filters_are_counted_and_their_traps_are_warnings(
    example: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.path.append(str(EXAMPLE.parent))
    assert invoke(["check", file_with_filters(tmp_path, [INSERTS, ABOVE_100, WITHOUT_A])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3] == "    filters 3, records that match any pass"
    assert lines[-2].startswith(
        "    warning filters.1: dynamodb.NewImage.n.N: numeric never matches an attribute of type N"
    )
    assert lines[-1].startswith("    warning filters.2: dynamodb.NewImage.a: exists:false always matches")


def test_what_extensions_allow_is_no_warning(example: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sys.path.append(str(EXAMPLE.parent))
    assert invoke(["check", file_with_filters(tmp_path, [ABOVE_100], extensions=True), "--json"]) == 0
    (pipeline,) = json.loads(capsys.readouterr().out)["pipelines"]
    assert (pipeline["filters"], pipeline["warnings"]) == (1, [])
    assert invoke(["check", file_with_filters(tmp_path, [ABOVE_100])]) == 0
    assert "    filters 1, records that match it pass" in capsys.readouterr().out.splitlines()


def test_a_wrong_filter_is_a_mistake_of_the_file(
    example: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sys.path.append(str(EXAMPLE.parent))
    assert invoke(["check", file_with_filters(tmp_path, ['{"eventName": "INSERT"}'])]) == 2
    told = capsys.readouterr().err
    assert "Invalid filter pattern definition. (a value outside an array" in told


def test_json_is_one_object(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["check", example, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["valid"], report["pipelines"][0]["middleware"]) == (True, ["timeout", "drop"])


def test_the_schema_needs_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["check", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Document"
