"""The figures of one run, and what they say: one JSON object."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from chaos.handovers import longest_gap
from chaos.oracle import EXAMPLES_MAX, Explanations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaos.oracle import Accounts
    from chaos.plan import Plan
    from chaos.stream import Written
    from chaos.watching import Watch
    from chaos.workers import Workers


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`owned_within_s` is the longest that a shard was without a living owner, whatever the cause; see `spans`. Where nobody is
    hurt, `handed_over_within_s` is the same to the millisecond; see `handovers`.

    `unexplained` counts duplicates by the reason why no fault explains them. `zombies` are the records that a paused
    worker still delivered when it went on, `stall_s` how late the harness was itself at worst. `problems` says in words
    what is not as promised; `examples` are some of it.
    """

    ok: bool
    mode: str
    store: str
    seed: int
    seconds: float
    records: int
    workers: int
    shards: int
    kills: int
    kills_at_failpoints: dict[str, int]
    pauses: int
    pauses_inside_the_store: int
    restarts: int
    delivered: int
    lost: int
    invented: int
    order_violations: int
    duplicates: int
    zombies: int
    duplicates_unexplained: int
    unexplained: dict[str, int]
    checkpoints_moved_back: int
    lease_duration_s: float
    owned_within_s: float
    owned_within_s_max: float
    owned_within_s_by_cause: dict[str, float]
    handed_over_within_s: float | None
    exits: int
    torn: int
    drained_s: float
    looks: int
    stall_s: float
    problems: list[str]
    examples: list[str]

    @property
    def line(self) -> str:
        return msgspec.json.encode(self).decode()


@dataclass(slots=True, kw_only=True, eq=False)
class Findings:
    """What a run left behind. `torn` counts lines of the journal, `drained_s` is how long the last records took."""

    plan: Plan
    accounts: Accounts
    workers: Workers
    watch: Watch
    written: Written
    torn: int
    drained_s: float
    _examples: list[str] = field(default_factory=list)

    def report(self) -> Report:
        plan, accounts, workers, watch = self.plan, self.accounts, self.workers, self.watch
        unexplained = self._unexplained()
        lost = accounts.missing(self.written.versions)
        self._examples += [f"lost: version {version} of item {item}" for item, version in lost[:EXAMPLES_MAX]]
        self._examples += accounts.violations + watch.sightings.regressions[:EXAMPLES_MAX]
        self._examples += workers.exits[:EXAMPLES_MAX]
        late = [span for span in watch.spans.longest.values() if span.length_s > plan.unowned_s_max]
        self._examples += [f"unowned: {span}" for span in late]
        spans = {cause: round(span.length_s, 3) for cause, span in watch.spans.longest.items()}
        kinds = Counter(fault.kind for fault in workers.faults)
        zombies = sum(repetition.before is None for repetition in accounts.repetitions)
        figures: dict[str, Any] = {
            "mode": plan.mode,
            "store": plan.store,
            "seed": plan.seed,
            "seconds": plan.seconds,
            "records": sum(self.written.versions),
            "workers": plan.workers,
            "shards": self.written.shards,
            "kills": kinds["kill"],
            "kills_at_failpoints": dict(Counter(fault.failpoint for fault in workers.faults if fault.failpoint)),
            "pauses": kinds["pause"],
            "pauses_inside_the_store": sum(fault.outage for fault in workers.faults),
            "restarts": len(workers.lives) - plan.workers_at_first,
            "delivered": accounts.delivered,
            "lost": len(lost),
            "invented": accounts.invented(self.written.versions),
            "order_violations": accounts.order_violations,
            "duplicates": len(accounts.repetitions),
            "zombies": zombies,
            "duplicates_unexplained": sum(unexplained.values()),
            "unexplained": dict(unexplained),
            "checkpoints_moved_back": len(watch.sightings.regressions),
            "lease_duration_s": plan.lease_duration_s,
            "owned_within_s": max(spans.values(), default=0.0),
            "owned_within_s_max": plan.unowned_s_max,
            "owned_within_s_by_cause": spans,
            "handed_over_within_s": self._handed_over_within_s(),
            "exits": len(workers.exits),
            "torn": self.torn,
            "drained_s": round(self.drained_s, 3),
            "looks": watch.spans.looks,
            "stall_s": round(watch.stall_s, 3),
        }
        problems = _problems(plan, figures)
        return Report(ok=not problems, problems=problems, examples=self._examples, **figures)

    def _handed_over_within_s(self) -> float | None:
        if not self.plan.clean:
            return None
        gap = longest_gap(life.log.read_text(errors="replace").splitlines() for life in self.workers.lives)
        if gap is None:
            return 0.0
        if gap.length_s > self.plan.unowned_s_max:
            self._examples.append(f"nobody's: {gap}")
        return round(gap.length_s, 3)

    def _unexplained(self) -> Counter[str]:
        explanations = Explanations.of(self.accounts.entries, self.workers.faults, self.watch.sightings)
        counts: Counter[str] = Counter()
        for repetition in self.accounts.repetitions:
            reason = explanations.unexplained(repetition)
            if reason is None:
                continue
            counts[reason] += 1
            if counts[reason] <= EXAMPLES_MAX // 3:
                after = self.accounts.entries[repetition.after]
                self._examples.append(
                    f"version {repetition.version} of item {repetition.item} again, {after}: {reason}"
                )
        return counts


_NONE_OF = ("lost", "invented", "order_violations", "duplicates_unexplained", "checkpoints_moved_back", "exits")


def _problems(plan: Plan, figures: dict[str, Any]) -> list[str]:
    counted: Sequence[str] = (*_NONE_OF, "duplicates") if plan.clean else _NONE_OF
    problems = [f"{name}: {figures[name]}, must be 0" for name in counted if figures[name]]
    handed_over_s = figures["handed_over_within_s"]
    if handed_over_s is not None and handed_over_s > plan.unowned_s_max:
        problems.append(f"handed_over_within_s: {handed_over_s}, must not pass {plan.unowned_s_max:g}")
    if figures["owned_within_s"] > (limit_s := _looked_s_max(plan, figures["stall_s"])):
        problems.append(f"owned_within_s: {figures['owned_within_s']}, must not pass {limit_s:g}")
    if not figures["looks"]:
        problems.append("nobody could look into the store")
    return problems


def _looked_s_max(plan: Plan, stall_s: float) -> float:
    """What looks may find: where the logs tell the time, they may be late by their distance."""
    return plan.unowned_s_max + (plan.look_interval_s + stall_s if plan.clean else 0.0)
