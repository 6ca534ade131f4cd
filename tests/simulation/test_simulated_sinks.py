"""The simulated handler and destination: each way to fail, what it leaves behind, and what the product makes of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

from simulated_ports import Ports
from streamflow.batches import Batch
from streamflow.dead_letters import DiscardedBatch
from streamflow.engine.invocation import busy_for_s, invoke, outcome_of
from streamflow.errors import DestinationError, FencedError, HandlerTimeoutError, PartialFailure, SinkBusyError
from streamflow.failures import RecordsFailedError
from streamflow.positions import Position
from streamflow.records import Record, Shard
from streamflow.rules.attempts import Failed, NotDelivered, PartlyFailed, SomeFailed, Succeeded
from streamflow.testing.simulation.facts import Accepted, Invoked, LettersStored, Returned
from streamflow.testing.simulation.loop import SimulatedLoop
from streamflow.testing.simulation.misbehaviour import PoisonError

if TYPE_CHECKING:
    from streamflow.testing.simulation.sinks import Kind

pytestmark = pytest.mark.anyio

SHARD = Shard(stream_arn="arn", shard_id="shardId-1")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": lambda: SimulatedLoop(1)}


def batch_of(keys: str, *, start: int = 1, epoch: int = 1) -> Batch:
    """A batch with one record for each letter, numbered in order."""
    records = [
        Record(
            msgspec.Raw(
                b'{"eventID":"%d","eventName":"INSERT","dynamodb":{"Keys":{"id":{"S":"%s"}},"SequenceNumber":"%d"}}'
                % (number, key.encode(), number)
            ),
            SHARD,
        )
        for number, key in enumerate(keys, start=start)
    ]
    return Batch(pipeline="p", shard=SHARD, records=records, epoch=epoch)


def accepted(ports: Ports) -> list[int]:
    return [number for fact in ports.of(Accepted) for number in fact.numbers]


# --- the handler -----------------------------------------------------------------------------------------------------


async def test_without_faults_everything_is_written_once_and_told() -> None:
    ports = Ports()
    assert await invoke(ports.handler(), batch_of("abc"), timeout_s=None) is None
    (invoked,), (effect,), (returned,) = ports.of(Invoked), ports.of(Accepted), ports.of(Returned)
    assert invoked.numbers == effect.numbers == returned.numbers == returned.done == (1, 2, 3)
    assert (invoked.invocation, invoked.node, invoked.epoch) == (effect.invocation, effect.node, effect.epoch)
    assert (returned.counted, effect.fenced) == (True, False)


@pytest.mark.parametrize(
    ("kind", "error", "written"),
    [
        ("sink.fails_before", ConnectionError, []),
        ("sink.fails_after", ConnectionError, [1, 2, 3]),
        ("sink.hangs", TimeoutError, []),
        ("network.refused", ConnectionError, []),
        ("network.request_lost", TimeoutError, []),
        ("network.answer_lost", TimeoutError, [1, 2, 3]),
        ("sink.poison", PoisonError, []),
    ],
)
async def test_a_batch_may_fail_as_a_whole_before_and_after_its_effect(
    kind: str, error: type[Exception], written: list[int]
) -> None:
    ports = Ports({kind: 1.0})
    batch = batch_of("abc")
    failure = await invoke(ports.handler(), batch, timeout_s=None)
    assert type(failure) is error
    assert outcome_of(batch, failure) == Failed()
    assert accepted(ports) == written
    assert [(fact.done, fact.counted) for fact in ports.of(Returned)] == [((), True)]


async def test_a_handler_that_hangs_is_given_up_by_the_time_limit() -> None:
    ports = Ports({"sink.hangs": 1.0})
    failure = await invoke(ports.handler(), batch_of("abc"), timeout_s=10.0)
    assert isinstance(failure, HandlerTimeoutError)
    assert [fact.done for fact in ports.of(Returned)] == [()]


async def test_a_request_that_is_delayed_has_its_effect_when_its_batch_is_forgotten() -> None:
    ports = Ports({"network.delayed": 1.0})
    assert isinstance(await invoke(ports.handler(), batch_of("a"), timeout_s=None), TimeoutError)
    assert accepted(ports) == []
    await anyio.sleep(61)
    assert accepted(ports) == [1]


async def test_a_slow_handler_takes_its_time_and_fails_nothing() -> None:
    ports = Ports({"sink.slow": 1.0})
    started = anyio.current_time()
    assert await invoke(ports.handler(), batch_of("abc"), timeout_s=None) is None
    assert 0.1 < anyio.current_time() - started < 21.0
    assert accepted(ports) == [1, 2, 3]


async def test_the_handlers_of_a_node_may_hang_until_nothing_strikes_any_more() -> None:
    ports = Ports()
    ports.sink.hung["w1.1"] = 100.0
    began = anyio.current_time()
    await ports.handler("w2.1")(batch_of("a"))
    assert not ports.sink.hanging
    assert anyio.current_time() < began + 1
    with anyio.move_on_after(50):
        await ports.handler("w1.1")(batch_of("b", start=2))
    assert ports.sink.hanging == {"w1.1"}
    assert accepted(ports) == [1]
    ports.sink.heal()
    await ports.handler("w1.1")(batch_of("b", start=2))
    assert accepted(ports) == [1, 2]


async def test_a_busy_sink_asks_for_a_pause_and_does_not_count() -> None:
    ports = Ports({"sink.busy": 1.0})
    handler, batch = ports.handler(), batch_of("abc")
    pauses = set()
    for _ in range(40):
        failure = await invoke(handler, batch, timeout_s=None)
        assert isinstance(failure, SinkBusyError)
        assert outcome_of(batch, failure) == NotDelivered(busy_for_s(failure))
        pauses.add(busy_for_s(failure))
    assert pauses == {None, 0.05, 0.5, 5.0, 30.0}
    assert not accepted(ports)
    assert not any(fact.counted for fact in ports.of(Returned))


async def test_a_partial_failure_names_the_first_record_that_was_not_written() -> None:
    ports = Ports({"sink.fails_from": 1.0})
    handler, batch = ports.handler(), batch_of("abcdef")
    firsts = set()
    for _ in range(40):
        ports.facts.clear()
        failure = await invoke(handler, batch, timeout_s=None)
        assert isinstance(failure, PartialFailure)
        outcome = outcome_of(batch, failure)
        assert isinstance(outcome, PartlyFailed)
        assert accepted(ports) == list(range(1, outcome.first + 1))
        assert ports.of(Returned)[0].done == tuple(accepted(ports))
        firsts.add(outcome.first)
    assert firsts == set(range(6))


@pytest.mark.parametrize("kind", ["sink.fails_some", "sink.refuses"])
async def test_single_records_may_fail_and_what_waits_behind_them_is_named(kind: str) -> None:
    ports = Ports({kind: 1.0})
    keys = "abacbadabc"
    handler, batch = ports.handler(), batch_of(keys)
    seen = set()
    for _ in range(60):
        ports.facts.clear()
        failure = await invoke(handler, batch, timeout_s=None)
        assert isinstance(failure, RecordsFailedError)
        outcome = outcome_of(batch, failure)
        assert isinstance(outcome, SomeFailed)
        not_written = [*outcome.failed, *outcome.refused, *outcome.waiting]
        assert sorted([*not_written, *(number - 1 for number in accepted(ports))]) == list(range(10))
        for place in outcome.waiting:
            assert any(keys[other] == keys[place] for other in [*outcome.failed, *outcome.refused] if other < place)
        for number in accepted(ports):
            assert not any(keys[place] == keys[number - 1] for place in not_written if place < number - 1)
        assert bool(outcome.refused) == (kind == "sink.refuses")
        seen.add((len(outcome.failed), len(outcome.refused), len(outcome.waiting)))
    assert len(seen) > 2


async def test_nonsense_fails_the_whole_batch_or_nothing_of_it() -> None:
    ports = Ports({"sink.nonsense": 1.0})
    handler, batch = ports.handler(), batch_of("abc")
    met = set()
    for _ in range(60):
        ports.facts.clear()
        failure = await invoke(handler, batch, timeout_s=None)
        outcome = outcome_of(batch, failure)
        assert outcome in (Succeeded(), Failed(), PartlyFailed(0))
        assert accepted(ports) == ([1, 2, 3] if outcome == Succeeded() else [])
        met.add((type(failure), str(failure)))
    assert len(met) == 7


async def test_an_item_is_poison_for_every_node_and_for_good() -> None:
    ports = Ports({"sink.poison": 0.5})
    one, other = ports.handler("w1.1"), ports.handler("w2.1")
    alphabet = "abcdefghijklmnop"
    poison = {key for key in alphabet if await invoke(one, batch_of(key), timeout_s=None) is not None}
    assert 0 < len(poison) < len(alphabet)
    ports.faults.quiet = True
    assert {key for key in alphabet if await invoke(other, batch_of(key), timeout_s=None) is not None} == poison
    healthy = next(key for key in alphabet if key not in poison)
    assert isinstance(await invoke(one, batch_of(healthy + min(poison)), timeout_s=None), PoisonError)


async def test_a_severed_node_writes_nothing() -> None:
    ports = Ports()
    ports.network.sever("w1.1")
    failure = await invoke(ports.handler("w1.1"), batch_of("a"), timeout_s=60.0)
    assert isinstance(failure, HandlerTimeoutError)
    assert not accepted(ports)


# --- what the target refuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "fenced", "transactional"])
async def test_only_a_fenced_target_refuses_what_an_older_owner_writes(kind: Kind) -> None:
    ports = Ports(sink_kind=kind)
    await invoke(ports.handler("w2.1"), batch_of("b", start=2, epoch=2), timeout_s=None)
    failure = await invoke(ports.handler("w1.1"), batch_of("a", start=1, epoch=1), timeout_s=None)
    assert isinstance(failure, FencedError) == (kind != "plain")
    assert accepted(ports) == ([2, 1] if kind == "plain" else [2])
    assert {fact.fenced for fact in ports.of(Accepted)} == {kind != "plain"}


async def test_a_transactional_target_knows_how_far_it_is_and_writes_nothing_twice() -> None:
    ports = Ports(sink_kind="transactional")
    old, new = ports.handler("w1.1"), ports.handler("w2.1")
    assert await old.fence(SHARD, 1) is None
    await old.write(batch_of("abc"))
    assert await new.fence(SHARD, 2) == Position.after("3")
    with pytest.raises(FencedError):
        await old.advance(SHARD, 1, Position.after("9"))
    with pytest.raises(FencedError):
        await old.fence(SHARD, 1)
    await new.write(batch_of("abcd", epoch=2))
    await new.advance(SHARD, 2, Position.after("9"))
    await new.advance(SHARD, 2, Position.after("5"))
    assert await new.fence(SHARD, 2) == Position.after("9")
    assert accepted(ports) == [1, 2, 3, 4]


async def test_letters_that_are_delivered_again_pass_by_the_fence() -> None:
    ports = Ports(sink_kind="transactional")
    await ports.handler("w2.1").write(batch_of("c", start=3, epoch=2))
    await ports.handler("w1.1").write(batch_of("a", start=1, epoch=0))
    assert accepted(ports) == [3, 1]


@pytest.mark.parametrize("kind", ["sink.fails_some", "sink.refuses", "sink.fails_from"])
async def test_a_transactional_target_has_no_record_behind_one_that_failed(kind: str) -> None:
    for seeds_length in range(1, 8):
        ports = Ports({kind: 1.0}, sink_kind="transactional")
        await invoke(ports.handler(f"w{seeds_length}.1"), batch_of("abcdefgh"[: seeds_length + 1]), timeout_s=None)
        assert accepted(ports) == list(range(1, len(accepted(ports)) + 1))
        assert len(accepted(ports)) <= seeds_length


async def test_the_fence_may_be_as_unreachable_as_the_target() -> None:
    ports = Ports({"network.answer_lost": 1.0}, sink_kind="transactional")
    with pytest.raises(TimeoutError):
        await ports.handler().fence(SHARD, 5)
    ports.faults.quiet = True
    with pytest.raises(FencedError):
        await ports.handler().fence(SHARD, 4)


# --- destinations ----------------------------------------------------------------------------------------------------


def discarded(keys: str) -> DiscardedBatch:
    batch = batch_of(keys)
    return DiscardedBatch(batch=batch, condition="RetryAttemptsExhausted", invoke_count=3, discarded_at_s=1.0)


def taken(ports: Ports) -> list[int]:
    return [letter.number for fact in ports.of(LettersStored) for letter in fact.letters]


async def test_a_destination_takes_whole_records() -> None:
    ports = Ports()
    await ports.destination().send(discarded("ab"))
    (fact,) = ports.of(LettersStored)
    assert [(letter.drawer, letter.number, letter.key) for letter in fact.letters] == [
        ("dead", 1, '{"id":{"S":"a"}}'),
        ("dead", 2, '{"id":{"S":"b"}}'),
    ]
    assert b'"SequenceNumber":"1"' in fact.letters[0].body


@pytest.mark.parametrize(
    ("kind", "error", "kept"),
    [
        ("destination.fails_before", DestinationError, False),
        ("destination.fails_after", DestinationError, True),
        ("destination.hangs", DestinationError, False),
        ("destination.nonsense", KeyError, False),
        ("network.refused", DestinationError, False),
        ("network.answer_lost", DestinationError, True),
    ],
)
async def test_a_destination_may_fail_before_and_after_it_has_the_batch(
    kind: str, error: type[Exception], *, kept: bool
) -> None:
    ports = Ports({kind: 1.0})
    with pytest.raises(error):
        await ports.destination().send(discarded("ab"))
    assert taken(ports) == ([1, 2] if kept else [])
    ports.faults.quiet = True
    await ports.destination().send(discarded("ab"))
    assert set(taken(ports)) == {1, 2}


def test_a_pause_that_is_no_number_is_none() -> None:
    assert busy_for_s(SinkBusyError("", retry_after_s=math.nan)) is None
