"""A plugin that does not keep the contract is refused where it is declared, with everything that is wrong."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import pytest
from pydantic import Field, SecretBytes, SecretStr, model_validator

from streamflow.errors import ConfigError, PluginError
from streamflow.sdk.capabilities import Capabilities
from streamflow.sdk.declarations import (
    API_VERSION,
    DestinationPlugin,
    MiddlewarePlugin,
    SinkDeclaration,
    SinkPlugin,
    StorePlugin,
)
from streamflow.sdk.settings import AwsSettings, Settings, is_secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from streamflow.batches import Batch
    from streamflow.sdk.context import SinkContext

CAPABILITIES = Capabilities(order="key", idempotence="none")


class QueueSettings(Settings):
    queue: Annotated[str, Field(examples=["orders"], pattern="^[a-z]+$")]
    """Name of the queue."""
    token: SecretStr | None = None
    """What the queue wants to see."""
    pause_s: Annotated[float, Field(ge=0, le=60)] = 1.0
    """Pause between two requests."""
    depth: int | None = None
    """Most records that wait; None: no limit."""
    loud: bool = False
    """Whether to say so."""

    @model_validator(mode="after")
    def _loud_needs_a_pause(self) -> QueueSettings:
        if self.loud and self.pause_s == 0:
            raise ValueError("loud needs a pause_s")
        return self


class QueueWriter:
    async def write(self, batch: Batch) -> None: ...


@asynccontextmanager
async def open_queue(settings: Settings, context: SinkContext) -> AsyncIterator[QueueWriter]:
    await anyio.lowlevel.checkpoint()
    yield QueueWriter()


def sink(**changes: Any) -> SinkPlugin[Any]:
    declared: dict[str, Any] = {
        "name": "queue",
        "api_version": "1.0",
        "summary": "A queue.",
        "settings": QueueSettings,
        "examples": {"plain": {"queue": "orders"}},
        "open": open_queue,
        "capabilities": CAPABILITIES,
        **changes,
    }
    return SinkPlugin(**declared)


def mistake(declare: Callable[[], object]) -> str:
    with pytest.raises(PluginError) as caught:
        declare()
    return str(caught.value)


# --- every plugin ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "Queue", "1queue", "_queue", "my-queue", "a.b", "queue\n", "q" * 41, "café"])
def test_a_name_that_no_pipeline_file_could_have_is_refused(name: str) -> None:
    assert mistake(lambda: sink(name=name)) == f"plugin {name!r}: its name is not of a-z 0-9 _"


@pytest.mark.parametrize("name", ["q", "queue_2", "q" * 40])
def test_a_name_that_one_can_have_is_taken(name: str) -> None:
    assert sink(name=name).name == name


@pytest.mark.parametrize("summary", ["", "  \n", "Two\nlines."])
def test_a_summary_is_one_line(summary: str) -> None:
    assert mistake(lambda: sink(summary=summary)) == "plugin 'queue': its summary is not one line"


@pytest.mark.parametrize("version", ["", "1", "1.0.0", "v1.0", "1.x", "1.0\n", "-1.0", "\u0661.0"])
def test_an_api_version_is_two_numbers(version: str) -> None:
    assert mistake(lambda: sink(api_version=version)) == (
        f"plugin 'queue': its api_version {version!r} is not MAJOR.MINOR"
    )


MAJOR, MINOR = API_VERSION


@pytest.mark.fault("F4")
@pytest.mark.parametrize("version", [f"{MAJOR}.{MINOR + 1}", f"{MAJOR + 1}.0", f"{MAJOR - 1}.{MINOR}"])
def test_a_plugin_for_another_version_is_refused(version: str) -> None:
    assert mistake(lambda: sink(api_version=version)) == (
        f"plugin 'queue': it is written for version {version} of streamflow.sdk, and this is {MAJOR}.{MINOR}"
    )


def test_everything_that_is_wrong_is_told_at_once() -> None:
    told = mistake(lambda: sink(name="Queue", summary="", api_version="0.1", examples={}))
    assert told.count(";") == 4
    for part in ("its name", "its summary", "version 0.1", "it has no examples", "settings.queue is required"):
        assert part in told


def test_a_mistake_names_the_plugin() -> None:
    with pytest.raises(PluginError) as caught:
        sink(name="Queue")
    assert caught.value.plugin == "Queue"


# --- settings and examples -------------------------------------------------------------------------------------------


class Silent(Settings):
    told: str = ""
    """A description."""
    silent: str = ""
    blank: Annotated[str, Field(description="  ")] = ""


def test_a_setting_without_a_description_is_refused() -> None:
    assert mistake(lambda: sink(settings=Silent, examples={"plain": {}})) == (
        "plugin 'queue': settings.silent has no description: write a docstring below it; "
        "settings.blank has no description: write a docstring below it"
    )


@pytest.mark.parametrize("settings", [dict, object, QueueSettings(queue="orders"), None])
def test_settings_are_a_class_of_settings(settings: object) -> None:
    assert mistake(lambda: sink(settings=settings)) == (
        "plugin 'queue': its settings are no subclass of streamflow.sdk.Settings"
    )


def test_a_plugin_has_examples() -> None:
    assert "it has no examples" in mistake(lambda: sink(examples={}))


def test_a_required_setting_is_in_an_example() -> None:
    told = mistake(lambda: sink(examples={"plain": {}}))
    assert "settings.queue is required, and no example of the plugin has it" in told
    assert "example 'plain': queue: queue: Field required" in told


def test_an_example_that_is_wrong_is_refused_with_each_mistake() -> None:
    told = mistake(lambda: sink(examples={"good": {"queue": "orders"}, "bad": {"queue": "ORDERS", "pause_s": 61}}))
    assert "example 'bad': queue: queue: String should match pattern '^[a-z]+$' (found 'ORDERS')" in told
    assert "example 'bad': queue: pause_s: Input should be less than or equal to 60 (found 61)" in told
    assert "good" not in told


def test_an_example_whose_capabilities_contradict_each_other_is_refused() -> None:
    def capabilities(settings: QueueSettings) -> Capabilities:
        return Capabilities(order="key", idempotence="versioned" if settings.loud else "none")

    told = mistake(
        lambda: sink(
            capabilities=capabilities, examples={"quiet": {"queue": "orders"}, "loud": {"queue": "a", "loud": True}}
        )
    )
    assert told == (
        "plugin 'queue': example 'loud': idempotence_key says what idempotence goes by: give both or neither"
    )


def test_wrong_settings_are_all_told_and_nothing_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        sink()(token={"wrong": "s3cr3t"}, pause_s=True, size=1)
    assert caught.value.problems == (
        "queue: queue: Field required",
        "queue: token: Input should be a valid string",
        "queue: pause_s: should be a number, not true (found True)",
        "queue: size: Extra inputs are not permitted",
    )


def test_what_a_secret_has_wrong_is_told_without_it() -> None:
    class Secrets(Settings):
        token: Annotated[SecretStr, Field(min_length=100)] = SecretStr("x" * 100)
        """A token."""

    with pytest.raises(ConfigError) as caught:
        sink(settings=Secrets, examples={"plain": {}})(token="s3cr3t")
    assert "token: " in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_settings_that_are_wrong_as_a_whole_are_told_once() -> None:
    with pytest.raises(ConfigError) as caught:
        sink()(queue="orders", loud=True, pause_s=0)
    assert caught.value.problems == ("queue: declaration: loud needs a pause_s",)


def test_text_is_taken_for_a_number_and_a_boolean_is_not() -> None:
    assert sink()(queue="orders", pause_s="2.5").settings == QueueSettings(queue="orders", pause_s=2.5)
    with pytest.raises(ConfigError, match="depth: should be a number, not false"):
        sink()(queue="orders", depth=False)


def test_settings_are_frozen() -> None:
    settings = QueueSettings(queue="orders")
    with pytest.raises(ValueError, match="frozen"):
        settings.queue = "others"  # type: ignore[misc]


def test_secrets_are_known_by_their_type() -> None:
    class Secrets(Settings):
        text: SecretStr = SecretStr("")
        """One."""
        content: SecretBytes | None = None
        """Another."""

    assert [is_secret(Secrets, name) for name in ("text", "content", "neither")] == [True, True, False]
    assert not is_secret(QueueSettings, "queue")
    assert is_secret(QueueSettings, "token")


def test_an_external_id_without_a_role_means_nothing() -> None:
    with pytest.raises(ValueError, match="external_id goes with role_arn"):
        AwsSettings(external_id="7f9c")


# --- how it is opened ------------------------------------------------------------------------------------------------


async def waits(settings: object, context: object) -> None: ...


async def yields(settings: object, context: object) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize("function", [waits, yields])
def test_an_open_that_gives_no_context_manager_is_refused(function: object) -> None:
    message = "plugin 'queue': its open gives no context manager: put @asynccontextmanager above it"
    assert mistake(lambda: sink(open=function)) == message


def test_an_open_that_cannot_be_called_is_refused() -> None:
    assert mistake(lambda: sink(open="x")) == "plugin 'queue': its open is a str, which cannot be called"


@pytest.mark.parametrize("capabilities", [None, {"order": "key"}, lambda settings: None])
def test_capabilities_that_are_none_are_refused(capabilities: object) -> None:
    assert "plugin 'queue': example 'plain': its capabilities are a " in mistake(
        lambda: sink(capabilities=capabilities)
    )


# --- what a declaration is -------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_calling_a_plugin_declares_a_sink_that_can_be_opened_again_and_again() -> None:
    declared = sink()(queue="orders")
    assert isinstance(declared, SinkDeclaration)
    assert (declared.name, declared.capabilities) == ("queue", CAPABILITIES)
    context: Any = None  # `open_queue` asks nothing of it
    for _ in range(2):
        async with declared.open(context) as writer:
            assert isinstance(writer, QueueWriter)


def test_capabilities_may_depend_on_the_settings() -> None:
    def capabilities(settings: QueueSettings) -> Capabilities:
        return Capabilities(order="none" if settings.loud else "key", idempotence="none")

    plugin = sink(capabilities=capabilities)
    assert plugin(queue="a").capabilities.order == "key"
    assert plugin(queue="a", loud=True).capabilities.order == "none"


def test_a_middleware_is_built_of_its_settings() -> None:
    def build(settings: QueueSettings) -> Any:
        return settings.queue

    plugin = MiddlewarePlugin(
        name="layer",
        api_version="1.0",
        summary="A layer.",
        settings=QueueSettings,
        examples={"plain": {"queue": "orders"}},
        build=build,
    )
    layer: object = plugin(queue="others")
    assert layer == "others"
    with pytest.raises(ConfigError, match="layer: queue: Field required"):
        plugin()


def test_a_destination_is_a_value_like_a_sink() -> None:
    opened: list[object] = []

    def open_destination(settings: QueueSettings, context: SinkContext) -> Any:
        opened.append((settings, context))

    plugin = DestinationPlugin(
        name="drawer",
        api_version="1.0",
        summary="A drawer.",
        settings=QueueSettings,
        examples={"plain": {"queue": "orders"}},
        open=open_destination,
    )
    declared = plugin(queue="others")
    context: Any = object()
    declared.open(context)
    assert declared.name == "drawer"
    assert opened == [(QueueSettings(queue="others"), context)]


def test_a_store_shows_a_url_of_its_own_scheme() -> None:
    def open_store(url: str) -> Any:
        raise NotImplementedError

    def declare(url_example: str) -> StorePlugin:
        return StorePlugin(
            name="ledger", api_version="1.0", summary="A ledger.", url_example=url_example, open=open_store
        )

    assert declare("ledger:///x").url_example == "ledger:///x"
    assert mistake(lambda: declare("sqlite:///x")) == ("plugin 'ledger': its url_example does not begin with ledger:")


# --- capabilities ----------------------------------------------------------------------------------------------------

CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"idempotence": "versioned"}, "idempotence_key says what idempotence goes by: give both or neither"),
    ({"idempotence_key": "event id"}, "idempotence_key says what idempotence goes by: give both or neither"),
    (
        {"idempotence": "window", "idempotence_key": "event id"},
        "idempotence_window_s goes with idempotence window",
    ),
    (
        {"idempotence": "versioned", "idempotence_key": "event id", "idempotence_window_s": 300.0},
        "idempotence_window_s goes with idempotence window",
    ),
    ({"batch_size": 0}, "batch_size is below 1"),
    ({"records_max": 0}, "records_max is below 1"),
    ({"bytes_max": -1}, "bytes_max is below 1"),
    ({"request_records_max": 0}, "request_records_max is below 1"),
    ({"request_bytes_max": 0}, "request_bytes_max is below 1"),
    ({"record_bytes_max": 0}, "record_bytes_max is below 1"),
]


@pytest.mark.parametrize(("changes", "message"), CONTRADICTIONS)
def test_capabilities_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    declared: dict[str, Any] = {"order": "key", "idempotence": "none", **changes}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Capabilities(**declared)


def test_every_contradiction_is_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"^idempotence_key says .*; batch_size is below 1; records_max is below 1$"):
        Capabilities(order="key", idempotence="versioned", batch_size=0, records_max=0)


def test_a_window_that_is_told_is_good() -> None:
    declared = Capabilities(order="key", idempotence="window", idempotence_key="event id", idempotence_window_s=300)
    assert declared.idempotence_window_s == 300
