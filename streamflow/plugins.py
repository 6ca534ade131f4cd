"""Plugins by name: entry points of installed distributions, loaded one by one when somebody asks for them.

A plugin that is broken is an error of that plugin: it is told when it is asked for, or as a row of the listing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar

from streamflow.errors import ConfigError, PluginError, error_text
from streamflow.sdk.declarations import DestinationPlugin, MiddlewarePlugin, Plugin, SinkPlugin, StorePlugin
from streamflow.targets import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from streamflow.protocols import StateStore

GROUPS: Mapping[str, type[Plugin]] = {
    "sinks": SinkPlugin,
    "middleware": MiddlewarePlugin,
    "destinations": DestinationPlugin,
    "stores": StorePlugin,
}
"""What there is, in the plural; the group of entry points is `streamflow.` and this."""

P = TypeVar("P", bound=Plugin)
_PASSWORD = re.compile(r"://[^/@]*@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One row of the listing. `error` says why `plugin` is None."""

    group: str
    name: str
    distribution: str
    version: str
    plugin: Plugin | None
    error: str | None


def sink_plugin(name: str) -> SinkPlugin[Any]:
    """Raises `PluginError`: there is none of that name, or it is broken."""
    return _plugin("sinks", name, SinkPlugin)


def middleware_plugin(name: str) -> MiddlewarePlugin[Any]:
    """Raises as `sink_plugin`."""
    return _plugin("middleware", name, MiddlewarePlugin)


def destination_plugin(name: str) -> DestinationPlugin[Any]:
    """Raises as `sink_plugin`."""
    return _plugin("destinations", name, DestinationPlugin)


def store_plugin(scheme: str) -> StorePlugin:
    """Raises as `sink_plugin`."""
    return _plugin("stores", scheme, StorePlugin)


def open_store(url: str) -> AbstractAsyncContextManager[StateStore]:
    """The store of that URL, for the length of the block.

    Raises:
        ConfigError: no store has such a URL.
        StoreError: the store cannot be used; nothing in it was changed.
    """
    scheme = url.partition(":")[0]
    try:
        plugin = store_plugin(scheme)
    except PluginError as error:
        raise ConfigError(f"store: {error}") from error  # the URL may hold a password
    return plugin.open(url)


def without_password(url: str) -> str:
    """The URL of a store as it may be shown."""
    return _PASSWORD.sub("://…@", url)


def names(group: str) -> list[str]:
    """The names of a group, without loading anything."""
    return sorted(_found(group))


def installed() -> Iterator[Installed]:
    """Every plugin there is, loaded; the broken ones with their errors."""
    for group, kind in GROUPS.items():
        for name, points in sorted(_found(group).items()):
            for point in points:
                yield _row(group, name, point, kind, twins=len(points))


def _row(group: str, name: str, point: EntryPoint, kind: type[Plugin], *, twins: int) -> Installed:
    plugin: Plugin | None = None
    error: str | None = None
    try:
        if twins > 1:
            raise _twins(group, name)
        plugin = _loaded(point, name, kind)
    except PluginError as broken:
        error = str(broken)
    distribution, version = _origin(point)
    return Installed(group=group, name=name, distribution=distribution, version=version, plugin=plugin, error=error)


def _plugin(group: str, name: str, kind: type[P]) -> P:
    found = _found(group)
    points = found.get(name)
    if not points:
        known = ", ".join(sorted(found)) or "none"
        raise PluginError(
            f"there is no plugin {name!r} among the {group}{did_you_mean(name, found)} (installed: {known}); it may be in "
            f"a distribution of its own, such as streamflow-engine-{name}",
            plugin=name,
        )
    point, *others = points
    if others:
        raise _twins(group, name)
    return _loaded(point, name, kind)


def _twins(group: str, name: str) -> PluginError:
    origins = " and ".join(sorted(_origin(point)[0] for point in _found(group)[name]))
    return PluginError(f"{origins} both bring {group} {name!r}: uninstall one of them", plugin=name)


@cache
def _found(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"streamflow.{group}"):
        found.setdefault(point.name, []).append(point)
    return {name: tuple(points) for name, points in found.items()}


def _loaded(point: EntryPoint, name: str, kind: type[P]) -> P:
    origin = " ".join(_origin(point))
    try:
        plugin: object = point.load()
    except PluginError as error:
        raise PluginError(f"{origin}: {error}", plugin=name) from error
    except (Exception, SystemExit) as error:
        # Whatever happens in somebody else's module while it is imported.
        text = error_text(error).partition("\n")[0]
        raise PluginError(
            f"plugin {name!r} of {origin} cannot be loaded: {type(error).__name__}: {text}", plugin=name
        ) from error
    if not isinstance(plugin, kind):
        raise PluginError(
            f"plugin {name!r} of {origin} is a {type(plugin).__name__}: {point.value} must be a {kind.__name__}",
            plugin=name,
        )
    if plugin.name != name:
        raise PluginError(
            f"plugin {name!r} of {origin} calls itself {plugin.name!r}: entry point and name must be the same",
            plugin=name,
        )
    return plugin


def _origin(point: EntryPoint) -> tuple[str, str]:
    """Distribution and version."""
    return ("?", "?") if point.dist is None else (point.dist.name, point.dist.version)
