"""The chain and the layers that come with it; each layer is a page of its own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamflow.middleware.concurrency_limit import concurrency_limit as concurrency_limit
    from streamflow.middleware.dedupe import dedupe as dedupe
    from streamflow.middleware.drop import drop as drop
    from streamflow.middleware.log_batches import log_batches as log_batches
    from streamflow.middleware.timeout import timeout as timeout

__all__ = ["concurrency_limit", "dedupe", "drop", "log_batches", "timeout"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'streamflow.middleware' has no attribute {name!r}")
    return getattr(importlib.import_module(f"streamflow.middleware.{name}"), name)
