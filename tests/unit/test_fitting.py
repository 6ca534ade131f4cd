"""A pipeline's options are cut to what its sink can do, and what is lost or repeated is said before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from streamflow.errors import ConfigError
from streamflow.handlers.fitting import check_view, fitted, warnings
from streamflow.pipeline import DynamoDBStream, Pipeline
from streamflow.protocols import StreamInfo
from streamflow.sdk.capabilities import Capabilities
from streamflow.sdk.declarations import SinkDeclaration, SinkPlugin
from streamflow.sdk.settings import Settings

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from streamflow.protocols import Writer
    from streamflow.sdk.context import SinkContext


def _never(_settings: Settings, _context: SinkContext) -> AbstractAsyncContextManager[Writer]:
    raise AssertionError("nobody opens it")


def sink(**capabilities: Any) -> SinkDeclaration:
    promised = {"order": "shard", "idempotence": "none", **capabilities}
    plugin = SinkPlugin(
        name="acme",
        api_version="1.0",
        summary="For tests.",
        settings=Settings,
        examples={"only": {}},
        open=_never,
        capabilities=Capabilities(**promised),
    )
    return plugin()


VERSIONED = {"idempotence": "versioned", "idempotence_key": "item key and sequence number"}


def pipeline(handler: object, **options: Any) -> Pipeline:
    return Pipeline(name="orders", source=DynamoDBStream(table="orders"), handler=handler, **options)


async def deliver(batch: object) -> None: ...


@pytest.mark.parametrize(
    ("options", "capabilities", "size"),
    [
        ({}, {}, 100),
        ({}, {"batch_size": 500}, 500),
        ({"batch_size": 7}, {"batch_size": 500}, 7),
        ({"batch_size": 1_000}, {"records_max": 10}, 10),
        ({}, {"batch_size": 500, "records_max": 25}, 25),
    ],
)
def test_batches_are_as_large_as_the_sink_likes_and_takes(
    options: dict[str, Any], capabilities: dict[str, Any], size: int
) -> None:
    assert fitted(pipeline(sink(**capabilities), **options)).batch_size == size


def test_batches_are_no_larger_in_bytes_than_the_sink_takes() -> None:
    assert fitted(pipeline(sink(bytes_max=1_000_000))).batch_bytes_max == 1_000_000
    assert fitted(pipeline(sink(bytes_max=1_000_000), batch_bytes_max=5_000)).batch_bytes_max == 5_000
    assert fitted(pipeline(sink())).batch_bytes_max == 6_291_456


def test_a_handler_of_ones_own_is_given_what_the_options_say() -> None:
    declared = pipeline(deliver)
    assert fitted(declared) is declared
    assert warnings(declared) == []


@pytest.mark.parametrize(
    ("options", "capabilities", "problem"),
    [
        ({"tumbling_window_s": 60}, {}, "it knows no tumbling windows"),
        (
            {"parallelization_factor": 2},
            {"idempotence": "transactional", "idempotence_key": "checkpoint"},
            "parallelization_factor must be 1",
        ),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], capabilities: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as raised:
        fitted(pipeline(sink(**capabilities), **options))
    assert "pipeline 'orders' with sink acme" in str(raised.value)


def test_a_sink_that_knows_windows_may_have_them() -> None:
    assert fitted(pipeline(sink(windows=True), tumbling_window_s=60)).tumbling_window_s == 60


@pytest.mark.parametrize(
    ("options", "capabilities", "warning"),
    [
        ({}, {"order": "none", **VERSIONED}, "keeps no order"),
        ({"parallelization_factor": 4}, VERSIONED, "keeps the order of each item only"),
        ({}, {}, "has its effect again"),
        (
            {},
            {"idempotence": "window", "idempotence_key": "event id", "idempotence_window_s": 300.0},
            "by event id within 300 s",
        ),
        ({}, {"deletes": False, **VERSIONED}, "REMOVE records are refused"),
        ({"on_failure": "drop"}, VERSIONED, "loses what the sink refuses"),
        (
            {"bisect_batch_on_function_error": True},
            {"partial_failures": True, **VERSIONED},
            "only adds attempts",
        ),
    ],
)
def test_what_loses_order_or_repeats_effects_is_warned_of(
    options: dict[str, Any], capabilities: dict[str, Any], warning: str
) -> None:
    (found,) = warnings(pipeline(sink(**capabilities), **options))
    assert found.startswith("sink acme: ")
    assert warning in found


def test_a_combination_that_loses_nothing_has_no_warning() -> None:
    assert warnings(pipeline(sink(**VERSIONED))) == []
    assert warnings(pipeline(sink(order="key", **VERSIONED), parallelization_factor=10)) == []


@pytest.mark.fault("F46")
@pytest.mark.parametrize("view_type", ["KEYS_ONLY", "OLD_IMAGE"])
def test_a_stream_without_the_images_that_a_sink_writes_is_refused(view_type: str) -> None:
    info = StreamInfo(stream_arn="arn", name="orders", view_type=view_type, enabled=True)
    with pytest.raises(ConfigError, match=f"has the view type {view_type}"):
        check_view(pipeline(sink(needs_images=True)), info)
    check_view(pipeline(sink()), info)
    check_view(pipeline(deliver), info)


@pytest.mark.parametrize(
    ("capabilities", "problem"),
    [
        ({"idempotence": "versioned"}, "idempotence_key says what idempotence goes by"),
        ({"idempotence_key": "event id"}, "idempotence_key says what idempotence goes by"),
        ({"idempotence": "window", "idempotence_key": "event id"}, "idempotence_window_s goes with"),
        ({"batch_size": 0}, "batch_size is below 1"),
        ({"records_max": -1}, "records_max is below 1"),
    ],
)
def test_capabilities_that_contradict_each_other_are_refused(capabilities: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Capabilities(**{"order": "key", "idempotence": "none", **capabilities})
