"""The conformance vectors of retries as the pure rule tells them, by their numbers; then what they leave open."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import orjson
import pytest

from streamflow.batches import Batch
from streamflow.errors import LambdaFunctionError, PartialFailure
from streamflow.records import Record, Shard
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
from streamflow.rules.responses import accept_response

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.rules.attempts import Outcome


def doubling(failures: int) -> float:
    """Lambda's pauses, seen: 0.2 s, doubling."""
    return min(60.0, 0.2 * 2.0 ** (failures - 1))


def names_of(records: Sequence[int]) -> str:
    return "".join(map(str, records))


@dataclass(kw_only=True)
class Lane:
    """Performs what the rules say, in a time of its own. Records are named by digits, and all made at 1000 s but for `born`."""

    records: str
    handler: Callable[[Sequence[int]], Outcome]
    retries_max: int = -1
    bisect: bool = False
    age_max_s: float | None = None
    born: dict[int, float] = field(default_factory=dict)
    now_s: float = 1_000.0
    told: list[str] = field(default_factory=list)
    """In the notation of the vectors: [records] of each invocation, D(records,count) of each discard, and ✓records."""
    pauses: list[float] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    unchanged: list[bool] = field(default_factory=list)

    def run(self) -> list[str]:
        rules: AttemptRules[int] = AttemptRules(
            retries_max=self.retries_max,
            bisect=self.bisect,
            age_max_s=self.age_max_s,
            created_at_s=lambda record: self.born.get(record, 1_000.0),
        )
        attempts = Attempts([int(name) for name in self.records], rules, doubling)
        while (action := attempts.next(self.now_s)) is not None:
            match action:
                case Invoke():
                    self.told.append(f"[{names_of(action.records)}]")
                    self.unchanged.append(action.unchanged)
                    attempts.invoked(self.handler(action.records))
                case Settle():
                    self.told.append(f"✓{names_of(action.records)}")
                case Discard():
                    self.told.append(f"D({names_of(action.records)},{action.invoke_count})")
                    self.conditions.append(action.condition)
                case Pause():
                    self.pauses.append(action.delay_s)
                    self.now_s += action.delay_s
        return self.told


def raises(*poison: int) -> Callable[[Sequence[int]], Outcome]:
    return lambda records: Failed() if set(poison) & set(records) else Succeeded()


def reports(poison: int) -> Callable[[Sequence[int]], Outcome]:
    return lambda records: PartlyFailed(list(records).index(poison)) if poison in records else Succeeded()


def always(outcome: Outcome) -> Callable[[Sequence[int]], Outcome]:
    return lambda _records: outcome


def meaning(response: object, *, reporting: bool) -> Outcome:
    """What a Lambda function's response means for a batch of record 1 alone."""
    shard = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/l", shard_id="shardId-1")
    record = Record(msgspec.Raw(b'{"dynamodb":{"SequenceNumber":"1"}}'), shard)
    try:
        accept_response(orjson.dumps(response), Batch(pipeline="p", shard=shard, records=[record]), reporting=reporting)
    except LambdaFunctionError:
        return Failed()
    except PartialFailure:
        return PartlyFailed(0)
    return Succeeded()


# -- the vectors ------------------------------------------------------------------------------------------------------


def test_vector_01_record_that_always_raises_is_given_up_after_its_retries() -> None:
    lane = Lane(records="1", handler=raises(1), retries_max=1)
    assert lane.run() == ["[1]", "[1]", "D(1,2)"]
    assert lane.conditions == ["RetryAttemptsExhausted"]
    assert lane.pauses == [0.2]
    assert lane.unchanged == [False, True]


def test_vector_02_no_retries_means_one_invocation() -> None:
    lane = Lane(records="1", handler=raises(1), retries_max=0)
    assert lane.run() == ["[1]", "D(1,1)"]
    assert lane.pauses == []


def test_vector_03_bisect_is_depth_first() -> None:
    lane = Lane(records="1234", handler=raises(2), retries_max=1, bisect=True)
    assert lane.run() == ["[1234]", "[12]", "[1]", "✓1", "[2]", "[2]", "D(2,2)", "[34]", "✓34"]
    assert lane.pauses == [0.2]


def test_vector_04_exhausted_suffix_of_a_partial_failure_goes_together() -> None:
    lane = Lane(records="1234", handler=reports(2), retries_max=1)
    assert lane.run() == ["[1234]", "✓1", "[234]", "[234]", "D(234,2)"]
    assert lane.pauses == [0.2]
    assert lane.unchanged == [False, False, True]


