"""What a plugin is given when it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from streamflow.clock import Clock
    from streamflow.protocols import Writer
    from streamflow.sdk.settings import AwsSettings


class SinkContext(Protocol):
    """The surroundings of one opened sink; good for as long as the sink is open."""

    @property
    def pipeline(self) -> str:
        """Name of the pipeline, for names at the target and for messages."""
        ...

    @property
    def clock(self) -> Clock:
        """The only clock there is: with it, a sink can be tested in virtual time."""
        ...

    def aws_client(
        self,
        service: str,
        *,
        aws: AwsSettings | None = None,
        read_timeout_s: float | None = None,
        renewed: bool = False,
    ) -> AbstractAsyncContextManager[Any]:
        """An aioboto3 client that does not retry: throttles are the sink's to tell, and retries the engine's.

        `aws` is how to get there; by default as the pipeline gets to its stream. Clients of one way share a session.
        `read_timeout_s` is how long an answer may take, by default 20. A client keeps the credentials that it was made
        with: where a service calls them expired, another client is needed, and `renewed` looks for other credentials first.
        """
        ...

    def open_sink(self, sink: Any) -> AbstractAsyncContextManager[Writer]:
        """Open a sink inside this one: a declaration, a handler function, or an object with a life of its own."""
        ...

    def note_suppressed(self, records: int) -> None:
        """Tell that so many records changed nothing, because the target had them already: they count as delivered."""
        ...
