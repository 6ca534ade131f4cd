"""What every test may use."""

from __future__ import annotations

import gc

import pytest
from hypothesis import settings

pytest_plugins = ["fault_matrix.results"]

# A busy machine is not a failure: no test has a limit on time but pytest's own.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that take long come first: at the end of a run no process is left with one of them while the others are idle."""
    items.sort(key=lambda item: not (item.get_closest_marker("integration") or item.get_closest_marker("timeout")))


def pytest_collection_finish() -> None:
    """What thousands of tests are made of stays to the end: no look for garbage goes through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
