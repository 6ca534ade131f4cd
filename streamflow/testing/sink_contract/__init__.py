"""The contract of sinks as tests: whoever writes a sink inherits from `SinkContract`. Needs pytest.

The names are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamflow.testing.sink_contract.changes import Changes as Changes
    from streamflow.testing.sink_contract.contract import SinkContract as SinkContract
    from streamflow.testing.sink_contract.seen import Seen as Seen
    from streamflow.testing.sink_contract.seen import exact_json as exact_json

_HOMES = {"Changes": "changes", "Seen": "seen", "SinkContract": "contract", "exact_json": "seen"}

__all__ = ["Changes", "Seen", "SinkContract", "exact_json"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
