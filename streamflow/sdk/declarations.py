"""Plugins as values: what there is, what it takes, and how it is opened. A wrong one is refused when it is made."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import ValidationError

from streamflow.errors import ConfigError, PluginError
from streamflow.sdk.capabilities import Capabilities
from streamflow.sdk.problems import problem
from streamflow.sdk.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from streamflow.protocols import Destination, Middleware, StateStore, Writer
    from streamflow.sdk.context import SinkContext
    from streamflow.sdk.permissions import Permission

API_VERSION = (1, 0)
"""Of this module. A plugin with another major version, or a newer minor one, is not loaded."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_VERSION = re.compile(r"(\d+)\.(\d+)", re.ASCII)

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plugin:
    """`name` is that of its entry point; `summary` is one sentence for people."""

    name: str
    api_version: str
    """`MAJOR.MINOR` of the `streamflow.sdk` that it was written for."""
    summary: str

    def __post_init__(self) -> None:
        """Raises `PluginError` that names everything that is wrong."""
        if wrong := list(self._mistakes()):
            raise PluginError(f"plugin {self.name!r}: " + "; ".join(wrong), plugin=str(self.name))

    def _mistakes(self) -> Iterator[str]:
        if not _NAME.fullmatch(self.name):
            yield "its name is not of a-z 0-9 _"
        if not self.summary.strip() or "\n" in self.summary.strip():
            yield "its summary is not one line"
        version = _VERSION.fullmatch(self.api_version)
        if version is None:
            yield f"its api_version {self.api_version!r} is not MAJOR.MINOR"
        elif int(version[1]) != API_VERSION[0] or int(version[2]) > API_VERSION[1]:
            ours = ".".join(map(str, API_VERSION))
            yield f"it is written for version {self.api_version} of streamflow.sdk, and this is {ours}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConfigurablePlugin(Plugin, Generic[S]):
    """A plugin with settings. `examples` are whole settings by name: they are shown, and checked."""

    settings: type[S]
    examples: Mapping[str, Mapping[str, Any]]

    def configured(self, values: Mapping[str, Any]) -> S:
        """Validated settings.

        Raises:
            ConfigError: every mistake in them.
        """
        try:
            return self.settings.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError([f"{self.name}: {problem(each, self.settings)}" for each in error.errors()]) from None

    def _mistakes(self) -> Iterator[str]:
        yield from super(ConfigurablePlugin, self)._mistakes()
        settings: object = self.settings  # whatever the author gave
        if not (isinstance(settings, type) and issubclass(settings, Settings)):
            yield "its settings are no subclass of streamflow.sdk.Settings"
            return
        for name, declared in self.settings.model_fields.items():
            if not (declared.description or "").strip():
                yield f"settings.{name} has no description: write a docstring below it"
            if declared.is_required() and not any(name in example for example in self.examples.values()):
                yield f"settings.{name} is required, and no example of the plugin has it"
        if not self.examples:
            yield "it has no examples"
        for name, example in self.examples.items():
            try:
                self._try(self.configured(example))
            except ConfigError as error:
                yield from (f"example {name!r}: {line}" for line in error.problems)
            except ValueError as error:
                yield f"example {name!r}: {error}"

    def _try(self, settings: S) -> None:
        """Look at the settings of an example; raises `ValueError`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SinkPlugin(ConfigurablePlugin[S]):
    """A kind of sink. Calling it with settings declares one: `jsonl(path="orders.jsonl")`.

    `open` is an async context manager of settings and context that yields a `Writer`; it looks whether the target can be
    written, and raises `ConfigError` for what the user has to mend: credentials, a table that is not there.

    `write` gets records of one shard in stream order; an empty batch only if its capabilities say `windows`. It may be
    called for several shards at the same time, and cancelled anywhere. Returning says that all of the batch is durable at
    the target. Raising says that it is not: `RecordsFailedError` for single records, `SinkBusyError` where the target asks
    for a pause, `FencedError` for a newer owner, and anything else for the batch as a whole.

    Raises:
        PluginError: the declaration does not keep the contract; the message names everything that is wrong.
    """

    open: Callable[[S, SinkContext], AbstractAsyncContextManager[Writer]]
    capabilities: Capabilities | Callable[[S], Capabilities]
    permissions: Callable[[S], Sequence[Permission]] | None = None
    """What a sink with these settings calls at AWS, for `streamflow iam-policy`; None where nobody has written it down."""

    def _mistakes(self) -> Iterator[str]:
        yield from super(SinkPlugin, self)._mistakes()
        yield from _mistakes_of_open(self.open)

    def _try(self, settings: S) -> None:
        found: object = self.capabilities_of(settings)  # whatever the author gave
        if not isinstance(found, Capabilities):
            raise ValueError(f"its capabilities are a {type(found).__name__}")  # noqa: TRY004 - told as a mistake

    def capabilities_of(self, settings: S) -> Capabilities:
        return self.capabilities(settings) if callable(self.capabilities) else self.capabilities

    def __call__(self, **settings: Any) -> SinkDeclaration:
        """Raises `ConfigError` with every mistake in the settings."""
        return SinkDeclaration(plugin=self, settings=self.configured(settings))


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkDeclaration:
    """A sink that can be opened, any number of times: a value, like every declaration."""

    plugin: SinkPlugin[Any]
    settings: Settings

    @property
    def name(self) -> str:
        return self.plugin.name

    @property
    def capabilities(self) -> Capabilities:
        return self.plugin.capabilities_of(self.settings)

    def open(self, context: SinkContext) -> AbstractAsyncContextManager[Writer]:
        return self.plugin.open(self.settings, context)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MiddlewarePlugin(ConfigurablePlugin[S]):
    """A kind of middleware; `build` makes a layer of settings."""

    build: Callable[[S], Middleware]

    def __call__(self, **settings: Any) -> Middleware:
        """Raises `ConfigError` with every mistake in the settings."""
        return self.build(self.configured(settings))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DestinationPlugin(ConfigurablePlugin[S]):
    """A kind of on-failure destination; `open` yields one."""

    open: Callable[[S, SinkContext], AbstractAsyncContextManager[Destination]]

    def _mistakes(self) -> Iterator[str]:
        yield from super(DestinationPlugin, self)._mistakes()
        yield from _mistakes_of_open(self.open)

    def __call__(self, **settings: Any) -> DestinationDeclaration:
        """Raises `ConfigError` with every mistake in the settings."""
        return DestinationDeclaration(plugin=self, settings=self.configured(settings))


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationDeclaration:
    """A destination that can be opened."""

    plugin: DestinationPlugin[Any]
    settings: Settings

    @property
    def name(self) -> str:
        return self.plugin.name

    def open(self, context: SinkContext) -> AbstractAsyncContextManager[Destination]:
        return self.plugin.open(self.settings, context)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StorePlugin(Plugin):
    """A kind of store; `name` is the scheme of its URLs. `open` takes the URL, and raises `StoreError` and `ConfigError`."""

    url_example: str
    open: Callable[[str], AbstractAsyncContextManager[StateStore]]

    def _mistakes(self) -> Iterator[str]:
        yield from super(StorePlugin, self)._mistakes()
        yield from _mistakes_of_open(self.open)
        if not self.url_example.startswith(f"{self.name}:"):
            yield f"its url_example does not begin with {self.name}:"


def _mistakes_of_open(function: object) -> Iterator[str]:
    if not callable(function):
        yield f"its open is a {type(function).__name__}, which cannot be called"
    elif inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function):
        yield "its open gives no context manager: put @asynccontextmanager above it"
