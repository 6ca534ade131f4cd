"""The contract suite of sinks, for each versioning: against the stand-in, or yours at $STREAMFLOW_TEST_OPENSEARCH_URL."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import pytest

from servers.opensearch_fake import Fake, Serving, open_fake
from streamflow.testing.proxies import open_fault_proxy
from streamflow.testing.sink_contract import Changes, Seen, SinkContract
from streamflow.testing.sink_contract.verdicts import not_run
from streamflow_opensearch import opensearch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from opensearch_server import Server
    from streamflow import Record
    from streamflow.sdk import SinkDeclaration
    from streamflow.testing.proxies import FaultProxy

YOURS = os.environ.get("STREAMFLOW_TEST_OPENSEARCH_URL")


class OpenSearchContract(SinkContract):
    kind = "state"
    server = "in-repo fake" if YOURS is None else "$STREAMFLOW_TEST_OPENSEARCH_URL"
    versioning: ClassVar[str]

    @pytest.fixture
    async def proxy(self, server: Server) -> AsyncIterator[FaultProxy]:
        address = urlsplit(server.url)
        async with open_fault_proxy(str(address.hostname), address.port or 80) as proxy:
            yield proxy

    @pytest.fixture
    def sink(self, server: Server, proxy: FaultProxy) -> SinkDeclaration:
        self._server = server
        return self.to(f"http://127.0.0.1:{proxy.port}", server.index)

    @pytest.fixture
    def missing_target(self, server: Server) -> SinkDeclaration:
        return self.to(server.url, f"{server.index}-missing")

    @pytest.fixture
    async def wrong_credentials(self) -> AsyncIterator[SinkDeclaration]:
        async with open_fake(Fake(authorization="Basic another")) as serving:
            yield self.to(serving.url, "orders", password="hidden-too")

    def to(self, url: str, index: str, password: str = "hidden") -> SinkDeclaration:
        return opensearch(
            urls=[url],
            index=index,
            versioning=self.versioning,
            request_timeout_s=5,
            username="streamflow",
            password=password,
        )

    async def read_back(self, sink: SinkDeclaration) -> list[Seen]:
        return [_seen(document) for document in (await self._server.documents()).values()]

    async def kill(self) -> None:
        await self._stand_in.kill()

    async def restart(self) -> None:
        await self._stand_in.start()

    @property
    def _stand_in(self) -> Serving:
        return self._server.serving or not_run("a server of yours is not killed")

    def untakeable(self, changes: Changes) -> Sequence[Record]:
        return [changes.put("untakeable", amount={"S": "text"}), changes.put("large", amount={"N": str(2**63)})]


def _seen(document: dict[str, Any]) -> Seen:
    """Whose item it is stands in `id`, in tombstones too."""
    deleted = document.pop("_sf_deleted", False)
    document.pop("_sf_shard")
    return Seen(
        item_key=document["id"],
        sequence_number=document.pop("_sf_seq")[3:],
        event_id=document.pop("_sf_event_id"),
        image=None if deleted else document,
        deleted=deleted,
    )


class TestCompared(OpenSearchContract):
    mode = versioning = "compared"


class TestScripted(OpenSearchContract):
    mode = versioning = "scripted"

    def normalise(self, image: dict[str, Any]) -> dict[str, Any]:
        """The parameters of a script go through floating point of 64 bits, and what it writes is made of that."""
        rounded: dict[str, Any] = _rounded(image)
        return rounded


def _rounded(value: Any) -> Any:
    match value:
        case Decimal():
            return Decimal(repr(float(value)))
        case dict():
            return {name: _rounded(each) for name, each in value.items()}
        case list():
            return [_rounded(each) for each in value]
    return value


class TestExternal(OpenSearchContract):
    mode = versioning = "external"


class TestOrdered(OpenSearchContract):
    mode = versioning = "ordered"