def test_vector_05_partial_failure_is_trimmed_and_then_bisected() -> None:
    lane = Lane(records="1234", handler=reports(2), retries_max=1, bisect=True)
    assert lane.run() == ["[1234]", "✓1", "[234]", "[2]", "[2]", "D(2,2)", "[34]", "✓34"]
    assert lane.pauses == [0.2]


def test_vector_06_suffix_of_a_partial_failure_has_retries_of_its_own() -> None:
    lane = Lane(records="456", handler=reports(6), retries_max=3)
    assert lane.run() == ["[456]", "✓45", "[6]", "[6]", "[6]", "[6]", "D(6,4)"]
    assert lane.pauses == [0.2, 0.4, 0.8]
    assert Lane(records="123", handler=reports(6), retries_max=3).run() == ["[123]", "✓123"]


@pytest.mark.parametrize(
    "entry",
    [{"itemIdentifier": "123"}, {"itemIdentifier": ""}, {"itemIdentifier": None}, {"foo": 123}, {"foo": None}],
    ids=str,
)
def test_vector_07_response_that_names_no_record_fails_the_batch(entry: object) -> None:
    outcome = meaning({"batchItemFailures": [entry]}, reporting=True)
    assert Lane(records="1", handler=always(outcome), retries_max=3).run() == ["[1]"] * 4 + ["D(1,4)"]


@pytest.mark.parametrize(
    "response", [None, {}, [], "", {"batchItemFailures": []}, {"batchItemFailures": None}], ids=str
)
def test_vector_08_empty_response_is_success(response: object) -> None:
    outcome = meaning(response, reporting=True)
    assert Lane(records="1", handler=always(outcome), retries_max=3).run() == ["[1]", "✓1"]


def test_vector_09_response_is_ignored_where_reporting_is_off() -> None:
    response = {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert meaning(response, reporting=True) == PartlyFailed(0)
    outcome = meaning(response, reporting=False)
    assert Lane(records="1", handler=always(outcome), retries_max=3).run() == ["[1]", "✓1"]


def test_vector_10_record_age_ends_endless_retries() -> None:
    lane = Lane(records="1", handler=raises(1), age_max_s=60.0)
    assert lane.run() == ["[1]"] * 9 + ["D(1,9)"]
    assert lane.conditions == ["RecordAgeExceeded"]
    assert lane.pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 9.001]), (
        "the last one ends with the record's age"
    )


def test_vector_11_record_too_old_at_the_first_poll_is_never_invoked() -> None:
    lane = Lane(records="1", handler=raises(1), age_max_s=60.0, born={1: 939.0})
    assert lane.run() == ["D(1,1)"]
    assert lane.conditions == ["RecordAgeExceeded"]


def test_vector_12_only_the_expired_records_leave_a_batch() -> None:
    lane = Lane(records="12345", handler=always(Succeeded()), age_max_s=60.0, born={1: 900.0, 4: 939.9})
    assert lane.run() == ["D(14,1)", "[235]", "✓235"]
    assert lane.conditions == ["RecordAgeExceeded"]


def test_vector_14_throttled_invocations_do_not_count() -> None:
    outcomes: list[Outcome] = [*[NotDelivered()] * 10, Succeeded()]
    lane = Lane(records="1", handler=lambda _records: outcomes.pop(0), retries_max=0)
    assert lane.run() == ["[1]"] * 11 + ["✓1"]
    assert lane.pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0])
    assert lane.unchanged == [False] + [True] * 10


# -- what they leave open ---------------------------------------------------------------------------------------------


def test_batch_is_split_even_where_nothing_is_retried() -> None:
    lane = Lane(records="123", handler=raises(1, 2, 3), retries_max=0, bisect=True)
    assert lane.run() == ["[123]", "[1]", "D(1,1)", "[23]", "[2]", "D(2,1)", "[3]", "D(3,1)"]
    assert lane.pauses == []


def test_destination_may_take_its_time_and_what_expires_meanwhile_is_not_invoked() -> None:
    rules: AttemptRules[int] = AttemptRules(age_max_s=60.0, created_at_s={1: 900.0, 2: 950.0, 3: 1_000.0}.__getitem__)
    attempts = Attempts([1, 2, 3], rules, doubling)
    assert attempts.next(1_000.0) == Discard(records=[1], condition="RecordAgeExceeded", invoke_count=1)
    assert attempts.next(1_020.0) == Discard(records=[2], condition="RecordAgeExceeded", invoke_count=1)
    assert attempts.next(1_030.0) == Invoke(records=[3], attempt=1, unchanged=False)


def test_record_that_expires_between_retries_leaves_the_count_of_its_batch() -> None:
    lane = Lane(records="12", handler=raises(2), retries_max=2, age_max_s=60.0, born={1: 940.1})
    assert lane.run() == ["[12]", "D(1,1)", "[2]", "[2]", "D(2,3)"]
    assert lane.conditions == ["RecordAgeExceeded", "RetryAttemptsExhausted"]
    assert lane.unchanged == [False, False, True]


