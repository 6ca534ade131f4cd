"""The dead letters of the state store as a destination."""

from __future__ import annotations

import pytest

from discards import DISCARDED_AT_S, SHARD, STREAM_ARN, discarded, raw_record, record
from streamflow.dead_letters import DeadLetter, LetterQuery
from streamflow.destinations.letters import LettersDestination
from streamflow.errors import StoreError
from streamflow.stores.memory import MemoryStore

pytestmark = pytest.mark.anyio

DEAD = LetterQuery(drawer="dead")


async def test_each_record_is_kept_whole_with_reason_error_count_and_time() -> None:
    store = MemoryStore()
    first, second = record(0), record(1)
    await LettersDestination(store).send(discarded([first, second], error=ValueError("no such currency")))
    found = await store.letters(DEAD)
    assert [letter.record for letter in found] == [first.raw, second.raw]
    assert found[0] == DeadLetter(
        pipeline="orders",
        stream_arn=STREAM_ARN,
        shard_id=SHARD.shard_id,
        sequence_number=first.sequence_number,
        item_key='{"id":{"S":"1"}}',
        record=first.raw,
        reason="RetryAttemptsExhausted",
        error_type="ValueError",
        error_text="no such currency",
        invoke_count=2,
        kept_at_s=DISCARDED_AT_S,
        id=found[0].id,
    )


async def test_a_record_that_nobody_was_invoked_with_has_no_error() -> None:
    store = MemoryStore()
    await LettersDestination(store).send(discarded(condition="RecordAgeExceeded", invoke_count=1))
    (found,) = await store.letters(DEAD)
    assert (found.reason, found.error_type, found.error_text) == ("RecordAgeExceeded", "", "")


async def test_a_repeated_send_makes_no_second_letter() -> None:
    store = MemoryStore()
    destination = LettersDestination(store)
    await destination.send(discarded())
    await destination.send(discarded(invoke_count=5))
    (found,) = await store.letters(DEAD)
    assert found.invoke_count == 5


async def test_a_record_that_cannot_be_read_is_kept_as_it_is() -> None:
    store = MemoryStore()
    await LettersDestination(store).send(discarded([raw_record(b"\xff?")]))
    (found,) = await store.letters(DEAD)
    assert found.record == b"\xff?"
    assert found.sequence_number.startswith("sha256:")


class BrokenStore(MemoryStore):
    async def keep(self, letters: object) -> None:
        raise StoreError("the disk is full")


async def test_a_final_invocation_has_nothing_to_keep() -> None:
    await LettersDestination(BrokenStore()).send(discarded([]))


async def test_a_store_that_fails_is_told_as_it_is() -> None:
    with pytest.raises(StoreError, match="the disk is full"):
        await LettersDestination(BrokenStore()).send(discarded())


def test_its_name_is_that_of_the_declaration() -> None:
    assert LettersDestination(MemoryStore()).name == "dead_letters"
