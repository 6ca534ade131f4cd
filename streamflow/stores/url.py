"""A store by its URL: `sqlite:///PATH`, three slashes before a relative path and four before an absolute one, or `memory:`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from streamflow.errors import ConfigError
from streamflow.stores.memory import MemoryStore
from streamflow.stores.sqlite import open_sqlite_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.protocols import StateStore

_SQLITE = "sqlite:///"


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[StateStore]:
    """Open the store for the length of the block.

    Raises:
        ConfigError: no store has such a URL.
        StoreError: the store cannot be used; nothing in it was changed.
    """
    if url == "memory:":
        yield MemoryStore()
    elif url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        async with open_sqlite_store(Path(url.removeprefix(_SQLITE))) as store:
            yield store
    else:
        raise ConfigError(f"store: {url!r} is none of sqlite:///PATH, memory:")
