"""`streamflow describe`: what a plugin promises, and every setting that it takes."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import click

from streamflow.cli import options
from streamflow.config import describing
from streamflow.config.reference import settings
from streamflow.errors import ConfigError
from streamflow.plugins import GROUPS, installed, names
from streamflow.sdk.declarations import ConfigurablePlugin, SinkPlugin, StorePlugin
from streamflow.targets import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow.plugins import Installed

_WIDTH = 100


@click.command(short_help="Show what a sink or another plugin promises, and its settings.")
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(list(GROUPS)), help="Which kind of plugin; by default the first that has NAME."
)
@click.option("--markdown", is_flag=True, help="Print the tables of the plugin's page.")
@options.as_json("Print everything as one JSON object, with the JSON schema of the settings.")
@options.debug
def describe(name: str, *, kind: str | None, markdown: bool, as_json: bool) -> None:
    """Show what the plugin NAME promises and takes: order, idempotence, limits, settings, examples."""
    row = _row(name, kind)
    if row.plugin is None:
        raise ConfigError(str(row.error))
    if as_json:
        found = {"kind": row.group, "distribution": row.distribution, "version": row.version}
        click.echo(json.dumps({**found, **describing.as_json(row.plugin)}))
    elif markdown:
        click.echo(describing.as_markdown(row.plugin))
    else:
        click.echo("\n".join(_lines(row)))


def _row(name: str, kind: str | None) -> Installed:
    for row in installed():
        if row.name == name and kind in {None, row.group}:
            return row
    known = sorted({each for group in GROUPS if kind in {None, group} for each in names(group)})
    raise ConfigError(
        f"there is no plugin {name!r}{did_you_mean(name, known)}; `streamflow plugins` lists what there is"
    )


def _lines(row: Installed) -> Iterator[str]:
    plugin = row.plugin
    assert plugin is not None
    yield f"{plugin.name}: {plugin.summary}"
    yield f"  {row.group}, from {row.distribution} {row.version}, streamflow.sdk {plugin.api_version}"
    if isinstance(plugin, StorePlugin):
        yield f"  store = {plugin.url_example!r}"
    if isinstance(plugin, SinkPlugin):
        yield from _promises(plugin)
    if isinstance(plugin, ConfigurablePlugin):
        yield from _settings(plugin)
        for example in plugin.examples:
            yield from ("", f"Example, {example}:", textwrap.indent(describing.toml(plugin, example), "  "))


def _promises(plugin: SinkPlugin[Any]) -> Iterator[str]:
    for example, values in plugin.examples.items():
        found = describing.promises(plugin.capabilities_of(plugin.configured(values)))
        yield from ("", f"Promises, {example}:")
        for label, text in zip(("order", "idempotence", "single failures", "deletes", "batch"), found, strict=True):
            yield f"  {label:<16}{text}"


def _settings(plugin: ConfigurablePlugin[Any]) -> Iterator[str]:
    yield from ("", "Settings:")
    for each in settings(plugin.settings):
        default = {"required": "required", "-": "may be left out"}.get(each.default, f"default {each.default}")
        yield f"  {each.name}: {each.type}, {default}".replace("`", "")
        yield textwrap.fill(each.meaning, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
