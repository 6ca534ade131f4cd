"""Pytest fixtures, and the report of what sinks proved. Loading this costs nothing: what is needed is imported then.

`--sink-conformance FILE` writes what the contract suite of sinks found in this run into a JSON file.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Unpack

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow.testing.local_streams import LocalStreams, LocalStreamsOptions
    from streamflow.testing.sink_contract.conformance import Conformance

# Their failures say what was found, also where the package is installed in place, whose files pytest does not know.
pytest.register_assert_rewrite("streamflow.testing.sink_contract", "streamflow.testing.store_contract")


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


# --- what sinks proved -----------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("streamflow").addoption(
        "--sink-conformance",
        metavar="FILE",
        type=Path,
        help="write what the sinks' contract suite found into FILE (JSON); what FILE says of other sinks stays",
    )


def pytest_configure(config: pytest.Config) -> None:
    path: Path | None = config.getoption("--sink-conformance")
    # The workers of pytest-xdist send their reports to the process that has the option's last word.
    if path is not None and not hasattr(config, "workerinput"):
        from streamflow.testing.sink_contract.conformance import Conformance

        config.pluginmanager.register(_Reporter(Conformance(), path), "streamflow-sink-conformance")


class _Reporter:
    def __init__(self, conformance: Conformance, path: Path) -> None:
        self._conformance = conformance
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.passed and report.when != "call":
            return
        skipped = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple | list) else None
        self._conformance.note(report.nodeid, report.outcome, report.user_properties, skipped)

    def pytest_sessionfinish(self) -> None:
        self._conformance.write(self._path)
