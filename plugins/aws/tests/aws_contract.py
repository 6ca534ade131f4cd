"""The contract of sinks for those of AWS: their way to MiniStack, and what they are given that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from far_messages import REGION
from streamflow.sdk import AwsSettings, SinkDeclaration
from streamflow.testing.proxies import FaultProxy, open_fault_proxy
from streamflow.testing.sink_contract import SinkContract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gate import Gate


class AwsContract(SinkContract):
    """The way of every sink to MiniStack: a fault proxy, and behind it the gate that knows access keys."""

    server = "MiniStack"

    @pytest.fixture
    async def proxy(self, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultProxy]:
        self._gate, self._monkeypatch = gate, monkeypatch
        async with open_fault_proxy("127.0.0.1", gate.port) as proxy:
            yield proxy

    @pytest.fixture
    def aws(self, proxy: FaultProxy) -> AwsSettings:
        return AwsSettings(region=REGION, endpoint_url=f"http://127.0.0.1:{proxy.port}")

    @pytest.fixture
    def wrong_credentials(self, sink: SinkDeclaration, aws: AwsSettings) -> SinkDeclaration | None:
        return self.declared(sink, aws=aws.model_copy(update={"profile": "wrong"}))

    async def rotate_credentials(self) -> None:
        self._gate.keys, self._gate.expired = {"renewed"}, {"test"}
        self._monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed")

    def declared(self, sink: SinkDeclaration, **settings: Any) -> SinkDeclaration:
        """The same sink with other settings."""
        return sink.plugin(**sink.settings.model_dump(exclude={*settings}, exclude_unset=True), **settings)
