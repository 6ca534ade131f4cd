"""What a supervisor knows of one of its workers, over all processes that it has had."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from streamflow.cli.supervision import totals
from streamflow.cli.supervision.messages import Declared, MetricsPage, MetricsWanted, Report
from streamflow.cli.supervision.policy import Life
from streamflow.cli.supervision.standing import Standing

if TYPE_CHECKING:
    from streamflow.cli.supervision.messages import Message
    from streamflow.cli.supervision.process import WorkerProcess
    from streamflow.observe.progress import ProgressSnapshot


class Questions:
    """At most one is open: a process that is stuck gets no second, and whoever asks meanwhile shares the answer."""

    def __init__(self) -> None:
        self._number = 0
        self._answered: anyio.Event | None = None
        self._families: list[Any] | None = None

    async def ask(self, process: WorkerProcess, *, timeout_s: float) -> list[Any] | None:
        answered = self._answered
        if answered is None:
            if not process.channel.send(MetricsWanted(number=self._number + 1)):
                return None
            self._number += 1
            answered = self._answered = anyio.Event()
        with anyio.move_on_after(timeout_s):
            await answered.wait()
        return self._families if answered.is_set() else None

    def answer(self, page: MetricsPage) -> None:
        if self._answered is not None and page.number == self._number:
            self._families = page.families
            self._answered.set()
            self._answered = None


@dataclass(slots=True, eq=False)
class Supervised:
    """Written by the supervisor's tasks. Times are monotonic."""

    worker_id: str
    process: WorkerProcess | None = None
    life: Life | None = None
    """The last one that has ended."""
    over: bool = False
    failures: int = 0
    restarts: int = 0
    _questions: Questions = field(default_factory=Questions)
    _report: Report | None = None
    _opened_at: float | None = None
    _heard_at: float = 0.0
    _before: tuple[ProgressSnapshot, ...] = ()
    """What its processes but the last had done, as one."""

    def begin(self) -> None:
        """It is about to get a process, the first one or another."""
        self._before = tuple(self._past(succeeded=True))
        self._questions = Questions()
        self._report = self._opened_at = None

    def hear(self, message: Message, *, now: float) -> None:
        self._heard_at = now
        match message:
            case Declared():
                self.worker_id = message.worker_id
            case Report():
                self._opened_at = now if self._opened_at is None else self._opened_at
                self._report = message
            case MetricsPage():
                self._questions.answer(message)
            case _:
                pass

    def end(self, status: int, *, now: float) -> Life:
        """Its process has ended, or could not be started."""
        pipelines = () if self._report is None else self._report.snapshot.pipelines
        self.process = None
        self.life = Life(
            status=status,
            opened=self._opened_at is not None,
            ended=bool(pipelines) and all(each.state == "ended" for each in pipelines),
            ran_s=0.0 if self._opened_at is None else now - self._opened_at,
        )
        return self.life

    @property
    def opened(self) -> bool:
        """Whether its process now has all that it needs."""
        return self.process is not None and self._opened_at is not None

    @property
    def ready(self) -> bool:
        """Whether it last said so."""
        return self._report is not None and self._report.ready.ok

    def snapshots(self) -> list[ProgressSnapshot]:
        """Of the process that it has, and of those before."""
        if self.process is None:
            return self._past(succeeded=False)
        return [*self._before, *([] if self._report is None else [self._report.snapshot])]

    def _past(self, *, succeeded: bool) -> list[ProgressSnapshot]:
        """Also of the last process. As one, so that the thousandth restart costs what the first one did."""
        last = [] if self._report is None else [totals.past(self._report.snapshot, succeeded=succeeded)]
        both = [*self._before, *last]
        if not both:
            return []
        return [totals.summed(both, at_s=both[-1].at_s, uptime_s=both[-1].uptime_s)]

    def standing(self, now: float) -> Standing:
        if self.over:
            return Standing(worker_id=self.worker_id, state="over")
        if self.process is None:
            if self.life is None:
                return Standing(worker_id=self.worker_id, state="starting")
            return Standing(worker_id=self.worker_id, state="waiting", ending=self.life.ending)
        if self._report is None:
            return Standing(worker_id=self.worker_id, state="starting")
        return Standing(
            worker_id=self.worker_id,
            state="open",
            silent_s=now - self._heard_at,
            live=self._report.live,
            ready=self._report.ready,
        )

    async def metrics(self, *, timeout_s: float) -> list[Any] | None:
        """Its families, as `exposition.families` has them; None where it does not answer in time, or does not run."""
        if self.process is None or not self.opened:
            return None
        return await self._questions.ask(self.process, timeout_s=timeout_s)
