"""Which clock of the machine is read."""

from __future__ import annotations

import time

from streamflow.clock import SystemClock


def test_the_lifetime_counts_on_while_the_machine_is_suspended() -> None:
    counting = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    before = time.clock_gettime(counting)  # noqa: TID251 - what it has to be
    read = SystemClock().lifetime()
    assert before <= read <= time.clock_gettime(counting)  # noqa: TID251 - what it has to be
