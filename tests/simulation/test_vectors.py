"""The conformance vectors of an event source mapping against the whole engine, by their numbers, in virtual time.

Records are numbered from 1 by their keys. `✗` in the vectors is a handler that raises, or a response that reports.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from streamflow import events
from streamflow.destinations.invocation_record import MappingIdentity, invocation_record
from streamflow.errors import ConfigError, LambdaFunctionError, SinkBusyError
from streamflow.observe.progress import Progress
from streamflow.pipeline import App, Pipeline
from streamflow.rules.responses import read_response
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.batches import Batch
    from streamflow.dead_letters import DiscardedBatch
    from streamflow.records import Record

pytestmark = pytest.mark.anyio

IDENTITY = MappingIdentity(
    uuid="14e0db71-5d35-4eb5-b481-8945cf9d10c2",
    function_arn="arn:aws:lambda:us-east-1:123456789012:function:f",
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


def name_of(record: Record) -> str:
    return str(record.keys["id"])


def names_of(records: object) -> str:
    return "".join(name_of(record) for record in records)  # type: ignore[attr-defined]


@dataclass
class Collected:
    """A destination that takes everything."""

    name: str = "collected"
    discarded: list[DiscardedBatch] = field(default_factory=list)

    async def send(self, discarded: DiscardedBatch) -> None:
        self.discarded.append(discarded)

    def told(self) -> list[tuple[str, int]]:
        return [(names_of(each.batch), each.invoke_count) for each in self.discarded]

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(json.dumps(invocation_record(each, IDENTITY))) for each in self.discarded]


@dataclass
class Mapping:
    """A mapping over one shard, its function, and what became of the records."""

    options: dict[str, Any]
    raises: str = ""
    reports: str = ""
    respond: Callable[[Batch], object] | None = None
    reporting: bool = False
    world: World = field(default_factory=lambda: World(shards=1))
    invocations: list[str] = field(default_factory=list)
    invoked_at_s: list[float] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    failures_to_reach: int = 0
    destination: Collected = field(default_factory=Collected)

    def __post_init__(self) -> None:
        self.reporting = self.reporting or bool(self.reports)
        self.progress = Progress(self.world.clock)

    async def function(self, batch: Batch) -> None:
        """As the Lambda adapter does it, without its thread."""
        names = names_of(batch)
        if self.failures_to_reach:
            self.failures_to_reach -= 1
            raise SinkBusyError("throttled", retry_after_s=0.1)
        self.invocations.append(names)
        self.invoked_at_s.append(self.world.clock.monotonic())
        self.request_ids.append(batch.request_id)
        if any(name in self.raises for name in names):
            raise LambdaFunctionError("it raised")
        response: object = None
        if self.respond is not None:
            response = self.respond(batch)
        elif self.reports:
            reported = [record.sequence_number for record in batch if name_of(record) in self.reports]
            response = {"batchItemFailures": [{"itemIdentifier": number} for number in reported]}
        if self.reporting:
            numbers = {record.sequence_number for record in batch}
            if (failure := read_response(response, sequence_numbers=numbers)) is not None:
                raise failure

    async def run(self, names: str, *, until_settled: bool = True, for_s: float = 0.0) -> None:
        """Write the records, work until all is stored, and for a while more."""
        self.world.write(*names)
        async with self.world.working(self.function, destinations=[self.destination], **self.options) as worker:
            worker.flows[0].around = worker.flows[0].around
            if until_settled:
                await self.world.until(lambda: self._settled() >= len(self.world.written), within_s=4_000)
            await anyio.sleep(for_s)
        self.last_checkpoint = next(iter((await self.world.rows()).values())).checkpoint

    def _settled(self) -> int:
        counts = [event.records for event in self.world.of(events.BatchDelivered)]
        counts += [event.records for event in self.world.of(events.RecordsDiscarded)]
        counts += [event.filtered for event in self.world.of(events.PageRead)]
        return sum(counts)

    def last_result(self) -> str:
        for event in self.world.events:
            self.progress(event)
        return self.progress.snapshot().pipelines[0].last_processing_result


@pytest.mark.fault("F14")
async def test_vector_01_a_record_that_always_raises_is_given_up_after_its_retries() -> None:
    mapping = Mapping({"maximum_retry_attempts": 1}, raises="1")
    await mapping.run("1")
    assert mapping.invocations == ["1", "1"]
    assert mapping.destination.told() == [("1", 2)]
    (record,) = mapping.destination.records()
    assert record["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert record["responseContext"]["functionError"] == "Unhandled"
    assert mapping.request_ids[0] == mapping.request_ids[1] == record["requestContext"]["requestId"]
    assert mapping.last_result() == "PROBLEM: Function call failed"


async def test_vector_02_no_retries_means_one_invocation() -> None:
    mapping = Mapping({"maximum_retry_attempts": 0}, raises="1")
    await mapping.run("1")
    assert mapping.invocations == ["1"]
    assert mapping.destination.told() == [("1", 1)]


@pytest.mark.fault("F14")
async def test_vector_03_bisect_goes_depth_first_with_fresh_retries() -> None:
    mapping = Mapping({"maximum_retry_attempts": 1, "bisect_batch_on_function_error": True}, raises="2")
    await mapping.run("1234")
    assert mapping.invocations == ["1234", "12", "1", "2", "2", "34"]
    assert mapping.destination.told() == [("2", 2)]
    pauses = [round(b - a, 3) for a, b in zip(mapping.invoked_at_s, mapping.invoked_at_s[1:], strict=False)]
    assert pauses[:3] == [0, 0, 0], "halves start at once"
    assert pauses[3] > 0, "a retry waits"


async def test_vector_04_exhausted_suffix_of_a_partial_failure_goes_together() -> None:
    mapping = Mapping({"maximum_retry_attempts": 1}, reports="2")
    await mapping.run("1234")
    assert mapping.invocations == ["1234", "234", "234"]
    assert mapping.destination.told() == [("234", 2)]
    (record,) = mapping.destination.records()
    assert record["responseContext"]["functionError"] is None
    assert record["DDBStreamBatchInfo"]["batchSize"] == 3
    assert mapping.last_result() == "OK"


async def test_vector_05_partial_failure_with_bisect_trims_then_halves() -> None:
    mapping = Mapping({"maximum_retry_attempts": 1, "bisect_batch_on_function_error": True}, reports="2")
    await mapping.run("1234")
    assert mapping.invocations == ["1234", "234", "2", "2", "34"]
    assert mapping.destination.told() == [("2", 2)]


async def test_vector_06_partial_failure_gives_the_suffix_retries_of_its_own() -> None:
    mapping = Mapping({"maximum_retry_attempts": 3, "batch_size": 3}, reports="6")
    await mapping.run("123456")
    assert mapping.invocations == ["123", "456", "6", "6", "6", "6"]
    assert mapping.destination.told() == [("6", 4)]


@pytest.mark.fault("F22")
@pytest.mark.parametrize(
    "entry", [{"itemIdentifier": "123"}, {"itemIdentifier": ""}, {"itemIdentifier": None}, {"foo": 1}]
)
async def test_vector_07_response_that_names_no_record_fails_the_batch(entry: object) -> None:
    mapping = Mapping({"maximum_retry_attempts": 3}, respond=lambda _: {"batchItemFailures": [entry]}, reporting=True)
    await mapping.run("1")
    assert mapping.invocations == ["1"] * 4
    assert mapping.destination.told() == [("1", 4)]
    assert mapping.destination.records()[0]["responseContext"]["functionError"] is None


@pytest.mark.parametrize(
    "response", [None, {}, [], "", {"batchItemFailures": []}, {"batchItemFailures": None}], ids=json.dumps
)
async def test_vector_08_empty_response_is_success(response: object) -> None:
    mapping = Mapping({"maximum_retry_attempts": 3}, respond=lambda _: response, reporting=True)
    await mapping.run("1")
    assert mapping.invocations == ["1"]
    assert mapping.destination.told() == []
    assert str(mapping.last_checkpoint).startswith("AFTER_SEQUENCE_NUMBER:")


async def test_vector_09_response_is_ignored_where_reporting_is_off() -> None:
    def reported(batch: Batch) -> object:
        return {"batchItemFailures": [{"itemIdentifier": batch.records[0].sequence_number}]}

    mapping = Mapping({"maximum_retry_attempts": 3}, respond=reported)
    await mapping.run("1")
    assert mapping.invocations == ["1"]
    assert mapping.last_result() == "OK"


async def test_vector_10_record_age_ends_endless_retries() -> None:
    mapping = Mapping({"maximum_record_age_s": 60}, raises="1")
    await mapping.run("1")
    assert len(mapping.invocations) > 5
    assert mapping.destination.told() == [("1", len(mapping.invocations))]
    (record,) = mapping.destination.records()
    assert record["requestContext"]["condition"] == "RecordAgeExceeded"
    assert "responseContext" not in record


async def test_vector_11_record_too_old_at_the_first_poll_is_never_invoked() -> None:
    mapping = Mapping({"maximum_record_age_s": 60})
    mapping.world.write("1")
    await anyio.sleep(90)
    await mapping.run("")
    assert mapping.invocations == []
    assert mapping.destination.told() == [("1", 1)]
    assert mapping.destination.records()[0]["requestContext"]["condition"] == "RecordAgeExceeded"
    assert mapping.last_result() == "No records processed"


async def test_vector_12_only_the_expired_records_leave_a_batch() -> None:
    mapping = Mapping({"maximum_record_age_s": 60})
    mapping.world.write("1", "2")
    await anyio.sleep(90)
    await mapping.run("34")
    assert mapping.invocations == ["34"]
    assert mapping.destination.told() == [("12", 1)]


async def test_vector_13_full_batches_go_at_once_and_the_rest_after_the_window() -> None:
    mapping = Mapping({"batch_size": 2, "maximum_batching_window_s": 5})
    await mapping.run("12345")
    assert mapping.invocations == ["12", "34", "5"]
    first, second, third = mapping.invoked_at_s
    assert second - first < 0.1
    assert third - second == pytest.approx(5, abs=0.01)


async def test_vector_14_throttled_invocations_do_not_count() -> None:
    mapping = Mapping({"maximum_retry_attempts": 0}, failures_to_reach=10)
    await mapping.run("1")
    assert mapping.invocations == ["1"]
    assert mapping.destination.told() == []


async def test_vector_15_filtered_records_invoke_nothing_and_are_not_polled_again() -> None:
    mapping = Mapping({"filters": ('{"eventName": ["REMOVE"]}',)})
    await mapping.run("123", for_s=5)
    await mapping.run("", for_s=5)
    assert mapping.invocations == []
    assert sum(event.records for event in mapping.world.of(events.PageRead)) == 3
    assert str(mapping.last_checkpoint).startswith("AFTER_SEQUENCE_NUMBER:")


async def test_vector_16_exists_false_on_an_attribute_matches_always() -> None:
    mapping = Mapping({"filters": ('{"dynamodb": {"NewImage": {"version": [{"exists": false}]}}}',)})
    await mapping.run("12")
    assert "".join(mapping.invocations) == "12"


async def test_vector_17_numeric_on_a_number_attribute_matches_never() -> None:
    mapping = Mapping({"filters": ('{"dynamodb": {"NewImage": {"version": {"N": [{"numeric": [">", 0]}]}}}}',)})
    await mapping.run("12", for_s=5)
    assert mapping.invocations == []


@dataclass
class Summing:
    """A function that counts records in the state of its tumbling window."""

    world: World = field(default_factory=lambda: World(shards=1))
    seen: list[tuple[str, str, int, bool, bool]] = field(default_factory=list)
    fail: Callable[[Batch], None] | None = None

    async def __call__(self, batch: Batch) -> None:
        window = batch.window
        assert window is not None
        count = window.state.get("count", 0)
        self.seen.append(
            (names_of(batch), f"w{window.start_s % 100}", count, window.is_final, window.is_terminated_early)
        )
        window.state["count"] = count + len(batch)
        if self.fail is not None:
            self.fail(batch)

    async def at(self, second: float) -> None:
        """Wait until the wall clock shows this second of the current period of a hundred."""
        now = self.world.clock.wall() % 100
        await anyio.sleep((second - now) % 100)


async def test_vector_18_windows_are_closed_by_the_next_one_and_by_time() -> None:
    summing = Summing()
    world = summing.world
    async with world.working(summing, tumbling_window_s=10):
        await summing.at(1)
        world.write("1")
        await summing.at(3)
        world.write("3")
        await summing.at(12)
        world.write("c")
        await world.until(lambda: len(world.of(events.WindowClosed)) == 2)
    assert summing.seen == [
        ("1", "w0", 0, False, False),
        ("3", "w0", 1, False, False),
        ("", "w0", 2, True, False),
        ("c", "w10", 0, False, False),
        ("", "w10", 1, True, False),
    ]


async def test_vector_19_response_without_a_state_is_retried_with_the_same_state() -> None:
    left = [False, True, True, False]

    def fail(batch: Batch) -> None:
        if batch.records and left.pop(0):
            assert batch.window is not None
            batch.window.state = None  # type: ignore[assignment]

    summing = Summing(fail=fail)
    async with summing.world.working(summing, tumbling_window_s=10, batch_size=1):
        await summing.at(1)
        summing.world.write("1", "2")
        await summing.world.until(lambda: len(summing.world.of(events.WindowClosed)) == 1)
    assert [(names, count) for names, _, count, _, _ in summing.seen] == [
        ("1", 0),
        ("2", 1),
        ("2", 1),
        ("2", 1),
        ("", 2),
    ]


async def test_vector_20_child_waits_until_its_parent_is_finished() -> None:
    mapping = Mapping({}, raises="1")
    world = mapping.world
    world.write("1")
    async with world.working(mapping.function):
        world.controls.split("orders")
        world.write("2", "3")
        await anyio.sleep(30)
        assert set(mapping.invocations) == {"1"}
        assert len({event.shard_id for event in world.of(events.ShardOpened)}) == 1
        mapping.raises = ""
        await world.until(lambda: {"2", "3"} <= set("".join(mapping.invocations)), within_s=200)


@pytest.mark.fault("F47")
def test_vector_21_two_mappings_of_one_identity_are_refused() -> None:
    """Of the control plane's vector, what a declaration can say: the name is the identity that a function is in Lambda."""

    async def handler(batch: Batch) -> None: ...

    source = World().controls
    source.open = None  # type: ignore[attr-defined]
    pipelines = [Pipeline(name=name, source=source, handler=handler) for name in ("a", "a", "b")]
    with pytest.raises(ConfigError, match="two pipelines are named a"):
        App(pipelines=tuple(pipelines[:2]))
    assert len(App(pipelines=tuple(pipelines[1:])).pipelines) == 2


@pytest.mark.fault("F5")
async def test_vector_22_update_keeps_the_checkpoint_and_cleared_filters_let_all_pass() -> None:
    """Of the control plane's vector, what a restart with other options does."""
    mapping = Mapping({"filters": ('{"eventName": ["REMOVE"]}',)})
    await mapping.run("12", for_s=5)
    await mapping.run("", for_s=5)
    assert mapping.invocations == []
    mapping.options = {"filters": ()}
    await mapping.run("34")
    assert "".join(mapping.invocations) == "34"
