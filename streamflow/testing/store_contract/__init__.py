"""The contract of stores as tests: whoever writes a store inherits from both classes. Needs pytest.

The names are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamflow.testing.store_contract.leases import LeaseStoreContract as LeaseStoreContract
    from streamflow.testing.store_contract.letters import DeadLetterStoreContract as DeadLetterStoreContract

_HOMES = {"DeadLetterStoreContract": "letters", "LeaseStoreContract": "leases"}

__all__ = ["DeadLetterStoreContract", "LeaseStoreContract"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
