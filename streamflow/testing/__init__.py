"""What users test their pipelines with. The names are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamflow.testing.local_streams import LocalStreams as LocalStreams
    from streamflow.testing.memory_source import MemorySource as MemorySource

_HOMES = {
    "LocalStreams": "streamflow.testing.local_streams",
    "MemorySource": "streamflow.testing.memory_source",
}

__all__ = ["LocalStreams", "MemorySource"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
