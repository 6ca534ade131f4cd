"""A server as the tests see it, past the sink; and the sink as they open it."""

from __future__ import annotations

import json
import secrets  # noqa: TID251 - names that no other run has
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from servers.opensearch_fake import Serving
    from streamflow.protocols import Writer

MAPPING = {
    "dynamic": False,
    "properties": {
        "amount": {"type": "long"},
        "_sf_seq": {"type": "keyword"},
        "_sf_deleted": {"type": "boolean"},
    },
}


@dataclass(slots=True)
class Server:
    """An index of its own on a server that may have others; read past the sink."""

    url: str
    serving: Serving | None = None
    """Of the stand-in; yours cannot be killed."""
    index: str = field(default_factory=lambda: f"streamflow-{secrets.token_hex(6)}")

    async def documents(self) -> dict[str, dict[str, Any]]:
        """All there are, by id, with every digit of their numbers."""
        await self._call("POST", f"/{self.index}/_refresh")
        text = await self._call("POST", f"/{self.index}/_search?size=10000")
        hits = json.loads(text, parse_float=Decimal)["hits"]["hits"]
        return {hit["_id"]: hit["_source"] for hit in hits}

    async def create(self) -> None:
        await self._call("PUT", f"/{self.index}", {"mappings": MAPPING})

    async def remove(self) -> None:
        await self._call("DELETE", f"/{self.index}")

    async def _call(self, method: str, path: str, body: object = None) -> str:
        async with (
            aiohttp.ClientSession(raise_for_status=True) as http,
            http.request(method, self.url + path, json=body) as response,
        ):
            return await response.text()


@dataclass(slots=True)
class Opened:
    """An open sink, and how many records it told to be there already."""

    writer: Writer
    suppressed: list[int]


class Open(Protocol):
    def __call__(self, server: Server, **settings: Any) -> AbstractAsyncContextManager[Opened]: ...
