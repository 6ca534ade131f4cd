"""streamflow: a self-hosted event source mapping for DynamoDB streams. Public names load on first use; nothing runs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamflow.batches import Batch as Batch
    from streamflow.batches import Fence as Fence
    from streamflow.errors import ConfigError as ConfigError
    from streamflow.errors import PartialFailure as PartialFailure
    from streamflow.errors import SinkBusyError as SinkBusyError
    from streamflow.errors import StreamflowError as StreamflowError
    from streamflow.failures import RecordFailure as RecordFailure
    from streamflow.failures import RecordsFailedError as RecordsFailedError
    from streamflow.http_options import HttpOptions as HttpOptions
    from streamflow.launch import run as run
    from streamflow.launch import running as running
    from streamflow.pipeline import App as App
    from streamflow.pipeline import AwsOptions as AwsOptions
    from streamflow.pipeline import Branch as Branch
    from streamflow.pipeline import DynamoDBStream as DynamoDBStream
    from streamflow.pipeline import LambdaFunction as LambdaFunction
    from streamflow.pipeline import Pipeline as Pipeline
    from streamflow.pipeline import fan_out as fan_out
    from streamflow.positions import Position as Position
    from streamflow.protocols import Handler as Handler
    from streamflow.protocols import Middleware as Middleware
    from streamflow.protocols import Observer as Observer
    from streamflow.protocols import Sink as Sink
    from streamflow.protocols import Source as Source
    from streamflow.protocols import Writer as Writer
    from streamflow.records import Record as Record
    from streamflow.records import Shard as Shard

__version__ = "0.1.0"

_HOMES = {
    "batches": ("Batch", "Fence"),
    "errors": ("ConfigError", "PartialFailure", "SinkBusyError", "StreamflowError"),
    "failures": ("RecordFailure", "RecordsFailedError"),
    "http_options": ("HttpOptions",),
    "launch": ("run", "running"),
    "pipeline": (
        "App",
        "AwsOptions",
        "Branch",
        "DynamoDBStream",
        "LambdaFunction",
        "Pipeline",
        "fan_out",
    ),
    "positions": ("Position",),
    "protocols": ("Handler", "Middleware", "Observer", "Sink", "Source", "Writer"),
    "records": ("Record", "Shard"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "App",
    "AwsOptions",
    "Batch",
    "Branch",
    "ConfigError",
    "DynamoDBStream",
    "Fence",
    "Handler",
    "HttpOptions",
    "LambdaFunction",
    "Middleware",
    "Observer",
    "PartialFailure",
    "Pipeline",
    "Position",
    "Record",
    "RecordFailure",
    "RecordsFailedError",
    "Shard",
    "Sink",
    "SinkBusyError",
    "Source",
    "StreamflowError",
    "Writer",
    "__version__",
    "fan_out",
    "run",
    "running",
]


if not TYPE_CHECKING:
    # Hidden from type checkers, which would take any misspelt name for an object.

    def __getattr__(name: str) -> object:
        try:
            home = _HOME_OF[name]
        except KeyError:
            raise AttributeError(f"module 'streamflow' has no attribute {name!r}") from None
        value: object = getattr(importlib.import_module(f"streamflow.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
