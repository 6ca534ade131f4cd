"""What every test may use."""

from __future__ import annotations

import pytest
from hypothesis import settings

# A busy machine is not a failure: no test has a limit on time but pytest's own.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
