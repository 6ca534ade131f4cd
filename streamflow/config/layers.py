"""Middleware in a pipeline file: the built-in layers with their settings, and layers of one's own."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, PrivateAttr, Tag, model_validator

from streamflow.config.code import FactoryTarget, PredicateTarget, accepts
from streamflow.config.problems import Problem
from streamflow.config.table import Table
from streamflow.errors import PluginError
from streamflow.plugins import middleware_plugin, names
from streamflow.targets import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.config.lines import KeyPath
    from streamflow.protocols import Middleware


class TimeoutLayer(Table):
    """Fails an attempt whose inner layers and handler take too long."""

    type: Literal["timeout"]
    """Which layer."""
    seconds: Annotated[float, Field(gt=0, le=86_400, examples=[30.0])]
    """Time for the layers inside and the handler, in seconds."""

    def build(self) -> Middleware:
        from streamflow.middleware.timeout import timeout

        return timeout(self.seconds)


class LogBatchesLayer(Table):
    """Logs one line for each batch."""

    type: Literal["log_batches"]
    """Which layer."""
    logger: Annotated[str | None, Field(min_length=1, examples=["orders.batches"])] = None
    """Name of the logger; by default streamflow's own."""

    def build(self) -> Middleware:
        from streamflow.middleware.log_batches import log_batches

        return log_batches(logging.getLogger(self.logger) if self.logger else None)


class DropLayer(Table):
    """Leaves records out, counted under a reason."""

    type: Literal["drop"]
    """Which layer."""
    predicate: Annotated[PredicateTarget, Field(examples=["orders_handlers:is_test_order"])]
    """Function of a record that is true for the ones to leave out."""
    reason: Annotated[str, Field(min_length=1, max_length=64, examples=["test order"])]
    """Why; it names the count in metrics and logs."""

    def build(self) -> Middleware:
        from streamflow.middleware.drop import drop

        return drop(self.predicate, reason=self.reason)


class DedupeLayer(Table):
    """Leaves out records that this process has delivered before, known by their event id."""

    type: Literal["dedupe"]
    """Which layer."""
    capacity: Annotated[int, Field(ge=1, le=10_000_000, examples=[100_000])] = 100_000
    """How many event ids are remembered; the oldest are forgotten first."""

    def build(self) -> Middleware:
        from streamflow.middleware.dedupe import dedupe

        return dedupe(capacity=self.capacity)


class ConcurrencyLimitLayer(Table):
    """Lets only so many batches of the pipeline be in the inner layers and the handler at a time."""

    type: Literal["concurrency_limit"]
    """Which layer."""
    limit: Annotated[int, Field(ge=1, le=10_000, examples=[4])]
    """Most batches at a time, over all shards."""

    def build(self) -> Middleware:
        from streamflow.middleware.concurrency_limit import concurrency_limit

        return concurrency_limit(self.limit)


class OwnLayer(Table):
    """A layer of one's own: an async function of `batch` and `call_next`, or a factory, called with the other keys."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[FactoryTarget, Field(examples=["orders_handlers:stamp"])]
    """`module:name` of the layer or of its factory."""
    _layer: Any = PrivateAttr()

    @model_validator(mode="after")
    def _made(self) -> OwnLayer:
        self._layer = _own_layer(self.type, self.model_extra or {})
        return self

    def build(self) -> Middleware:
        layer: Middleware = self._layer
        return layer


class PluginLayer(Table):
    """A layer of a plugin; the other keys are its settings."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(examples=["mask"])]
    """Name of the plugin."""
    _layer: Any = PrivateAttr()

    @model_validator(mode="after")
    def _made(self) -> PluginLayer:
        try:
            plugin = middleware_plugin(self.type)
        except PluginError as error:
            raise ValueError(str(error)) from None
        self._layer = plugin.build(plugin.settings.model_validate(self.model_extra or {}))
        return self

    def build(self) -> Middleware:
        layer: Middleware = self._layer
        return layer


def _own_layer(target: Callable[..., Any], settings: dict[str, Any]) -> object:
    name = getattr(target, "__name__", type(target).__name__)
    if inspect.iscoroutinefunction(target):
        if settings:
            raise ValueError(f"{name} is a layer and not a factory: it takes no {', '.join(settings)}")
        layer: object = target
    else:
        if wrong := _misfit(target, settings):
            raise ValueError(f"{name}: {wrong}")
        try:
            layer = target(**settings)
        except Exception as error:
            raise ValueError(f"{name} failed: {type(error).__name__}: {error}") from error
    if not callable(layer) or not accepts(layer, object(), object()):
        raise ValueError(f"{name} gave no layer: a layer is an async function of batch and call_next")
    return layer


def _misfit(factory: Callable[..., Any], settings: dict[str, Any]) -> str | None:
    try:
        signature = inspect.signature(factory)
    except ValueError:  # Python does not know the parameters of some functions written in C
        return None
    try:
        signature.bind(**settings)
    except TypeError as error:
        known = signature.parameters
        unknown = [f"no parameter {name}{did_you_mean(name, known)}" for name in settings if name not in known]
        return "; ".join(unknown) or str(error)
    return None


BUILT_IN: dict[str, type[Table]] = {
    "timeout": TimeoutLayer,
    "log_batches": LogBatchesLayer,
    "drop": DropLayer,
    "dedupe": DedupeLayer,
    "concurrency_limit": ConcurrencyLimitLayer,
}


def layer_kind(value: object) -> str | None:
    """The name of a built-in layer, `own` for `module:name`, `plugin` for an installed one, else what is written."""
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    if not isinstance(kind, str):
        return None
    if kind in BUILT_IN:
        return kind
    return "own" if ":" in kind else "plugin" if kind in names("middleware") else kind


def unknown_layer(path: KeyPath, kind: str | None) -> Problem:
    """The mistake of a layer whose `type` is missing, or neither built in nor `module:name`."""
    known = [*BUILT_IN, *names("middleware")]
    which = "required, but not given" if kind is None else f"no layer is called {kind!r}{did_you_mean(kind, known)}"
    return Problem((*path, "type"), f"{which}; a layer is one of {', '.join(known)}, or module:name for your own")


Layer: TypeAlias = Annotated[
    Annotated[TimeoutLayer, Tag("timeout")]
    | Annotated[LogBatchesLayer, Tag("log_batches")]
    | Annotated[DropLayer, Tag("drop")]
    | Annotated[DedupeLayer, Tag("dedupe")]
    | Annotated[ConcurrencyLimitLayer, Tag("concurrency_limit")]
    | Annotated[OwnLayer, Tag("own")]
    | Annotated[PluginLayer, Tag("plugin")],
    Discriminator(layer_kind),
]
