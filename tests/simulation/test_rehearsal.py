"""A user's pipeline in the simulation: each form of handler, what the scenario says, and what is refused."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

import streamflow
import streamflow.testing.simulation
from streamflow import Batch, DynamoDBStream, LambdaFunction, Pipeline, Record
from streamflow.errors import ConfigError
from streamflow.middleware import drop
from streamflow.testing.simulation import Ending, Extent, Outcome, Scenario, outside, rehearse
from streamflow.testing.simulation.rehearsal import ABSENT
from streamflow.testing.simulation.scenario import default_item, scenario_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

SHORT = Extent(hours=0.01, shards=1, writes_per_s=0.5)


def pipeline(handler: Any, **options: Any) -> Pipeline:
    source = DynamoDBStream(table="orders")
    return Pipeline(
        **{"name": "orders", "source": source, "handler": handler, "starting_position": "TRIM_HORIZON", **options}
    )


class Target:
    """Knows each record that reached it, how often."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()

    def take(self, record: Record) -> None:
        self.events[record.event_id] += 1

    async def write(self, batch: Batch) -> None:
        for record in batch:
            await outside("target", partial(self.take, record))

    def write_plainly(self, batch: Batch) -> None:
        for record in batch:
            self.take(record)

    def check(self, ending: Ending) -> None:
        assert ending.delivered
        assert self.events.keys() == {record.event_id for record in ending.delivered}


def run(make: Callable[[], Scenario], seed: int = 3, **options: Any) -> Outcome:
    return rehearse(make, seed, SHORT, **options)


# -- handlers -------------------------------------------------------------------------------------------------------------


def async_function(target: Target) -> Pipeline:
    return pipeline(target.write)


def plain_function(target: Target) -> Pipeline:
    return pipeline(target.write_plainly)


def sink_of_ones_own(target: Target) -> Pipeline:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Target]:
        yield target

    return pipeline(opened())


def branch(target: Target) -> Pipeline:
    async def other(batch: Batch) -> None:
        raise AssertionError("this branch is not simulated")

    return pipeline(streamflow.fan_out(other=other, this=target.write))


FORMS = [(async_function, None), (plain_function, None), (sink_of_ones_own, None), (branch, "orders/this")]


@pytest.mark.parametrize(("form", "name"), FORMS, ids=lambda value: getattr(value, "__name__", ""))
def test_each_form_of_a_handler_gets_every_record(form: Callable[[Target], Pipeline], name: str | None) -> None:
    def make() -> Scenario:
        target = Target()
        return Scenario(app=lambda: form(target), check=target.check)

    outcome = run(make, pipeline=name)
    assert outcome.violations == ()
    assert outcome.records > 5
    assert outcome.leaks == ()
    assert not set(outcome.injected) & set(ABSENT)
    assert not any("trimmed" in kind for kind in outcome.injected)


FUNCTION = """
seen = []

def handler(event, context):
    seen.append((context.log_stream_name, context.get_remaining_time_in_millis()))
    return {"batchItemFailures": []}
"""


def test_a_lambda_function_has_the_time_of_the_simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "rehearsed_function.py").write_text(FUNCTION)
    declared = LambdaFunction(target="rehearsed_function:handler", report_batch_item_failures=True, timeout_s=5)

    def seen() -> list[tuple[str, int]]:
        import rehearsed_function  # type: ignore[import-not-found]

        found: list[tuple[str, int]] = list(rehearsed_function.seen)
        rehearsed_function.seen.clear()
        return found

    first, of_first = run(lambda: Scenario(app=pipeline(declared))), seen()
    second, of_second = run(lambda: Scenario(app=pipeline(declared))), seen()
    assert first.violations == second.violations == ()
    assert (first.trace, of_first) == (second.trace, of_second)
    assert {milliseconds for _, milliseconds in of_first} == {5_000}


