"""What a supervisor knows of one worker, over all its processes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from snapshots import ORDERS, snapshot
from streamflow.cli.supervision.messages import Declared, MetricsPage, MetricsWanted, Report
from streamflow.cli.supervision.policy import Life
from streamflow.cli.supervision.supervised import Supervised
from streamflow.observe.health import Verdict

if TYPE_CHECKING:
    from streamflow.cli.supervision.messages import Message
    from streamflow.cli.supervision.process import WorkerProcess
    from streamflow.observe.progress import PipelineProgress

pytestmark = pytest.mark.anyio

YES = Verdict(ok=True)
ENDED = replace(ORDERS, state="ended")


class Process:
    """One that hears questions; `deaf` does not even take them."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.asked: list[Message] = []
        self.deaf = deaf
        self.channel = self

    def send(self, message: Message) -> bool:
        self.asked.append(message)
        return not self.deaf


def report(*pipelines: PipelineProgress, ready: Verdict = YES) -> Report:
    return Report(snapshot=snapshot(*pipelines), live=YES, ready=ready)


def running(worker: Supervised, process: Process | None = None) -> Supervised:
    worker.begin()
    worker.process = cast("WorkerProcess", process or Process())
    return worker


def totals(worker: Supervised) -> list[int]:
    return [sum(each.records_polled for each in of.pipelines) for of in worker.snapshots()]


def test_a_life_is_what_was_heard_of_it() -> None:
    worker = running(Supervised(worker_id="w-1"))
    assert worker.end(1, now=50.0) == Life(status=1)
    running(worker)
    opened = []
    for message in (Declared(worker_id="w-1", host=None, port=None), report(ORDERS)):
        worker.hear(message, now=60.0)
        opened.append(worker.opened)
    assert opened == [False, True]
    worker.hear(report(ENDED), now=99.0)
    assert worker.end(0, now=100.0) == Life(status=0, opened=True, ended=True, ran_s=40.0)


def test_streams_have_ended_only_if_all_have() -> None:
    for pipelines in ((ENDED, ORDERS), ()):
        worker = running(Supervised(worker_id="w-1"))
        worker.hear(report(*pipelines), now=1.0)
        assert not worker.end(0, now=2.0).ended


def test_a_process_that_could_not_be_started_is_not_taken_for_the_one_before() -> None:
    worker = running(Supervised(worker_id="w-1"))
    worker.hear(report(ENDED), now=1.0)
    worker.end(-9, now=100.0)
    worker.begin()
    assert worker.end(1, now=101.0) == Life(status=1)
    assert totals(worker) == [100]


def test_totals_never_go_backwards() -> None:
    worker = Supervised(worker_id="w-1")
    seen = [0]
    for life in range(3):
        running(worker)
        seen.append(sum(totals(worker)))
        worker.hear(report(replace(ORDERS, records_polled=100 + life)), now=1.0)
        seen.append(sum(totals(worker)))
        worker.end(-9, now=2.0)
        seen.append(sum(totals(worker)))
    assert seen == [0, 0, 100, 100, 100, 201, 201, 201, 303, 303]
    assert len(worker.snapshots()) == 1


def test_where_it_stands() -> None:
    worker = Supervised(worker_id="w-1")
    assert worker.standing(0.0).state == "starting"
    running(worker)
    assert worker.standing(0.0).state == "starting"
    worker.hear(report(ORDERS), now=10.0)
    standing = worker.standing(13.0)
    assert (standing.state, standing.silent_s, standing.ready) == ("open", 3.0, YES)
    worker.end(-9, now=14.0)
    standing = worker.standing(15.0)
    assert (standing.state, standing.ending, standing.ready) == ("waiting", "SIGKILL", None)
    worker.over = True
    assert worker.standing(16.0).state == "over"


# --- metrics ---------------------------------------------------------------------------------------------------------


async def test_whoever_asks_while_a_question_is_open_shares_its_answer() -> None:
    process = Process()
    worker = running(Supervised(worker_id="w-1"), process)
    worker.hear(report(ORDERS), now=1.0)
    answers: list[list[Any] | None] = []

    async def ask() -> None:
        answers.append(await worker.metrics(timeout_s=10.0))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        worker.hear(MetricsPage(number=7, families=["of another question"]), now=2.0)
        worker.hear(MetricsPage(number=1, families=["first"]), now=2.0)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        worker.hear(MetricsPage(number=2, families=["second"]), now=3.0)
    assert answers == [["first"], ["first"], ["second"]]
    assert process.asked == [MetricsWanted(number=1), MetricsWanted(number=2)]


async def test_a_worker_that_is_stuck_is_asked_once() -> None:
    process = Process()
    worker = running(Supervised(worker_id="w-1"), process)
    worker.hear(report(ORDERS), now=1.0)
    for _ in range(3):
        assert await worker.metrics(timeout_s=0.0) is None
    assert process.asked == [MetricsWanted(number=1)]


async def test_there_are_none_of_a_worker_that_is_not_there() -> None:
    worker = Supervised(worker_id="w-1")
    assert await worker.metrics(timeout_s=10.0) is None
    running(worker)
    assert await worker.metrics(timeout_s=10.0) is None
    worker = running(Supervised(worker_id="w-1"), Process(deaf=True))
    worker.hear(report(ORDERS), now=1.0)
    assert await worker.metrics(timeout_s=10.0) is None
