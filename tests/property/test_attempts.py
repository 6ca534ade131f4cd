"""Every record of a batch is settled or given up exactly once, in order, and by no more invocations than the rules allow."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from streamflow.rules.attempts import (
    AttemptRules,
    Attempts,
    Discard,
    Failed,
    Invoke,
    NotDelivered,
    PartlyFailed,
    Pause,
    Settle,
    Succeeded,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.rules.attempts import Action, Outcome

ALWAYS = 1_000_000


class Step(NamedTuple):
    """One action and when it was begun. `detail`: attempt and unchanged; condition and invoke count; delay."""

    at_s: float
    kind: str
    records: tuple[int, ...] = ()
    detail: tuple[object, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Script:
    """A mapping's options, a batch of records 0, 1, … and what the world will do to them."""

    retries_max: int = -1
    bisect: bool = False
    age_max_s: float | None = None
    created_at_s: tuple[float, ...]
    failing: tuple[int, ...]
    """For each record, how many invocations it fails in, before it is well."""
    raising: frozenset[int] = frozenset()
    """Records that fail by raising; the others are reported."""
    reach: tuple[NotDelivered | None, ...] = ()
    """What the first invocations come to that do not reach the handler."""
    invocation_s: float = 0.0
    settling_s: float = 0.0
    final_of_s: float | None = None

    @property
    def records(self) -> range:
        return range(len(self.created_at_s))


@dataclass
class Scene:
    """The script being played: a clock, a handler, and the trace of what happened."""

    script: Script
    now_s: float = 1_000.0
    trace: list[Step] = field(default_factory=list)
    backoffs: list[int] = field(default_factory=list)
    _left: list[int] = field(default_factory=list)
    _invocations: int = 0

    def __post_init__(self) -> None:
        self._left = list(self.script.failing)

    def backoff(self, failures: int) -> float:
        self.backoffs.append(failures)
        return 0.25 * 2.0 ** min(failures, 8)

    def invoke(self, records: Sequence[int], attempt: int, unchanged: bool) -> Outcome:
        self._took("invoke", records, attempt, unchanged, seconds=self.script.invocation_s)
        self._invocations += 1
        if self._invocations <= len(self.script.reach):
            unreached = self.script.reach[self._invocations - 1]
            if unreached is not None:
                return unreached
        failed = [place for place, record in enumerate(records) if self._left[record]]
        for place in failed:
            self._left[records[place]] -= 1
        if not records and self._invocations <= sum(self.script.failing):
            return Failed()
        if not failed:
            return Succeeded()
        if any(records[place] in self.script.raising for place in failed):
            return Failed()
        return PartlyFailed(failed[0])

    def settle(self, records: Sequence[int]) -> None:
        self._took("settle", records, seconds=self.script.settling_s)

    def discard(self, records: Sequence[int], condition: str, invoke_count: int) -> None:
        self._took("discard", records, condition, invoke_count, seconds=self.script.settling_s)

    def pause(self, delay_s: float) -> None:
        self._took("pause", (), delay_s, seconds=delay_s)

    def _took(self, kind: str, records: Sequence[int], *detail: object, seconds: float) -> None:
        assert len(self.trace) < 5_000, "it never ends"
        self.trace.append(Step(self.now_s, kind, tuple(records), detail))
        self.now_s += seconds


def attempts_of(scene: Scene) -> Attempts[int]:
    script = scene.script
    rules: AttemptRules[int] = AttemptRules(
        retries_max=script.retries_max,
        bisect=script.bisect,
        age_max_s=script.age_max_s,
        created_at_s=script.created_at_s.__getitem__,
    )
    return Attempts(script.records, rules, scene.backoff, final_of_s=script.final_of_s)


def perform(scene: Scene, attempts: Attempts[int], action: Action[int]) -> None:
    match action:
        case Invoke():
            attempts.invoked(scene.invoke(action.records, action.attempt, action.unchanged))
        case Settle():
            scene.settle(action.records)
        case Discard():
            scene.discard(action.records, action.condition, action.invoke_count)
        case Pause():
            scene.pause(action.delay_s)


def played(
    script: Script, *, between: Callable[[Scene, Attempts[int]], None] = lambda _scene, _attempts: None
) -> Scene:
    """The script played by the rules; `between` is called after each action that is no invocation, and at the start."""
    scene = Scene(script)
    attempts = attempts_of(scene)
    between(scene, attempts)
    while (action := attempts.next(scene.now_s)) is not None:
        perform(scene, attempts, action)
        if not isinstance(action, Invoke):
            between(scene, attempts)
    return scene


