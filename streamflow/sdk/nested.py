"""Sinks inside the settings of another sink."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from streamflow.sdk.declarations import SinkDeclaration

if TYPE_CHECKING:
    from collections.abc import Sequence


def _nested(value: object, info: ValidationInfo) -> object:
    """In a pipeline file it is a table, which the validation context knows how to read."""
    if isinstance(value, dict):
        read = (info.context or {}).get("sink")
        if read is None:
            raise ValueError("should be a sink, not a dict: call the plugin, as in jsonl(path=…)")
        return read(value, info)
    if isinstance(value, SinkDeclaration) or callable(value) or hasattr(value, "__aenter__"):
        return value
    raise ValueError(f"should be a sink or a handler, not {type(value).__name__}")


NestedSink: TypeAlias = Annotated[
    Any,
    PlainValidator(_nested),
    WithJsonSchema({"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}),
]
"""A `SinkDeclaration`, or any handler; in a pipeline file a table with `type`. Open it with `context.open_sink`."""

Sinks = TypeVar("Sinks", bound="Sequence[object]")


def without_checkpoint(sinks: Sinks) -> Sinks:
    """The sinks as they are.

    Raises:
        ValueError: one keeps the checkpoint itself. Inside another sink it would not see all of the shard's records, and
            nobody would ask it where to go on.
    """
    for sink in sinks:
        if isinstance(sink, SinkDeclaration) and sink.capabilities.idempotence == "transactional":
            raise ValueError(f"{sink.name} is transactional, which a sink inside another one cannot be: turn that off")
    return sinks
