"""What a plugin is and takes, for people: the same model behind `streamflow describe`, the plugin pages and their tests."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from streamflow.config.reference import settings_rows
from streamflow.config.writing import inline, key
from streamflow.sdk.declarations import ConfigurablePlugin, DestinationPlugin, MiddlewarePlugin, SinkPlugin
from streamflow.sdk.settings import is_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamflow.sdk.capabilities import Capabilities
    from streamflow.sdk.declarations import Plugin

_PLACES: tuple[tuple[type[Plugin], str], ...] = (
    (SinkPlugin, "[pipelines.orders.sink]"),
    (MiddlewarePlugin, "[[pipelines.orders.middleware]]"),
    (DestinationPlugin, "[pipelines.orders.on_failure]"),
)


def as_json(plugin: Plugin) -> dict[str, Any]:
    """Everything there is to know, ready for JSON."""
    known: dict[str, Any] = {"name": plugin.name, "summary": plugin.summary, "api_version": plugin.api_version}
    if isinstance(plugin, ConfigurablePlugin):
        known["settings"] = plugin.settings.model_json_schema()
        known["secrets"] = [name for name in plugin.settings.model_fields if is_secret(plugin.settings, name)]
        known["examples"] = {name: toml(plugin, name) for name in plugin.examples}
    if isinstance(plugin, SinkPlugin):
        known["capabilities"] = {name: asdict(found) for name, found in _capabilities(plugin)}
    return known


def as_markdown(plugin: Plugin) -> str:
    """Capabilities, settings and examples: what stands between the marks of the plugin's page."""
    lines: list[str] = []
    if isinstance(plugin, SinkPlugin):
        lines += ["| | order | idempotence | single failures | deletes | batch |", "|---|---|---|---|---|---|"]
        lines += [f"| {name} | {' | '.join(promises(found))} |" for name, found in _capabilities(plugin)]
        lines.append("")
    if isinstance(plugin, ConfigurablePlugin):
        lines += settings_rows(plugin.settings)
        for name in plugin.examples:
            lines += ["", f"{name[:1].upper()}{name[1:]}:", "", "```toml", toml(plugin, name), "```"]
    return "\n".join(lines)


def promises(capabilities: Capabilities) -> tuple[str, str, str, str, str]:
    """Order, idempotence, single failures, deletes, and what one write and one request take."""
    idempotence = str(capabilities.idempotence)
    if capabilities.idempotence_key is not None:
        idempotence += f", by {capabilities.idempotence_key}"
    if capabilities.idempotence_window_s is not None:
        idempotence += f", for {capabilities.idempotence_window_s:g} s"
    return (
        {"none": "none", "key": "per item", "shard": "per shard"}[capabilities.order],
        idempotence,
        "told" if capabilities.partial_failures else "not told",
        "yes" if capabilities.deletes else "refused",
        ", ".join(_sizes(capabilities)),
    )


def toml(plugin: ConfigurablePlugin[Any], example: str) -> str:
    """One of the plugin's examples as a table of a pipeline file."""
    place = next(place for kind, place in _PLACES if isinstance(plugin, kind))
    values = {"type": plugin.name, **plugin.examples[example]}
    return "\n".join([place, *_pairs(values)])


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        yield f"{key(name)} = {inline(value)}"


def _capabilities(plugin: SinkPlugin[Any]) -> Iterator[tuple[str, Capabilities]]:
    for name, example in plugin.examples.items():
        yield name, plugin.capabilities_of(plugin.configured(example))


def _sizes(capabilities: Capabilities) -> Iterator[str]:
    yield f"{capabilities.batch_size:,} records"
    if capabilities.records_max is not None:
        yield f"at most {capabilities.records_max:,}"
    if capabilities.bytes_max is not None:
        yield f"at most {capabilities.bytes_max:,} bytes"
    if capabilities.request_records_max is not None:
        yield f"{capabilities.request_records_max:,} a request"
    if capabilities.request_bytes_max is not None:
        yield f"{capabilities.request_bytes_max:,} bytes a request"
    if capabilities.record_bytes_max is not None:
        yield f"{capabilities.record_bytes_max:,} bytes a record"
