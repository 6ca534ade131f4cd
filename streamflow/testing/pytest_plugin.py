"""Pytest fixtures: loading this costs nothing, the server is imported by the first test that asks for one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol, Unpack

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow.testing.local_streams import LocalStreams, LocalStreamsOptions


class LocalStreamsFactory(Protocol):
    def __call__(self, **options: Unpack[LocalStreamsOptions]) -> LocalStreams: ...


@pytest.fixture
def local_streams_factory() -> Iterator[LocalStreamsFactory]:
    """Opens servers with options of their own, each in its thread; all of them end with the test."""
    with ExitStack() as stack:

        def open_local_streams(**options: Unpack[LocalStreamsOptions]) -> LocalStreams:
            from streamflow.testing.local_streams import LocalStreams

            return stack.enter_context(LocalStreams(**options).in_thread())

        yield open_local_streams


@pytest.fixture
def local_streams(local_streams_factory: LocalStreamsFactory) -> LocalStreams:
    """A `LocalStreams` with four shards per table, in a thread of its own."""
    return local_streams_factory()
