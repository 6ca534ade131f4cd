"""A pipeline's options and what its sink can do: batches that the sink takes, and what goes wrong in the combination."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamflow.errors import ConfigError
from streamflow.sdk.declarations import SinkDeclaration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow.pipeline import Pipeline
    from streamflow.protocols import StreamInfo
    from streamflow.sdk.capabilities import Capabilities

_WITHOUT_NEW_IMAGES = frozenset({"KEYS_ONLY", "OLD_IMAGE"})


def fitted(pipeline: Pipeline) -> Pipeline:
    """The pipeline with batches that its sink takes: as large as it likes best, and never larger than it can.

    Raises:
        ConfigError: the sink cannot keep what its capabilities promise under these options.
    """
    if not isinstance(pipeline.handler, SinkDeclaration):
        return pipeline
    capabilities = pipeline.handler.capabilities
    if wrong := list(_impossible(pipeline, capabilities)):
        name = pipeline.handler.name
        raise ConfigError([f"pipeline {pipeline.name!r} with sink {name}: {problem}" for problem in wrong])
    size = pipeline.batch_size if "batch_size" in pipeline.model_fields_set else capabilities.batch_size
    changes: dict[str, object] = {"batch_size": _least(size, capabilities.records_max)}
    if capabilities.bytes_max is not None:
        changes["batch_bytes_max"] = _least(pipeline.batch_bytes_max, capabilities.bytes_max)
    return pipeline.model_copy(update=changes)


def check_view(pipeline: Pipeline, info: StreamInfo) -> None:
    """Raises `ConfigError` where the sink writes new images and the stream has none."""
    handler = pipeline.handler
    needs_images = isinstance(handler, SinkDeclaration) and handler.capabilities.needs_images
    if needs_images and info.view_type in _WITHOUT_NEW_IMAGES:
        raise ConfigError(
            f"pipeline {pipeline.name!r}: sink {handler.name} writes new images, and stream {info.stream_arn} has the view "
            f"type {info.view_type}: enable a stream with NEW_IMAGE or NEW_AND_OLD_IMAGES on the table"
        )


def warnings(pipeline: Pipeline) -> list[str]:
    """What the combination loses or repeats, each in one line that says what to do about it."""
    if not isinstance(pipeline.handler, SinkDeclaration):
        return []
    name, capabilities = pipeline.handler.name, pipeline.handler.capabilities
    return [f"sink {name}: {text}" for text in _lossy(pipeline, capabilities)]


def _impossible(pipeline: Pipeline, capabilities: Capabilities) -> Iterator[str]:
    if pipeline.tumbling_window_s and not capabilities.windows:
        yield "it knows no tumbling windows: remove tumbling_window_s"
    if capabilities.idempotence == "transactional" and pipeline.parallelization_factor > 1:
        yield (
            "it stores one checkpoint for each shard with the data: parallelization_factor must be 1, or the sink not "
            "transactional"
        )


def _lossy(pipeline: Pipeline, capabilities: Capabilities) -> Iterator[str]:
    match capabilities.order:
        case "none":
            yield "it keeps no order: two changes of one item may arrive the other way round"
        case "shard" if pipeline.parallelization_factor > 1:
            yield (
                f"parallelization_factor = {pipeline.parallelization_factor} keeps the order of each item only, not that of "
                "the shard"
            )
        case _:
            pass
    match capabilities.idempotence:
        case "none":
            yield "what is delivered again after a crash or a failed batch has its effect again: its readers must bear that"
        case "window":
            yield (
                f"a repetition is recognised by {capabilities.idempotence_key} within {capabilities.idempotence_window_s:g} "
                "s: after a longer outage it has its effect again"
            )
        case _:
            pass
    if not capabilities.deletes:
        yield "it takes no deletes: REMOVE records are refused, unless a filter leaves them out"
    if pipeline.on_poison == "dead_letter" and "drop" in pipeline.on_failure:
        yield 'on_failure = "drop" loses what the sink refuses'
    if pipeline.bisect_batch_on_function_error and capabilities.partial_failures:
        yield "it tells single records apart: bisect_batch_on_function_error only adds attempts to batches that fail whole"


def _least(value: int, limit: int | None) -> int:
    return value if limit is None else min(value, limit)
