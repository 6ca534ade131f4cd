"""What a plugin is and takes, for people: one model behind `streamflow describe` and the reference of all sinks.

`python -m streamflow.config.describing docs/sink-settings.md` writes that reference, of what is installed.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from streamflow.config.reference import settings_rows
from streamflow.config.writing import inline, key
from streamflow.plugins import names, sink_plugin
from streamflow.sdk.declarations import ConfigurablePlugin, DestinationPlugin, MiddlewarePlugin, SinkPlugin
from streamflow.sdk.settings import AwsSettings, is_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamflow.sdk.capabilities import Capabilities
    from streamflow.sdk.declarations import Plugin

BEGIN, END = "<!-- begin of the generated reference -->", "<!-- end of the generated reference -->"

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
    """Capabilities and settings, as they stand in the reference."""
    lines: list[str] = []
    if isinstance(plugin, SinkPlugin):
        lines += ["| | order | idempotence | single failures | deletes | batch |", "|---|---|---|---|---|---|"]
        lines += [f"| {name} | {' | '.join(promises(found))} |" for name, found in _capabilities(plugin)]
        lines.append("")
    if isinstance(plugin, ConfigurablePlugin):
        lines += settings_rows(plugin.settings)
        for name, model in inner_tables(plugin.settings):
            lines += ["", f"Each of `{name}`:", "", *settings_rows(model)]
    return "\n".join(lines)


def inner_tables(settings: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """The keys whose values are tables with keys of their own; `aws` is on the page of pipeline files."""
    for name, field in settings.model_fields.items():
        for model in get_args(field.annotation):
            if isinstance(model, type) and issubclass(model, BaseModel) and model is not AwsSettings:
                yield name, model


def reference() -> str:
    """Every sink that is installed, by name."""
    parts = [f"### {name}\n\n{plugin.summary}\n\n{as_markdown(plugin)}" for name, plugin in _sinks()]
    return "\n\n".join(parts)


def replace_reference(page: str) -> str:
    """`page` with what stands between its marks replaced by `reference()`."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{reference()}\n\n{END}{after}"


def _sinks() -> Iterator[tuple[str, SinkPlugin[Any]]]:
    for name in names("sinks"):
        yield name, sink_plugin(name)


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


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(replace_reference(target.read_text(encoding="utf-8")), encoding="utf-8")