def test_filters_middleware_and_options_are_those_of_the_pipeline() -> None:
    calls: list[int] = []

    def make() -> Scenario:
        target = Target()

        async def handle(batch: Batch) -> None:
            calls.append(len(batch))
            await target.write(batch)

        def check(ending: Ending) -> None:
            assert {record.event_name for record in ending.records} <= {"INSERT", "REMOVE"}
            inserts = {record.event_id for record in ending.records if record.event_name == "INSERT"}
            assert target.events.keys() == inserts != set()

        options = {"filters": ('{"eventName": ["INSERT", "REMOVE"]}',), "batch_size": 2}
        layer = drop(lambda record: record.event_name == "REMOVE", reason="removed")
        return Scenario(app=pipeline(handle, middleware=(layer,), **options), check=check, deletes=0.3)

    assert run(make).violations == ()
    assert max(calls) <= 2


def test_what_is_given_up_is_among_the_letters() -> None:
    async def handle(batch: Batch) -> None:
        if any(record.keys["id"] == "item-3" for record in batch):
            raise ValueError("never")

    def item(random: Random, number: int) -> dict[str, dict[str, str]]:
        return {"id": {"S": f"item-{number % 4}"}, "number": {"N": str(number)}}

    def check(ending: Ending) -> None:
        assert {str(record.keys["id"]) for record in ending.letters} == {"item-3"}
        assert "item-3" not in {str(record.keys["id"]) for record in ending.delivered}
        assert len(ending.letters) + len(ending.delivered) == len(ending.records)

    options = {"maximum_retry_attempts": 1, "on_poison": "park_key", "on_failure": "drop"}
    outcome = run(lambda: Scenario(app=pipeline(handle, **options), item=item, check=check))
    assert outcome.violations == ()
    assert [what.partition(" ")[0] for what in outcome.raised] == ["ValueError"]


def test_a_handler_that_never_succeeds_is_a_finding_and_is_told() -> None:
    async def handle(batch: Batch) -> None:
        raise ValueError("no")

    outcome = rehearse(lambda: Scenario(app=pipeline(handle)), 3, Extent(hours=0.01, workers=1, shards=1))
    assert "V14" in {violation.invariant for violation in outcome.violations}
    assert next(iter(outcome.raised)).startswith("ValueError at tests/simulation/test_rehearsal.py:")


# -- the network to services ----------------------------------------------------------------------------------------------


def test_calls_of_services_fail_and_have_their_effect_twice() -> None:
    failed: Counter[str] = Counter()
    target = Target()

    async def handle(batch: Batch) -> None:
        try:
            await target.write(batch)
        except OSError as error:
            failed[type(error).__name__] += 1
            raise

    def all_seen() -> bool:
        return failed.keys() == {"ConnectionRefusedError", "TimeoutError"} and max(target.events.values()) > 1

    for seed in range(1, 10):
        assert run(lambda: Scenario(app=pipeline(handle)), seed).violations == ()
        if all_seen():
            return
    raise AssertionError(failed)


