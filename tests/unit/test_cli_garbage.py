"""When the command looks for garbage; `test_cli_processes` shows it of whole processes."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from streamflow.cli import garbage

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="module")
def frozen() -> Iterator[None]:
    """The suite freezes what it is made of; here nothing is frozen."""
    gc.unfreeze()
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_nothing_is_looked_for_until_the_worker_has_started() -> None:
    gc.set_threshold(700, 11, 12)
    with garbage.put_off():
        assert gc.get_threshold() == (0, 11, 12)
        garbage.settle()
        assert gc.get_threshold() == (garbage.YOUNG_MAX, 11, 12)
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == (700, 11, 12)
    assert gc.get_freeze_count() == 0


def test_what_was_frozen_before_stays_so() -> None:
    gc.freeze()
    with garbage.put_off():
        garbage.settle()
    assert gc.get_freeze_count() > 0


def test_what_a_target_sets_stays() -> None:
    with garbage.put_off():
        gc.set_threshold(1_234)
        garbage.settle()
        assert gc.get_threshold()[0] == 1_234
        assert gc.get_freeze_count() == 0


def test_a_start_that_fails_leaves_things_as_they_were() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyError), garbage.put_off():
        raise KeyError
    assert gc.get_threshold() == before