def test_pause_after_an_undelivered_invocation_is_as_long_as_was_asked_for() -> None:
    outcomes: list[Outcome] = [NotDelivered(7.5), Failed(), NotDelivered(), Succeeded()]
    lane = Lane(records="1", handler=lambda _records: outcomes.pop(0), retries_max=1)
    assert lane.run() == ["[1]"] * 4 + ["✓1"]
    assert lane.pauses == [7.5, 0.2, 0.2]


def final(*, retries_max: int = -1, age_max_s: float | None = None) -> Attempts[int]:
    rules: AttemptRules[int] = AttemptRules(
        retries_max=retries_max, bisect=True, age_max_s=age_max_s, created_at_s=lambda _: 0.0
    )
    return Attempts([], rules, doubling, final_of_s=1_000.0)


def test_final_invocation_without_records_is_retried_and_given_up() -> None:
    attempts = final(retries_max=1)
    for attempt in (1, 2):
        assert attempts.next(1_000.0) == Invoke(records=[], attempt=attempt, unchanged=attempt == 2)
        attempts.invoked(Failed())
        if attempt == 1:
            assert attempts.next(1_000.0) == Pause(0.2)
    given_up = attempts.next(1_000.0)
    assert isinstance(given_up, Discard)
    assert (list(given_up.records), given_up.condition, given_up.invoke_count) == ([], "RetryAttemptsExhausted", 2)
    assert attempts.next(1_000.0) is None


def test_final_invocation_ages_from_the_end_of_its_window() -> None:
    attempts = final(age_max_s=60.0)
    assert isinstance(attempts.next(1_050.0), Invoke)
    attempts.invoked(Failed())
    assert attempts.next(1_050.0) == Pause(0.2)
    given_up = attempts.next(1_060.0)
    assert isinstance(given_up, Discard)
    assert (list(given_up.records), given_up.condition, given_up.invoke_count) == ([], "RecordAgeExceeded", 1)
    assert attempts.next(1_060.0) is None


def test_final_invocation_that_succeeds_settles_nothing_and_is_over() -> None:
    attempts = final()
    assert isinstance(attempts.next(1_000.0), Invoke)
    attempts.invoked(Succeeded())
    assert attempts.next(1_000.0) == Settle([])
    assert attempts.next(1_000.0) is None


def test_set_aside_takes_an_item_out_of_all_batches_to_come() -> None:
    rules: AttemptRules[int] = AttemptRules(retries_max=0, bisect=True, created_at_s=lambda _: 0.0)
    attempts = Attempts([1, 2, 3, 4, 5, 6], rules, doubling)
    assert isinstance(attempts.next(0.0), Invoke)
    attempts.invoked(Failed())
    assert attempts.next(0.0) == Invoke(records=[1, 2, 3], attempt=1, unchanged=False)
    attempts.invoked(Failed())
    assert attempts.next(0.0) == Invoke(records=[1], attempt=1, unchanged=False)
    attempts.invoked(Failed())
    assert attempts.next(0.0) == Discard(records=[1], condition="RetryAttemptsExhausted", invoke_count=1)
    assert attempts.set_aside({2, 3, 5}.__contains__) == [2, 3, 5]
    assert attempts.next(0.0) == Invoke(records=[4, 6], attempt=1, unchanged=False)
    assert attempts.set_aside({4, 6}.__contains__) == [4, 6]
    assert attempts.next(0.0) is None


def test_batch_that_is_not_given_up_after_all_comes_next() -> None:
    rules: AttemptRules[int] = AttemptRules(retries_max=0, bisect=True, created_at_s=lambda _: 0.0)
    attempts = Attempts([1, 2], rules, doubling)
    assert attempts.next(0.0) == Invoke(records=[1, 2], attempt=1, unchanged=False)
    attempts.invoked(Failed())
    assert attempts.next(0.0) == Invoke(records=[1], attempt=1, unchanged=False)
    for count, delay_s in ((1, 0.2), (2, 0.4)):
        attempts.invoked(Failed())
        discard = attempts.next(0.0)
        assert isinstance(discard, Discard)
        assert discard == Discard(records=[1], condition="RetryAttemptsExhausted", invoke_count=count)
        attempts.resume(discard)
        assert attempts.next(0.0) == Pause(delay_s)
        assert attempts.next(0.0) == Invoke(records=[1], attempt=count + 1, unchanged=False)
    attempts.invoked(Succeeded())
    assert attempts.next(0.0) == Settle([1])
    assert attempts.next(0.0) == Invoke(records=[2], attempt=1, unchanged=False)