@pytest.mark.anyio
async def test_outside_of_a_simulation_a_service_just_answers() -> None:
    assert await outside("target", lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await outside("target", lambda: 1 / 0)


# -- scenarios ------------------------------------------------------------------------------------------------------------


def test_each_life_of_a_worker_has_an_app_of_its_own() -> None:
    made: list[Target] = []

    def app() -> Pipeline:
        made.append(Target())
        return pipeline(made[-1].write)

    for seed in range(1, 10):
        made.clear()
        assert run(lambda: Scenario(app=app), seed).violations == ()
        if len(made) > SHORT.workers and sum(bool(target.events) for target in made) > 1:
            return
    raise AssertionError(made)


def test_items_keys_and_view_are_those_of_the_scenario() -> None:
    def item(random: Random, number: int) -> dict[str, dict[str, str]]:
        return {"customer": {"S": random.choice("abc")}, "at": {"N": str(number)}, "note": {"S": "x"}}

    def check(ending: Ending) -> None:
        assert {tuple(record.keys) for record in ending.records} == {("customer", "at")}
        assert all(record.new_image is None for record in ending.records)
        assert len(ending.items) == len(ending.records)
        assert {each["note"]["S"] for each in ending.items} == {"x"}

    outcome = run(
        lambda: Scenario(
            app=pipeline(Target().write),
            item=item,
            key={"customer": "S", "at": "N"},
            view_type="KEYS_ONLY",
            deletes=0.0,
            check=check,
        )
    )
    assert outcome.violations == ()


def test_whatever_the_check_raises_is_a_violation_with_its_line() -> None:
    def check(ending: Ending) -> None:
        raise LookupError("wrong total")

    (violation,) = run(lambda: Scenario(app=pipeline(Target().write), check=check)).violations
    assert violation.invariant == "check"
    assert violation.says.startswith("tests/simulation/test_rehearsal.py:")
    assert violation.says.endswith(": LookupError: wrong total")


# -- what is refused ------------------------------------------------------------------------------------------------------


def broken_item(random: Random, number: int) -> dict[str, Any]:
    raise LookupError("no items left")


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (broken_item, ": the item of change 1: LookupError: no items left"),
        (lambda random, number: {"other": {"S": "1"}}, "change 1 has no item in wire form with the key id (S)"),
        (lambda random, number: {"id": {"N": "1"}}, "expected: S actual: N"),
        (lambda random, number: None, "change 1 has no item in wire form with the key id (S): None"),
    ],
    ids=["raises", "no key", "other type", "none"],
)
def test_an_item_that_the_table_would_not_take_is_refused(item: Any, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        run(lambda: Scenario(app=pipeline(Target().write), item=item))
    assert says in str(refused.value)


async def of_two(batch: Batch, more: object) -> None: ...


@asynccontextmanager
async def entered_once() -> AsyncIterator[Target]:
    yield Target()


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        (of_two, "must take one argument, the batch"),
        (LambdaFunction(target="nowhere:handler"), "no module named 'nowhere'"),
        (entered_once(), "can be entered once, and each life of a worker enters it: name a function"),
        (
            streamflow.fan_out(a=Target().write, b=Target().write),
            "one is simulated at a time: name one of orders/a, orders/b",
        ),
    ],
    ids=["arguments", "lambda", "sink", "fan-out"],
)
def test_a_handler_that_cannot_be_simulated_is_refused(handler: Any, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        run(lambda: Scenario(app=pipeline(handler)))
    assert says in str(refused.value)


@pytest.mark.parametrize("key", [{}, {"id": "X"}, {"a": "S", "b": "S", "c": "S"}], ids=str)
def test_a_key_that_no_table_has_is_refused(key: Any) -> None:
    with pytest.raises(ConfigError, match="one attribute or two with their types"):
        Scenario(app=pipeline(Target().write), key=key)


def test_an_app_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="an App, a Pipeline, or a function that makes one: 7"):
        run(lambda: Scenario(app=lambda: 7))  # type: ignore[arg-type, return-value]


def test_a_target_is_a_scenario_an_app_or_what_makes_one() -> None:
    declared = pipeline(Target().write)
    scenario = Scenario(app=declared)
    assert scenario_of(scenario) is scenario
    assert scenario_of(lambda: scenario) is scenario
    assert scenario_of(declared).app is declared

    def made() -> Pipeline:
        return declared

    assert scenario_of(made).app is made


def test_items_are_twenty_by_default() -> None:
    random = Random(7)
    items = [default_item(random, number) for number in range(500)]
    assert len({item["id"]["S"] for item in items}) == 20
    assert all(1 <= int(item["amount"]["N"]) <= 100 for item in items)


def test_public_names_are_there_on_first_use() -> None:
    names = streamflow.testing.simulation.__all__
    assert [name for name in names if not callable(getattr(streamflow.testing.simulation, name))] == []
