"""Why a scenario did not run: the report keeps apart what a sink does not promise, and what nobody could try."""

from __future__ import annotations

from typing import NoReturn

import pytest

NOT_PROMISED, NOT_RUN = "not promised: ", "not run: "


def not_promised(reason: str) -> NoReturn:
    """The declared capabilities say that the fact need not hold."""
    pytest.skip(NOT_PROMISED + reason)


def not_run(reason: str) -> NoReturn:
    """The fact may hold or not: a hook is missing that is needed to find out."""
    pytest.skip(NOT_RUN + reason)
