"""Sinks and destinations of plugins in a pipeline file: tables with `type`, and the plugin's settings beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from streamflow.config.code import handler_target
from streamflow.errors import PluginError
from streamflow.plugins import destination_plugin, sink_plugin
from streamflow.sdk.declarations import DestinationDeclaration, SinkDeclaration
from streamflow.sdk.settings import is_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streamflow.sdk.declarations import ConfigurablePlugin


def sink_of(value: object, info: ValidationInfo) -> object:
    """What the table declares: a sink of a plugin, or with `type = "module:name"` a handler of one's own.

    pydantic gathers the `ValidationError` of the plugin's settings with all others.
    """
    if not isinstance(value, dict):
        raise ValueError('should be a table with type = "…", the name of a sink')  # noqa: TRY004 - pydantic collects these
    kind, settings = _parted(value)
    if ":" in kind:
        if settings:
            raise ValueError(f"{kind} is a handler of your own: it takes no {', '.join(settings)}")
        return handler_target(kind, info)
    plugin = _found(sink_plugin, kind)
    return SinkDeclaration(plugin=plugin, settings=_settings(plugin, settings, info))


def destination_of(value: object, info: ValidationInfo) -> object:
    """A destination of a plugin for a table; anything else as it is."""
    if not isinstance(value, dict):
        return value
    kind, settings = _parted(value)
    plugin = _found(destination_plugin, kind)
    return DestinationDeclaration(plugin=plugin, settings=_settings(plugin, settings, info))


def settings_of(table: object) -> type[Any] | None:
    """The settings that a table with `type` holds, where its plugin can be loaded."""
    kind = table.get("type") if isinstance(table, dict) else None
    if not isinstance(kind, str) or ":" in kind:
        return None
    for look_up in (sink_plugin, destination_plugin):
        try:
            return look_up(kind).settings
        except PluginError:
            continue
    return None


def settings_keys(table: object) -> Iterable[str]:
    """The keys that such a table may have; empty where its plugin is not known."""
    model = settings_of(table)
    return () if model is None else ["type", *(field.alias or name for name, field in model.model_fields.items())]


def holds_secret(table: object, key: str) -> bool:
    """Whether the key of such a table is one that must not be shown."""
    model = settings_of(table)
    return model is not None and is_secret(model, key)


def _parted(table: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    kind = table.get("type")
    if not isinstance(kind, str):
        raise ValueError("type is required: the name of a sink, or module:name of a handler of your own")  # noqa: TRY004
    return kind, {key: value for key, value in table.items() if key != "type"}


def _found(look_up: Callable[[str], ConfigurablePlugin[Any]], kind: str) -> Any:
    try:
        return look_up(kind)
    except PluginError as error:
        raise ValueError(f"type = {kind!r}: {error}") from None


def _settings(plugin: ConfigurablePlugin[Any], values: dict[str, Any], info: ValidationInfo) -> Any:
    context = {**(info.context or {}), "sink": sink_of}
    return plugin.settings.model_validate(values, context=context)


_TABLE = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}
SinkTable: TypeAlias = Annotated[Any, PlainValidator(sink_of), WithJsonSchema(_TABLE)]