class Model:
    """The rules as one recursive function: what it means to bring a batch to its end."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.scene = Scene(script)
        self.bring_to_an_end(list(script.records))

    def bring_to_an_end(self, batch: list[int]) -> None:
        script, scene = self.script, self.scene
        is_final = script.final_of_s is not None
        count = missed = 0
        unchanged = False
        while True:
            old = [record for record in batch if self.is_old(script.created_at_s[record])]
            if old or (is_final and self.is_old(script.final_of_s or 0.0)):
                scene.discard(old, "RecordAgeExceeded", max(count, 1))
                batch = [record for record in batch if record not in old]
                unchanged = False
                if batch:
                    continue
                return
            outcome = scene.invoke(batch, count + 1, unchanged)
            unchanged = True
            if isinstance(outcome, NotDelivered):
                missed += 1
                self.pause(scene.backoff(missed) if outcome.retry_after_s is None else outcome.retry_after_s, batch)
                continue
            count, missed = count + 1, 0
            if isinstance(outcome, Succeeded):
                scene.settle(batch)
                return
            if isinstance(outcome, PartlyFailed) and outcome.first:
                scene.settle(batch[: outcome.first])
                self.bring_to_an_end(batch[outcome.first :])
                return
            if script.bisect and len(batch) >= 2:
                older = len(batch) // 2
                self.bring_to_an_end(batch[:older])
                self.bring_to_an_end(batch[older:])
                return
            if count == script.retries_max + 1:
                scene.discard(batch, "RetryAttemptsExhausted", count)
                return
            self.pause(scene.backoff(count), batch)

    def pause(self, delay_s: float, batch: list[int]) -> None:
        """Not for longer than until the first of them is too old, and a millisecond."""
        born_s = [self.script.created_at_s[record] for record in batch] or [self.script.final_of_s or 0.0]
        if self.script.age_max_s is not None:
            left_s = min(born_s) + self.script.age_max_s - self.scene.now_s
            delay_s = min(delay_s, max(left_s, 0.0) + 0.001)
        self.scene.pause(delay_s)

    def is_old(self, born_s: float) -> bool:
        return self.script.age_max_s is not None and self.scene.now_s - self.script.age_max_s >= born_s


missing = st.one_of(st.none(), st.just(NotDelivered()), st.sampled_from([0.0, 1.0, 30.0]).map(NotDelivered))


@st.composite
def scripts(draw: st.DrawFn, *, aging: bool | None = None, final: bool = False) -> Script:
    """Any script that comes to an end: what fails without limit has retries or an age."""
    length = 0 if final else draw(st.integers(1, 9))
    retries_max = draw(st.sampled_from([-1, 0, 1, 2, 5]))
    age_max_s = draw(st.sampled_from([None, 60.0, 90.0])) if aging is None else 60.0 if aging else None
    ends = retries_max != -1 or age_max_s is not None
    failures = st.sampled_from([0, 0, 0, 1, 2, 3, ALWAYS if ends else 4])
    births = st.sampled_from([800.0, 909.9, 940.0, 940.1, 975.5, 1_000.0])
    return Script(
        retries_max=retries_max,
        bisect=draw(st.booleans()),
        age_max_s=age_max_s,
        created_at_s=tuple(draw(st.lists(births, min_size=length, max_size=length))),
        failing=(draw(failures),) if final else tuple(draw(st.lists(failures, min_size=length, max_size=length))),
        raising=draw(st.frozensets(st.integers(0, max(0, length - 1)))),
        reach=tuple(draw(st.lists(missing, max_size=8))),
        invocation_s=draw(st.sampled_from([0.0, 0.5, 13.0])),
        settling_s=draw(st.sampled_from([0.0, 0.25, 7.0])),
        final_of_s=draw(births) if final else None,
    )


# -- against the model ------------------------------------------------------------------------------------------------


@given(scripts())
@example(Script(retries_max=1, bisect=True, created_at_s=(0.0,) * 4, failing=(0, ALWAYS, 0, 0)))
@example(Script(age_max_s=60.0, created_at_s=(1_000.0,) * 2, failing=(ALWAYS, 0), raising=frozenset({0})))
def test_whole_trace_is_that_of_the_model(script: Script) -> None:
    scene, model = played(script), Model(script).scene
    assert scene.trace == model.trace
    assert scene.backoffs == model.backoffs


@given(scripts(final=True))
def test_final_invocation_without_records_has_the_trace_of_the_model(script: Script) -> None:
    scene, model = played(script), Model(script).scene
    assert scene.trace == model.trace
    assert scene.trace[-1].kind in {"settle", "discard"}
    assert scene.backoffs == model.backoffs


# -- what holds whatever the rules in between -------------------------------------------------------------------------


def ended(scene: Scene) -> list[int]:
    return [record for step in scene.trace if step.kind in {"settle", "discard"} for record in step.records]


def invocations(scene: Scene) -> list[Step]:
    return [step for step in scene.trace if step.kind == "invoke"]


@given(scripts())
def test_every_record_is_settled_or_discarded_exactly_once(script: Script) -> None:
    assert sorted(ended(played(script))) == list(script.records)


@given(scripts(aging=False))
def test_records_end_in_order_where_none_ages(script: Script) -> None:
    assert ended(played(script)) == list(script.records)


@given(scripts())
def test_invocation_holds_the_oldest_unsettled_records_in_order(script: Script) -> None:
    scene = played(script)
    unsettled = list(script.records)
    for step in scene.trace:
        if step.kind == "invoke":
            assert list(step.records) == unsettled[: len(step.records)] != []
        unsettled = [record for record in unsettled if step.kind == "invoke" or record not in step.records]


@given(scripts(aging=True))
def test_nothing_is_invoked_beyond_its_age(script: Script) -> None:
    assert script.age_max_s is not None
    scene = played(script)
    for step in scene.trace:
        ages = [step.at_s - script.created_at_s[record] for record in step.records]
        if step.kind == "invoke":
            assert max(ages) < script.age_max_s + 1e-6
        if step.detail[:1] == ("RecordAgeExceeded",):
            assert min(ages) > script.age_max_s - 1e-6


@given(scripts())
def test_batch_is_invoked_once_more_than_it_is_retried(script: Script) -> None:
    script = replace(script, reach=(), retries_max=max(script.retries_max, 0))
    scene = played(script)
    assert all(1 <= int(str(step.detail[0])) <= script.retries_max + 1 for step in invocations(scene))
    exhausted = [step.detail[1] for step in scene.trace if step.detail[:1] == ("RetryAttemptsExhausted",)]
    assert set(exhausted) <= {script.retries_max + 1}


@given(st.integers(1, 12), st.integers(0, 4))
def test_splits_cost_no_retries(length: int, retries_max: int) -> None:
    everybody = frozenset(range(length))
    script = Script(
        retries_max=retries_max,
        bisect=True,
        created_at_s=(0.0,) * length,
        failing=(ALWAYS,) * length,
        raising=everybody,
    )
    scene = played(script)
    assert len(invocations(scene)) == (length - 1) + length * (retries_max + 1)
    assert len(scene.backoffs) == length * retries_max
    assert Counter(step.kind for step in scene.trace)["discard"] == length
    assert all(
        step.detail == ("RetryAttemptsExhausted", retries_max + 1) for step in scene.trace if step.kind == "discard"
    )


@given(scripts(aging=False))
def test_only_an_unchanged_batch_waits_and_it_always_does(script: Script) -> None:
    scene = played(script)
    for before, step in pairwise([Step(0.0, "start"), *scene.trace]):
        if step.kind == "invoke":
            assert (before.kind == "pause") is step.detail[1]


@given(scripts(aging=False))
def test_unchanged_says_that_these_are_the_records_of_the_last_invocation(script: Script) -> None:
    seen = invocations(played(script))
    assert [step.detail[1] for step in seen] == [
        place > 0 and seen[place - 1].records == step.records for place, step in enumerate(seen)
    ]


@given(st.integers(1, 9), st.integers(1, 12))
def test_backoff_counts_the_failures_of_an_unchanged_batch(length: int, failures: int) -> None:
    script = Script(created_at_s=(0.0,) * length, failing=(failures,) * length, raising=frozenset(range(length)))
    scene = played(script)
    assert scene.backoffs == list(range(1, failures + 1))
    assert [step.detail[0] for step in invocations(scene)] == list(range(1, failures + 2))


@given(scripts(aging=False))
def test_invocation_that_is_not_delivered_is_no_attempt(script: Script) -> None:
    """With its undelivered invocations and their pauses struck out, a trace is what it would be without them."""
    scene = played(script)
    reached = played(replace(script, reach=()))
    lost = [place for place, unreached in enumerate(script.reach) if unreached is not None]
    number = -1
    kept: list[Step] = []
    for step in scene.trace:
        number += step.kind == "invoke"
        if number not in lost or step.kind not in {"invoke", "pause"}:
            kept.append(step)
    # Whether a batch was tried before may differ in what was struck out, and so do the times.
    assert [(step.kind, step.records, step.detail[:1]) for step in kept] == [
        (step.kind, step.records, step.detail[:1]) for step in reached.trace
    ]


# -- taking records out -----------------------------------------------------------------------------------------------


@given(scripts(), st.data())
def test_what_is_set_aside_is_all_that_matches_and_never_comes_again(script: Script, data: st.DataObject) -> None:
    aside: list[int] = []
    after: list[int] = []
    """How long the trace was when each record was set aside."""

    def between(scene: Scene, attempts: Attempts[int]) -> None:
        if data.draw(st.sampled_from([False, False, True]), label="set aside"):
            chosen = data.draw(st.frozensets(st.integers(0, 8), max_size=4), label="which")
            taken = attempts.set_aside(chosen.__contains__)
            over = {*ended(scene), *aside}
            assert taken == [record for record in script.records if record in chosen and record not in over]
            aside.extend(taken)
            after.extend([len(scene.trace)] * len(taken))

    scene = played(script, between=between)
    for record, place in zip(aside, after, strict=True):
        assert not any(record in step.records for step in scene.trace[place:])
    assert sorted([*ended(scene), *aside]) == list(script.records)
    if script.age_max_s is None:
        assert ended(scene) == sorted(ended(scene))


@given(scripts(aging=False), st.data())
def test_batch_that_lost_records_is_changed(script: Script, data: st.DataObject) -> None:
    def between(_scene: Scene, attempts: Attempts[int]) -> None:
        attempts.set_aside(data.draw(st.frozensets(st.integers(0, 8), max_size=2)).__contains__)

    seen = invocations(played(script, between=between))
    for before, step in pairwise(seen):
        if step.detail[1]:
            assert step.records == before.records
