"""`route` and `fallback`: every record reaches one sink, is left out aloud, or is told as not written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from kept import record
from streamflow.batches import Batch
from streamflow.clock import SystemClock
from streamflow.errors import ConfigError, FencedError, SinkBusyError
from streamflow.failures import RecordFailure, RecordsFailedError
from streamflow.handlers.adapt import open_handler
from streamflow.handlers.context import Context
from streamflow.middleware.chain import compose
from streamflow.sinks.fallback import fallback
from streamflow.sinks.jsonl import jsonl
from streamflow.sinks.route import route
from streamflow.sinks.sqlite import sqlite

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from streamflow.protocols import AwsClients
    from streamflow.sdk.declarations import SinkDeclaration
    from streamflow.sdk.settings import AwsSettings

pytestmark = pytest.mark.anyio

ONLY_A = '{"dynamodb": {"Keys": {"id": {"S": ["a"]}}}}'


@dataclass
class Target:
    """A sink that fails as it is told, by key."""

    failing: dict[str, str] = field(default_factory=dict)
    raising: Exception | None = None
    written: list[str] = field(default_factory=list)
    opened: int = 0

    async def __aenter__(self) -> Self:
        self.opened += 1
        return self

    async def __aexit__(self, *exception: object) -> None:
        self.opened -= 1

    async def write(self, batch: Batch) -> None:
        if self.raising is not None:
            raise self.raising
        failures = []
        for each in batch:
            key = str(each.keys["id"])
            if key in self.failing:
                failures.append(RecordFailure(each, self.failing[key], "told so"))  # type: ignore[arg-type]
            else:
                self.written.append(key)
        if failures:
            raise RecordsFailedError(failures)


async def _no_aws(_: AwsSettings | None) -> AwsClients:
    raise AssertionError("nobody asks for AWS")


CONTEXT = Context(pipeline="orders", clock=SystemClock(), aws=_no_aws, suppressed=lambda _: None)


def batch_of(*keys: str) -> Batch:
    records = [record(key, version + 1) for version, key in enumerate(keys)]
    return Batch(pipeline="orders", shard=records[0].shard, records=records)


async def written(sink: SinkDeclaration, batch: Batch) -> Sequence[RecordFailure]:
    """Write through a chain, as the engine does; the answer is what was not written."""
    async with open_handler(sink, pipeline="orders", context=CONTEXT) as opened:
        try:
            await compose((), opened.call)(batch)
        except RecordsFailedError as error:
            return error.failures
    return ()


def told(failures: Sequence[RecordFailure]) -> list[tuple[str, str]]:
    return [(str(failure.record.keys["id"]), failure.kind) for failure in failures]


# --- route -----------------------------------------------------------------------------------------------------------


async def test_each_record_goes_the_first_way_whose_condition_it_meets() -> None:
    first, rest = Target(), Target()
    sink = route(routes=({"when": ONLY_A, "sink": first}, {"sink": rest}))
    assert await written(sink, batch_of("a", "b", "a", "c")) == ()
    assert (first.written, rest.written) == (["a", "a"], ["b", "c"])
    assert (first.opened, rest.opened) == (0, 0)


async def test_what_one_sink_does_not_take_is_no_concern_of_the_others() -> None:
    first, rest = Target(raising=ConnectionError("gone")), Target(failing={"c": "refused"})
    sink = route(routes=({"when": ONLY_A, "sink": first}, {"sink": rest}))
    failures = await written(sink, batch_of("a", "b", "c"))
    assert sorted(told(failures)) == [("a", "failed"), ("c", "refused")]
    assert rest.written == ["b"]


async def test_a_reason_why_nothing_was_written_is_raised_as_it_is() -> None:
    sink = route(
        routes=({"when": ONLY_A, "sink": Target(raising=SinkBusyError("later", retry_after_s=7))}, {"drop": "x"})
    )
    with pytest.raises(SinkBusyError) as raised:
        await written(sink, batch_of("a", "a"))
    assert raised.value.retry_after_s == 7


async def test_the_longest_pause_counts_where_some_were_written() -> None:
    busy = Target(raising=SinkBusyError("later", retry_after_s=7))
    sink = route(routes=({"when": ONLY_A, "sink": busy}, {"sink": Target()}))
    async with open_handler(sink, pipeline="orders", context=CONTEXT) as opened:
        with pytest.raises(RecordsFailedError) as raised:
            await opened(batch_of("a", "b"))
    assert raised.value.retry_after_s == 7
    assert told(raised.value.failures) == [("a", "waiting")]


async def test_what_is_left_out_is_counted_under_its_reason() -> None:
    rest = Target()
    sink = route(routes=({"when": ONLY_A, "drop": "not ours"}, {"sink": rest}))
    batch = batch_of("a", "b", "a")
    await written(sink, batch)
    assert batch.ledger.dropped(batch.records) == {"not ours": 2}
    assert batch.ledger.unaccounted() == []
    assert rest.written == ["b"]


async def test_what_is_left_out_is_counted_also_where_others_failed() -> None:
    sink = route(routes=({"when": ONLY_A, "drop": "not ours"}, {"sink": Target(failing={"b": "failed"})}))
    batch = batch_of("a", "b", "c")
    assert told(await written(sink, batch)) == [("b", "failed")]
    assert batch.ledger.dropped(batch.records) == {"not ours": 1}


async def test_a_fence_ends_everything() -> None:
    sink = route(routes=({"when": ONLY_A, "sink": Target(raising=FencedError("newer"))}, {"sink": Target()}))
    with pytest.raises(FencedError):
        await written(sink, batch_of("a", "b"))


@pytest.mark.parametrize(
    ("routes", "problem"),
    [
        (({"when": ONLY_A, "sink": Target()},), "the last route must have no when"),
        (({"sink": Target()}, {"sink": Target()}), "it must be the last one"),
        (({"when": "{", "sink": Target()}, {"drop": "x"}), "Invalid filter pattern definition"),
        (({"sink": Target(), "drop": "x"},), "give either sink or drop"),
        (({},), "give either sink or drop"),
        (({"sink": 7},), "should be a sink or a handler, not int"),
        (({"sink": {"type": "jsonl"}},), "call the plugin"),
        (({"sink": sqlite(path="x.db", table="x", transactional=True)},), "sqlite is transactional"),
        ((), "give at least one route"),
    ],
)
def test_routes_that_lose_records_are_refused(routes: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        route(routes=routes)


# --- fallback --------------------------------------------------------------------------------------------------------


async def test_what_the_first_sink_does_not_take_goes_to_the_next() -> None:
    first, second = Target(failing={"b": "refused", "c": "failed"}), Target()
    assert await written(fallback(sinks=(first, second)), batch_of("a", "b", "c")) == ()
    assert (first.written, second.written) == (["a"], ["b", "c"])


async def test_the_last_sink_has_the_last_word() -> None:
    first, second = Target(failing={"b": "refused", "c": "failed"}), Target(failing={"b": "refused"})
    failures = await written(fallback(sinks=(first, second)), batch_of("a", "b", "c"))
    assert told(failures) == [("b", "refused")]
    assert second.written == ["c"]


async def test_a_sink_that_fails_whole_is_passed_over() -> None:
    second = Target()
    assert await written(fallback(sinks=(Target(raising=ConnectionError("gone")), second)), batch_of("a", "b")) == ()
    assert second.written == ["a", "b"]


async def test_only_refused_records_go_on_if_one_says_so() -> None:
    first, second = Target(failing={"b": "refused", "c": "failed"}), Target()
    failures = await written(fallback(sinks=(first, second), on="refused"), batch_of("a", "b", "c"))
    assert told(failures) == [("c", "failed")]
    assert second.written == ["b"]
    down = fallback(sinks=(Target(raising=ConnectionError("gone")), second), on="refused")
    with pytest.raises(ConnectionError):
        await written(down, batch_of("a"))


async def test_a_busy_sink_is_waited_for() -> None:
    second = Target()
    busy = fallback(sinks=(Target(raising=SinkBusyError("later", retry_after_s=3)), second))
    with pytest.raises(SinkBusyError):
        await written(busy, batch_of("a"))
    waiting = fallback(sinks=(Target(failing={"a": "waiting"}), second))
    assert told(await written(waiting, batch_of("a", "b"))) == [("a", "waiting")]
    assert second.written == []


async def test_the_next_sink_is_left_alone_where_the_first_takes_everything() -> None:
    second = Target(raising=AssertionError("not asked for"))
    assert await written(fallback(sinks=(Target(), second)), batch_of("a", "b")) == ()


async def test_sinks_may_be_handler_functions_and_sinks_inside_sinks() -> None:
    seen: list[str] = []

    async def take(batch: Batch) -> None:
        seen.extend(str(each.keys["id"]) for each in batch)

    inner = route(routes=({"when": ONLY_A, "sink": take}, {"drop": "rest"}))
    assert await written(fallback(sinks=(Target(raising=OSError()), inner)), batch_of("a", "b")) == ()
    assert seen == ["a"]


def test_what_several_sinks_can_do_is_what_all_of_them_can() -> None:
    lines = jsonl(path="orders.jsonl")
    both = fallback(sinks=(lines, sqlite(path="x.db", table="x")))
    assert both.capabilities.order == "key"
    assert both.capabilities.idempotence == "none"
    assert fallback(sinks=(lines, Target())).capabilities.partial_failures is False
