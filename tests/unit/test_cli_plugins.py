"""`streamflow plugins` and `streamflow describe`: what is there, what it promises, and what is wrong with it."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import Field, SecretStr

from streamflow import plugins as installed_plugins
from streamflow.cli.main import invoke
from streamflow.plugins import Installed
from streamflow.sdk.capabilities import Capabilities
from streamflow.sdk.declarations import DestinationPlugin, MiddlewarePlugin, SinkPlugin, StorePlugin
from streamflow.sdk.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


class QueueSettings(Settings):
    """A queue."""

    queue: Annotated[str, Field(examples=["orders"])]
    """Name of the queue."""
    token: SecretStr | None = None
    """What the queue wants to see."""
    fifo: bool = False
    """Whether the queue keeps order."""


def capabilities(settings: QueueSettings) -> Capabilities:
    return Capabilities(
        order="key" if settings.fifo else "none",
        idempotence="window",
        idempotence_key="event id",
        idempotence_window_s=300,
        partial_failures=True,
        deletes=False,
        records_max=1_000,
        bytes_max=6_000_000,
        request_records_max=10,
        request_bytes_max=1_048_576,
        record_bytes_max=262_144,
    )


def nothing(*arguments: object) -> Any:
    raise NotImplementedError


QUEUE = SinkPlugin(
    name="queue",
    api_version="1.0",
    summary="A queue.",
    settings=QueueSettings,
    examples={"as it is": {"queue": "orders"}, "in order": {"queue": "orders.fifo", "fifo": True}},
    open=nothing,
    capabilities=capabilities,
)
LAYER = MiddlewarePlugin(
    name="layer",
    api_version="1.0",
    summary="A layer.",
    settings=QueueSettings,
    examples={"plain": {"queue": "orders"}},
    build=nothing,
)
DRAWER = DestinationPlugin(
    name="drawer",
    api_version="1.0",
    summary="A drawer.",
    settings=QueueSettings,
    examples={"plain": {"queue": "orders"}},
    open=nothing,
)
LEDGER = StorePlugin(name="queue", api_version="1.0", summary="A ledger.", url_example="queue:///orders", open=nothing)


def row(group: str, plugin: Any) -> Installed:
    return Installed(group=group, name=plugin.name, distribution="x-acme", version="1.5", plugin=plugin, error=None)


BROKEN = Installed(
    group="sinks", name="broken", distribution="x-broken", version="0.1", plugin=None, error="it cannot be loaded"
)
WHOLE = [row("sinks", QUEUE), row("middleware", LAYER), row("destinations", DRAWER), row("stores", LEDGER)]


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Installed]:
    """What is installed."""
    found = list(WHOLE)

    def installed() -> Iterator[Installed]:
        yield from found

    def names(group: str) -> list[str]:
        return [each.name for each in found if each.group == group]

    monkeypatch.setattr("streamflow.cli.plugins.installed", installed)
    monkeypatch.setattr("streamflow.cli.describe.installed", installed)
    monkeypatch.setattr("streamflow.cli.describe.names", names)
    return found


# --- plugins ---------------------------------------------------------------------------------------------------------


def test_plugins_are_listed_in_columns(rows: list[Installed], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["plugins"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "sinks         queue   x-acme 1.5  A queue.",
        "middleware    layer   x-acme 1.5  A layer.",
        "destinations  drawer  x-acme 1.5  A drawer.",
        "stores        queue   x-acme 1.5  A ledger.",
    ]


def test_a_broken_plugin_is_a_row_and_fails_the_command(
    rows: list[Installed], capsys: pytest.CaptureFixture[str]
) -> None:
    rows[1:] = [BROKEN]
    assert invoke(["plugins"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "sinks  queue   x-acme 1.5    A queue.",
        "sinks  broken  x-broken 0.1  BROKEN: it cannot be loaded",
    ]


def test_plugins_are_listed_for_machines(rows: list[Installed], capsys: pytest.CaptureFixture[str]) -> None:
    rows[1:] = [BROKEN]
    assert invoke(["plugins", "--json"]) == 1
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {
            "kind": "sinks",
            "name": "queue",
            "distribution": "x-acme",
            "version": "1.5",
            "api_version": "1.0",
            "summary": "A queue.",
            "error": None,
        },
        {
            "kind": "sinks",
            "name": "broken",
            "distribution": "x-broken",
            "version": "0.1",
            "api_version": None,
            "summary": None,
            "error": "it cannot be loaded",
        },
    ]


def test_the_core_has_its_own_sinks(capsys: pytest.CaptureFixture[str]) -> None:
    invoke(["plugins", "--json"])
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    core = {each["name"]: each["error"] for each in listed if each["distribution"] == "streamflow-engine"}
    assert {"console", "fallback", "http", "jsonl", "route", "sqlite"} <= core.keys()
    assert set(core.values()) == {None}


# --- describe --------------------------------------------------------------------------------------------------------


def test_a_sink_is_described_with_promises_settings_and_examples(
    rows: list[Installed], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["describe", "queue"]) == 0
    assert capsys.readouterr().out == (
        "queue: A queue.\n"
        "  sinks, from x-acme 1.5, streamflow.sdk 1.0\n"
        "\n"
        "Promises, as it is:\n"
        "  order           none\n"
        "  idempotence     window, by event id, for 300 s\n"
        "  single failures told\n"
        "  deletes         refused\n"
        "  batch           100 records, at most 1,000, at most 6,000,000 bytes, 10 a request, 1,048,576 bytes a request, "
        "262,144 bytes a record\n"
        "\n"
        "Promises, in order:\n"
        "  order           per item\n"
        "  idempotence     window, by event id, for 300 s\n"
        "  single failures told\n"
        "  deletes         refused\n"
        "  batch           100 records, at most 1,000, at most 6,000,000 bytes, 10 a request, 1,048,576 bytes a request, "
        "262,144 bytes a record\n"
        "\n"
        "Settings:\n"
        "  queue: string, required\n"
        "      Name of the queue.\n"
        "  token: secret string, may be left out\n"
        "      What the queue wants to see.\n"
        "  fifo: boolean, default false\n"
        "      Whether the queue keeps order.\n"
        "\n"
        "Example, as it is:\n"
        "  [pipelines.orders.sink]\n"
        '  type = "queue"\n'
        '  queue = "orders"\n'
        "\n"
        "Example, in order:\n"
        "  [pipelines.orders.sink]\n"
        '  type = "queue"\n'
        '  queue = "orders.fifo"\n'
        "  fifo = true\n"
    )


@pytest.mark.parametrize(
    ("name", "place"),
    [("layer", "[[pipelines.orders.middleware]]"), ("drawer", "[pipelines.orders.on_failure]")],
)
def test_other_plugins_are_described_without_promises(
    rows: list[Installed], capsys: pytest.CaptureFixture[str], name: str, place: str
) -> None:
    assert invoke(["describe", name]) == 0
    told = capsys.readouterr().out
    assert place in told
    assert "Settings:" in told
    assert "Promises" not in told


def test_a_kind_chooses_among_plugins_of_one_name(rows: list[Installed], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["describe", "queue", "--kind", "stores"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "queue: A ledger.",
        "  stores, from x-acme 1.5, streamflow.sdk 1.0",
        "  store = 'queue:///orders'",
    ]


def test_a_plugin_is_described_for_machines(rows: list[Installed], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["describe", "queue", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {key: told[key] for key in ("kind", "name", "distribution", "version", "api_version", "summary")} == {
        "kind": "sinks",
        "name": "queue",
        "distribution": "x-acme",
        "version": "1.5",
        "api_version": "1.0",
        "summary": "A queue.",
    }
    assert told["settings"] == QueueSettings.model_json_schema()
    assert told["secrets"] == ["token"]
    assert told["capabilities"]["in order"]["order"] == "key"
    assert tomllib.loads(told["examples"]["as it is"]) == {
        "pipelines": {"orders": {"sink": {"type": "queue", "queue": "orders"}}}
    }


def test_a_plugin_is_described_for_its_page(rows: list[Installed], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["describe", "queue", "--markdown"]) == 0
    told = capsys.readouterr().out
    assert "| | order | idempotence | single failures | deletes | batch |" in told
    assert "| in order | per item | window, by event id, for 300 s | told | refused | 100 records" in told
    assert '| `queue` | string | required | Name of the queue. | `"orders"` |' in told


@pytest.mark.parametrize("name", ["console", "fallback", "http", "jsonl", "route", "sqlite"])
@pytest.mark.parametrize("form", [(), ("--json",), ("--markdown",)], ids=["text", "json", "markdown"])
def test_every_sink_of_the_core_can_be_described(
    name: str, form: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["describe", name, "--kind", "sinks", *form]) == 0
    told = capsys.readouterr().out
    for setting in installed_plugins.sink_plugin(name).settings.model_fields:
        assert setting in told


def test_a_broken_plugin_is_told_with_its_error(rows: list[Installed], capsys: pytest.CaptureFixture[str]) -> None:
    rows.append(BROKEN)
    assert invoke(["describe", "broken"]) == 2
    assert capsys.readouterr().err == "error: it cannot be loaded\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["queu"], "there is no plugin 'queu', did you mean queue?; `streamflow plugins` lists what there is"),
        (["layer", "--kind", "sinks"], "there is no plugin 'layer'; `streamflow plugins` lists what there is"),
    ],
)
def test_a_name_that_is_not_there_is_told(
    rows: list[Installed], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert invoke(["describe", *arguments]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
