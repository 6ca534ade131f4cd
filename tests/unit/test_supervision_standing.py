"""Alive and ready, judged over all workers."""

from __future__ import annotations

import pytest

from streamflow.cli.supervision.standing import Standing, live, ready
from streamflow.observe.health import Verdict

YES = Verdict(ok=True)
NO = Verdict(ok=False, reasons=("orders: failed, see the log",))

STARTING = Standing(worker_id="w-1", state="starting")
WAITING = Standing(worker_id="w-1", state="waiting", ending="SIGKILL")
OPEN = Standing(worker_id="w-1", state="open", silent_s=1.0, live=YES, ready=YES)
FAILING = Standing(worker_id="w-1", state="open", silent_s=1.0, live=NO, ready=NO)
STUCK = Standing(worker_id="w-1", state="open", silent_s=61.0, live=YES, ready=YES)
OVER = Standing(worker_id="w-1", state="over")


@pytest.mark.parametrize(
    ("one", "is_live", "is_ready"),
    [
        (STARTING, [], ["w-1: starting"]),
        (WAITING, [], ["w-1: ended with SIGKILL, waiting to be started again"]),
        (OPEN, [], []),
        (FAILING, ["w-1: orders: failed, see the log"], ["w-1: orders: failed, see the log"]),
        (STUCK, ["w-1: has not been heard of for 61 s"], ["w-1: has not been heard of for 61 s"]),
        (OVER, [], []),
    ],
)
def test_one_worker_is_enough_to_say_no(one: Standing, is_live: list[str], is_ready: list[str]) -> None:
    well = Standing(worker_id="w-2", state="open", live=YES, ready=YES)
    assert live([well, one]) == Verdict(ok=not is_live, reasons=tuple(is_live))
    assert ready([well, one]) == Verdict(ok=not is_ready, reasons=tuple(is_ready))
