"""Writing a batch in requests: what is sent together, what waits for what, and what is told of each record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from streamflow.errors import FencedError, MalformedRecordError, RecordRefusedError, SinkBusyError
from streamflow.failures import RecordsFailedError
from streamflow.sdk import Capabilities, Rejection, write_in_requests
from streamflow.testing.sink_contract import Changes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streamflow.batches import Batch
    from streamflow.records import Record

    Answer = Callable[[Sequence[str]], Awaitable[Sequence[Rejection | None] | None]]

pytestmark = pytest.mark.anyio

FAILED = Rejection("failed", "no luck")
REFUSED = Rejection("refused", "never")


@dataclass
class Target:
    """Notes what it is sent: the item and version of each record. `answer` says what becomes of a request."""

    answer: Answer | None = None
    requests: list[list[str]] = field(default_factory=list)
    open_now: int = 0
    open_most: int = 0

    async def send(self, entries: Sequence[str]) -> Sequence[Rejection | None] | None:
        self.requests.append(list(entries))
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            await anyio.lowlevel.checkpoint()
            return None if self.answer is None else await self.answer(entries)
        finally:
            self.open_now -= 1


def content(record: Record) -> str:
    image = record.new_image or {}
    return str(record.keys["id"]).partition("-")[2] + str(image.get("version", ""))


def batch_of(*items: str) -> Batch:
    """A change of each item, in this order: `a`, `b`, `a` are sent as `a1`, `b1`, `a2`."""
    changes = Changes()
    return changes.batch(*[changes.put(item) for item in items])


async def write(batch: Batch, target: Target, *, size: int = 1, concurrency: int = 8, **limits: Any) -> None:
    capabilities = Capabilities(**{"order": "key", "idempotence": "none", "partial_failures": True, **limits})
    await write_in_requests(
        batch,
        encode=lambda record: (content(record), size),
        send=target.send,
        capabilities=capabilities,
        concurrency=concurrency,
    )


async def failures(batch: Batch, target: Target, **how: Any) -> dict[str, tuple[str, str]]:
    """What is told: of each record that was not written, kind and reason."""
    with pytest.raises(RecordsFailedError) as caught:
        await write(batch, target, **how)
    return {content(each.record): (each.kind, each.reason) for each in caught.value.failures}


def rejecting(*entries: str, rejection: Rejection = FAILED) -> Answer:
    async def answer(sent: Sequence[str]) -> list[Rejection | None]:
        await anyio.lowlevel.checkpoint()
        return [rejection if entry in entries else None for entry in sent]

    return answer


def raising(errors: dict[str, Exception]) -> Answer:
    """The request that holds the entry raises its error."""

    async def answer(sent: Sequence[str]) -> None:
        await anyio.lowlevel.checkpoint()
        for entry in sent:
            if entry in errors:
                raise errors[entry]

    return answer


# --- what is sent together -------------------------------------------------------------------------------------------


async def test_a_batch_within_the_limits_is_one_request() -> None:
    target = Target()
    await write(batch_of("a", "b", "c"), target)
    assert target.requests == [["a1", "b1", "c1"]]


async def test_requests_keep_to_the_number_of_records() -> None:
    target = Target()
    await write(batch_of("a", "b", "c", "d", "e"), target, request_records_max=2)
    assert target.requests == [["a1", "b1"], ["c1", "d1"], ["e1"]]


async def test_requests_keep_to_the_number_of_bytes() -> None:
    target = Target()
    await write(batch_of("a", "b", "c"), target, size=40, request_bytes_max=100)
    assert target.requests == [["a1", "b1"], ["c1"]]


async def test_a_record_that_fills_more_than_a_request_goes_alone() -> None:
    target = Target()
    await write(batch_of("a", "b"), target, size=200, request_bytes_max=100)
    assert target.requests == [["a1"], ["b1"]]


async def test_an_empty_batch_is_no_request() -> None:
    target = Target()
    await write(batch_of("a").select([]), target)
    assert target.requests == []


async def test_changes_of_one_item_are_in_requests_one_after_the_other() -> None:
    target = Target()
    await write(batch_of("a", "b", "a", "a", "c"), target)
    assert target.requests == [["a1", "b1", "c1"], ["a2"], ["a3"]]


async def test_where_no_order_is_promised_changes_of_one_item_go_together() -> None:
    target = Target()
    await write(batch_of("a", "a", "a"), target, order="none")
    assert target.requests == [["a1", "a2", "a3"]]


async def test_requests_are_sent_side_by_side_up_to_a_limit() -> None:
    items = [chr(ord("a") + number) for number in range(12)]
    target = Target()
    await write(batch_of(*items), target, request_records_max=1, concurrency=3)
    assert target.open_most == 3
    assert len(target.requests) == 12


async def test_a_later_change_is_not_sent_before_the_earlier_one_is_answered() -> None:
    answered = anyio.Event()

    async def answer(sent: Sequence[str]) -> None:
        if "a1" in sent:
            await answered.wait()

    target = Target(answer)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, batch_of("a", "b", "a"), target)
        await anyio.wait_all_tasks_blocked()
        assert target.requests == [["a1", "b1"]]
        answered.set()
    assert target.requests == [["a1", "b1"], ["a2"]]


# --- what is told of single records ----------------------------------------------------------------------------------


@pytest.mark.fault("F23")
async def test_exactly_what_was_not_taken_is_told() -> None:
    assert await failures(batch_of("a", "b", "c"), Target(rejecting("b1"))) == {"b1": ("failed", "no luck")}


async def test_later_changes_of_an_item_wait_for_the_one_that_was_not_taken() -> None:
    target = Target(rejecting("a1"))
    told = await failures(batch_of("a", "b", "a", "b", "a"), target)
    behind = ("waiting", "behind a change of the same item that was not written")
    assert told == {"a1": ("failed", "no luck"), "a2": behind, "a3": behind}
    assert target.requests == [["a1", "b1"], ["b2"]]


async def test_failures_are_told_in_the_order_of_the_batch() -> None:
    told = await failures(batch_of("a", "b", "a", "c"), Target(rejecting("a1", "c1")))
    assert list(told) == ["a1", "a2", "c1"]


@pytest.mark.fault("F12")
async def test_a_record_that_is_too_large_is_refused_and_not_sent() -> None:
    target = Target()
    with pytest.raises(RecordsFailedError) as caught:
        await write_in_requests(
            batch_of("a", "b", "b"),
            encode=lambda record: (content(record), 501 if content(record) == "b1" else 500),
            send=target.send,
            capabilities=Capabilities(order="key", idempotence="none", record_bytes_max=500),
        )
    told = [(content(each.record), each.kind, each.reason) for each in caught.value.failures]
    assert told == [
        ("b1", "refused", "it has 501 bytes, and the target takes 500"),
        ("b2", "waiting", "behind a change of the same item that was not written"),
    ]
    assert target.requests == [["a1"]]


@pytest.mark.parametrize(
    "error",
    [
        RecordRefusedError("the target has no sets"),
        MalformedRecordError(shard_id="shard", sequence_number="1", reason="no keys"),
    ],
)
async def test_what_encoding_refuses_is_refused_and_holds_back_its_item_only(error: Exception) -> None:
    def encode(record: Record) -> tuple[str, int]:
        if content(record) == "a1":
            raise error
        return content(record), 1

    target = Target()
    with pytest.raises(RecordsFailedError) as caught:
        await write_in_requests(
            batch_of("a", "b", "a"),
            encode=encode,
            send=target.send,
            capabilities=Capabilities(order="key", idempotence="none"),
        )
    assert [(content(each.record), each.kind) for each in caught.value.failures] == [
        ("a1", "refused"),
        ("a2", "waiting"),
    ]
    assert caught.value.failures[0].reason == str(error)
    assert target.requests == [["b1"]]


async def test_where_no_order_is_promised_nothing_is_held_back() -> None:
    target = Target(rejecting("a1"))
    assert list(await failures(batch_of("a", "a"), target, order="none")) == ["a1"]


async def test_another_error_of_encoding_is_a_bug_and_comes_as_it_is() -> None:
    def encode(record: Record) -> tuple[str, int]:
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        await write_in_requests(
            batch_of("a"), encode=encode, send=Target().send, capabilities=Capabilities(order="key", idempotence="none")
        )


# --- what is told of whole requests ----------------------------------------------------------------------------------


async def test_a_request_that_fails_fails_its_records_and_no_others() -> None:
    target = Target(raising({"c1": ConnectionError("reset")}))
    told = await failures(batch_of("a", "b", "c", "d"), target, request_records_max=2)
    assert told == {"c1": ("failed", "ConnectionError: reset"), "d1": ("failed", "ConnectionError: reset")}


async def test_a_target_that_asks_for_a_pause_is_waited_for_as_long_as_the_longest_says() -> None:
    errors = {"a1": SinkBusyError("slow down", retry_after_s=7.0), "b1": SinkBusyError("stop", retry_after_s=2.0)}
    with pytest.raises(RecordsFailedError) as caught:
        await write(batch_of("a", "b", "c"), Target(raising(dict(errors))), request_records_max=1)
    assert [(content(each.record), each.kind, each.reason) for each in caught.value.failures] == [
        ("a1", "waiting", "slow down"),
        ("b1", "waiting", "stop"),
    ]
    assert caught.value.retry_after_s == 7.0


@pytest.mark.parametrize(
    "error", [ConnectionError("reset"), SinkBusyError("slow down", retry_after_s=2.0)], ids=["failed", "busy"]
)
async def test_where_nothing_was_written_for_one_reason_that_is_raised_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        await write(batch_of("a", "b", "a"), Target(raising({"a1": error, "b1": error})))
    assert caught.value is error


async def test_of_several_pauses_the_longest_is_kept() -> None:
    errors: dict[str, Exception] = {
        entry: SinkBusyError("slow down", retry_after_s=after) for entry, after in (("a1", 1.0), ("b1", 5.0))
    }
    with pytest.raises(SinkBusyError) as caught:
        await write(batch_of("a", "b"), Target(raising(errors)), request_records_max=1)
    assert caught.value.retry_after_s == 5.0


async def test_a_pause_and_a_failure_that_say_the_same_are_two_reasons() -> None:
    errors: dict[str, Exception] = {"a1": SinkBusyError("no", retry_after_s=1.0), "b1": ConnectionError("no")}
    told = await failures(batch_of("a", "b"), Target(raising(errors)), request_records_max=1)
    assert told == {"a1": ("waiting", "no"), "b1": ("failed", "ConnectionError: no")}


async def test_where_nothing_was_written_for_two_reasons_each_record_is_told_its_own() -> None:
    errors: dict[str, Exception] = {"a1": ConnectionError("reset"), "b1": TimeoutError("late")}
    told = await failures(batch_of("a", "b"), Target(raising(errors)), request_records_max=1)
    assert told == {"a1": ("failed", "ConnectionError: reset"), "b1": ("failed", "TimeoutError: late")}


async def test_a_record_that_failed_by_itself_is_told_beside_a_request_that_asks_for_a_pause() -> None:
    """Else what failed would come again at no cost, for ever."""

    async def answer(sent: Sequence[str]) -> list[Rejection | None]:
        await anyio.lowlevel.checkpoint()
        if "b1" in sent:
            raise SinkBusyError("slow down", retry_after_s=2.0)
        return [FAILED]

    told = await failures(batch_of("a", "b"), Target(answer), request_records_max=1)
    assert told == {"a1": ("failed", "no luck"), "b1": ("waiting", "slow down")}


async def test_a_refused_record_is_told_where_nothing_else_was_written_either() -> None:
    def encode(record: Record) -> tuple[str, int]:
        if content(record) == "a1":
            raise RecordRefusedError("never")
        return content(record), 1

    with pytest.raises(RecordsFailedError) as caught:
        await write_in_requests(
            batch_of("a", "b"),
            encode=encode,
            send=Target(raising({"b1": ConnectionError("reset")})).send,
            capabilities=Capabilities(order="key", idempotence="none"),
        )
    assert [each.kind for each in caught.value.failures] == ["refused", "failed"]


async def test_what_the_target_refuses_as_a_whole_is_told_record_by_record() -> None:
    told = await failures(batch_of("a", "b"), Target(rejecting("a1", "b1", rejection=REFUSED)))
    assert told == {"a1": ("refused", "never"), "b1": ("refused", "never")}


@pytest.mark.parametrize("request_records_max", [1, None], ids=["side by side", "alone"])
async def test_a_newer_owner_ends_everything(request_records_max: int | None) -> None:
    fenced = FencedError("a newer owner has written")
    target = Target(raising({"a1": fenced}))
    with pytest.raises(FencedError) as caught:
        await write(batch_of("a", "b", "a", "b"), target, request_records_max=request_records_max)
    assert caught.value is fenced
    assert not any("a2" in request or "b2" in request for request in target.requests)


@pytest.mark.fault("F21")
async def test_an_answer_for_another_number_of_entries_is_a_bug_of_the_sink() -> None:
    async def answer(sent: Sequence[str]) -> list[Rejection | None]:
        await anyio.lowlevel.checkpoint()
        return [None]

    with pytest.raises(ValueError, match="shorter"):
        await write(batch_of("a", "b"), Target(answer))


async def test_a_write_that_is_cancelled_cancels_its_requests() -> None:
    target = Target(lambda _: anyio.sleep_forever())
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, batch_of("a", "b"), target)
            await anyio.wait_all_tasks_blocked()
            assert target.open_now == 1
            scope.cancel()
    assert target.open_now == 0
