"""What every dead-letter store keeps, whoever wrote it: a test class to inherit from.

It asks for a fixture `store`, empty, and for `rival`: a second way to the same letters, which may be the same object.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import anyio
import pytest

from streamflow.dead_letters import DeadLetter, LetterQuery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.dead_letters import Drawer
    from streamflow.protocols import DeadLetterStore

STREAM_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
DEAD, PARKED = LetterQuery(drawer="dead"), LetterQuery(drawer="parked")
FOLLOWERS = 8

ODD_TEXTS = [
    "",
    'it\'s "quoted"; DROP TABLE streamflow_letters --',
    "ключ · 鍵 · 🗝 · e\u0301",
    "before\0after",
    '{"id":{"S":"\\u0000 \\ud83d\\udddd"}}',
    "% _ ? :name \\ \r\n\t",
]
ODD_RECORDS = [
    b"",
    bytes(range(256)),
    b'{"dynamodb":{"Keys":{"id":{"B":"AP8="}}}}',
    b'{"text":"it\'s \\"so\\" \\u0000 \\ud800"}',
    "{“🗝”}".encode() + b"\xff\xfe",
]


def key_of(name: str) -> str:
    return f'{{"id":{{"S":"{name}"}}}}'


def letter(number: int, key: str = "a", **changes: object) -> DeadLetter:
    made = DeadLetter(
        pipeline="orders",
        stream_arn=STREAM_ARN,
        shard_id="shardId-1",
        sequence_number=str(10**20 + number),
        item_key=key_of(key),
        record=b'{"number":%d}' % number,
        reason="RetryAttemptsExhausted",
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # whatever the test names


def without_ids(letters: Sequence[DeadLetter]) -> list[DeadLetter]:
    return [replace(kept, id=0) for kept in letters]


def ids_of(letters: Sequence[DeadLetter]) -> list[int]:
    return [kept.id for kept in letters]


class DeadLetterStoreContract:
    pytestmark = pytest.mark.anyio

    letters_many = 10_000
    """How many letters the store is filled with."""
    rounds = 20
    """How often letters of a key are parked while it is healed; less often where rivals are also made to meet."""

    # -- letters --------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("drawer", ["dead", "parked"])
    async def test_an_empty_drawer_has_no_letters(self, store: DeadLetterStore, drawer: Drawer) -> None:
        await store.keep([])
        assert await store.park([]) == await store.park([], opening=True) == frozenset()
        assert list(await store.letters(LetterQuery(drawer=drawer))) == []
        assert await store.count(LetterQuery(drawer=drawer)) == 0
        assert await store.remove(drawer, []) == await store.remove(drawer, [1, 2]) == 0
        assert await store.parked_keys("orders", STREAM_ARN) == frozenset()

    async def test_every_field_comes_back_equal(self, store: DeadLetterStore) -> None:
        full = letter(
            1,
            reason="RecordAgeExceeded",
            error_type="ValueError",
            error_text="no such currency: ¤",
            invoke_count=2**40,
            kept_at_s=1_764_000_000.123456,
        )
        await store.keep([full])
        await store.park([full], opening=True)
        for query in (DEAD, PARKED):
            (kept,) = await store.letters(query)
            assert kept.id > 0
            assert kept == replace(full, id=kept.id)

    @pytest.mark.parametrize("text", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
    async def test_any_text_comes_back_equal_and_is_found(self, store: DeadLetterStore, text: str) -> None:
        odd = letter(
            1,
            pipeline=text,
            stream_arn=text,
            shard_id=text,
            sequence_number=text,
            item_key=text,
            reason=text,
            error_type=text,
            error_text=text,
        )
        query = LetterQuery(drawer="dead", pipeline=text, stream_arn=text, shard_id=text, item_key=text)
        await store.keep([odd, letter(2)])
        assert await store.park([odd], opening=True) == {text}
        assert without_ids(await store.letters(query)) == [odd]
        assert without_ids(await store.letters(replace(query, drawer="parked"))) == [odd]
        assert await store.parked_keys(text, text) == ({text} if text else frozenset())

    @pytest.mark.parametrize("record", ODD_RECORDS, ids=range(len(ODD_RECORDS)))
    async def test_the_bytes_of_a_record_come_back_equal(self, store: DeadLetterStore, record: bytes) -> None:
        await store.keep([letter(1, record=record)])
        (kept,) = await store.letters(DEAD)
        assert kept.record == record
        assert type(kept.record) is bytes

    # -- ids ------------------------------------------------------------------------------------------------------------

    async def test_ids_grow_in_the_order_of_keeping(self, store: DeadLetterStore) -> None:
        await store.keep([letter(9), letter(3), letter(5, "b")])
        await store.park([letter(8), letter(2)], opening=True)
        await store.keep([letter(1)])
        dead, parked = await store.letters(DEAD), await store.letters(PARKED)
        assert without_ids(dead) == [letter(9), letter(3), letter(5, "b"), letter(1)]
        assert without_ids(parked) == [letter(8), letter(2)]
        order = [*dead[:3], *parked, dead[3]]
        assert ids_of(order) == sorted(set(ids_of(order)))

    async def test_the_id_of_a_removed_letter_is_never_used_again(self, store: DeadLetterStore) -> None:
        await store.keep([letter(1), letter(2)])
        first, last = ids_of(await store.letters(DEAD))
        assert await store.remove("dead", [first, last]) == 2
        await store.keep([letter(1), letter(2)])
        assert min(ids_of(await store.letters(DEAD))) > last

    async def test_a_record_kept_again_keeps_its_id_and_takes_the_new_facts(self, store: DeadLetterStore) -> None:
        await store.keep([letter(1), letter(2), letter(3)])
        before = await store.letters(DEAD)
        again = letter(
            1,
            reason="RecordAgeExceeded",
            error_type="TimeoutError",
            error_text="too late",
            invoke_count=7,
            kept_at_s=1_764_000_000.5,
        )
        await store.keep([again, letter(4)])
        kept = await store.letters(DEAD)
        assert kept[0] == replace(again, id=before[0].id)
        assert list(kept[1:3]) == list(before[1:])
        assert without_ids(kept[3:]) == [letter(4)]
        assert kept[3].id > before[2].id

    async def test_the_id_that_comes_with_a_letter_means_nothing(self, store: DeadLetterStore) -> None:
        await store.keep([letter(1, id=77), letter(2, id=77)])
        one, two = ids_of(await store.letters(DEAD))
        await store.keep([letter(1, id=two)])
        assert ids_of(await store.letters(DEAD)) == [one, two]

    async def test_a_repetition_after_a_lost_answer_changes_nothing(self, store: DeadLetterStore) -> None:
        letters = [letter(number, key) for number, key in enumerate("abca")]
        await store.keep(letters)
        taken = await store.park(letters, opening=True)
        before = (await store.letters(DEAD), await store.letters(PARKED))
        await store.keep(letters)
        assert await store.park(letters, opening=True) == await store.park(letters) == taken
        assert (await store.letters(DEAD), await store.letters(PARKED)) == before

    async def test_of_a_record_twice_in_one_call_the_later_facts_count(self, store: DeadLetterStore) -> None:
        await store.keep([letter(1, invoke_count=1), letter(2), letter(1, invoke_count=2)])
        assert without_ids(await store.letters(DEAD)) == [letter(1, invoke_count=2), letter(2)]

    # -- asking ---------------------------------------------------------------------------------------------------------

    async def test_restrictions_hold_alone_and_together(self, store: DeadLetterStore) -> None:
        places = product(("orders", "Orders"), (STREAM_ARN, STREAM_ARN + "1"), ("shardId-1", "shardId-2"), "ab")
        letters = [
            letter(number, key, pipeline=pipeline, stream_arn=stream_arn, shard_id=shard_id)
            for number, (pipeline, stream_arn, shard_id, key) in enumerate(places)
        ]
        await store.keep(letters)
        await store.park(letters[::2], opening=True)
        for query in (DEAD, PARKED):
            present = await store.letters(query)
            assert without_ids(present) == (letters if query is DEAD else letters[::2])
            chosen = tuple(ids_of(present)[1::3])
            for on in product((False, True), repeat=6):
                asked = replace(
                    query,
                    pipeline="orders" if on[0] else None,
                    stream_arn=STREAM_ARN if on[1] else None,
                    shard_id="shardId-2" if on[2] else None,
                    item_key=key_of("a") if on[3] else None,
                    ids=chosen if on[4] else (),
                    after_id=present[1].id if on[5] else 0,
                )
                expected = [
                    kept
                    for kept in present
                    if (not on[0] or kept.pipeline == "orders")
                    and (not on[1] or kept.stream_arn == STREAM_ARN)
                    and (not on[2] or kept.shard_id == "shardId-2")
                    and (not on[3] or kept.item_key == key_of("a"))
                    and (not on[4] or kept.id in chosen)
                    and (not on[5] or kept.id > present[1].id)
                ]
                assert list(await store.letters(asked)) == expected, asked
                assert await store.count(asked) == len(expected), asked

    async def test_an_empty_text_restricts_and_none_does_not(self, store: DeadLetterStore) -> None:
        keyless = letter(1, item_key="")
        await store.keep([keyless, letter(2)])
        assert without_ids(await store.letters(replace(DEAD, item_key=""))) == [keyless]
        assert await store.count(replace(DEAD, pipeline="")) == 0

    async def test_ids_of_the_other_drawer_and_of_nobody_find_nothing(self, store: DeadLetterStore) -> None:
        await store.keep([letter(1), letter(2)])
        await store.park([letter(3)], opening=True)
        (parked,) = await store.letters(PARKED)
        one, two = await store.letters(DEAD)
        asked = replace(DEAD, ids=(two.id, parked.id, one.id, one.id, 0, -1, 2**62, 2**70))
        assert list(await store.letters(asked)) == [one, two]
        assert await store.count(asked) == 2

    @pytest.mark.parametrize(("limit", "found"), [(0, 0), (-1, 0), (1, 1), (3, 3), (4, 3), (2**70, 3)])
    async def test_a_limit_is_what_is_found_at_most_and_is_not_counted(
        self, store: DeadLetterStore, limit: int, found: int
    ) -> None:
        letters = [letter(number) for number in range(3)]
        await store.keep(letters)
        asked = replace(DEAD, limit=limit)
        assert without_ids(await store.letters(asked)) == letters[:found]
        assert await store.count(asked) == 3

    @pytest.mark.parametrize("after_id", [2**62, 2**70])
    async def test_after_every_id_there_is_nothing(self, store: DeadLetterStore, after_id: int) -> None:
        await store.keep([letter(1)])
        assert list(await store.letters(replace(DEAD, after_id=after_id))) == []
        assert await store.count(replace(DEAD, after_id=after_id)) == 0

    @pytest.mark.parametrize("pipeline", [None, "orders"])
    async def test_1250_letters_come_in_pages(self, store: DeadLetterStore, pipeline: str | None) -> None:
        letters = [letter(number) for number in range(1_250)]
        foreign = [letter(number, pipeline="other") for number in range(1_250)] if pipeline else []
        for start in range(0, 1_250, 50):  # mixed, so that a page passes over what it does not want
            await store.keep([*letters[start : start + 50], *foreign[start : start + 50]])
        by_default = replace(DEAD, pipeline=pipeline)
        for query, expected in ((by_default, [1_000, 250]), (replace(by_default, limit=500), [500, 500, 250])):
            found: list[DeadLetter] = []
            sizes: list[int] = []
            while page := await store.letters(replace(query, after_id=found[-1].id if found else 0)):
                found += page
                sizes.append(len(page))
                assert await store.count(replace(query, after_id=page[-1].id)) == 1_250 - len(found)
            assert sizes == expected
            assert without_ids(found) == letters
            assert ids_of(found) == sorted(set(ids_of(found)))

    async def test_many_letters_are_kept_found_and_removed(self, store: DeadLetterStore) -> None:
        keys = min(1_000, self.letters_many // 2)
        letters = [letter(number, str(number % keys)) for number in range(self.letters_many)]
        await store.keep(letters)
        assert await store.park(letters[:keys], opening=True) == {key_of(str(number)) for number in range(keys)}
        assert len(await store.park(letters[keys:])) == keys
        for query in (DEAD, PARKED):
            found = await store.letters(replace(query, limit=2 * self.letters_many))
            assert without_ids(found) == letters
            chosen = tuple(ids_of(found))
            assert await store.count(replace(query, ids=chosen)) == self.letters_many
            assert await store.remove(query.drawer, chosen) == self.letters_many
            assert await store.count(query) == 0

    # -- parking --------------------------------------------------------------------------------------------------------

    async def test_without_opening_only_letters_of_parked_keys_are_taken(self, store: DeadLetterStore) -> None:
        assert await store.park([letter(1, "a"), letter(2, "b")]) == frozenset()
        assert await store.park([letter(1, "a"), letter(2, "b")], opening=True) == {key_of("a"), key_of("b")}
        mixed = [letter(number, key) for number, key in enumerate("cabadb", start=3)]
        assert await store.park(mixed) == {key_of("a"), key_of("b")}
        parked = without_ids(await store.letters(PARKED))
        assert parked == [letter(1, "a"), letter(2, "b"), *(one for one in mixed if one.item_key in map(key_of, "ab"))]

    async def test_a_letter_does_not_open_its_key_for_the_next_of_the_same_call(self, store: DeadLetterStore) -> None:
        await store.park([letter(1, "a")], opening=True)
        assert await store.park([letter(2, "b"), letter(3, "a"), letter(4, "b")]) == {key_of("a")}
        assert await store.parked_keys("orders", STREAM_ARN) == {key_of("a")}

    async def test_dead_letters_park_no_key(self, store: DeadLetterStore) -> None:
        await store.keep([letter(1)])
        assert await store.parked_keys("orders", STREAM_ARN) == frozenset()
        assert await store.park([letter(2)]) == frozenset()
        assert await store.count(PARKED) == 0

    async def test_a_key_is_parked_until_its_last_letter_is_removed(self, store: DeadLetterStore) -> None:
        await store.park([letter(1, "a"), letter(2, "a"), letter(3, "b")], opening=True)
        first, second, _ = ids_of(await store.letters(PARKED))
        await store.remove("parked", [first])
        assert await store.parked_keys("orders", STREAM_ARN) == {key_of("a"), key_of("b")}
        await store.remove("parked", [second])
        assert await store.parked_keys("orders", STREAM_ARN) == {key_of("b")}
        assert await store.park([letter(4, "a"), letter(5, "b")]) == {key_of("b")}

    async def test_pipelines_and_streams_do_not_see_each_others_letters(self, store: DeadLetterStore) -> None:
        others = [
            letter(1, pipeline="Orders"),
            letter(1, stream_arn=STREAM_ARN + "1"),
            letter(1, pipeline="orders\0"),
        ]
        await store.park([letter(1)], opening=True)
        for other in others:
            assert await store.parked_keys(other.pipeline, other.stream_arn) == frozenset()
            assert await store.park([other]) == frozenset()
        await store.park(others, opening=True)
        assert await store.count(PARKED) == 4
        for one in (letter(1), *others):
            asked = replace(PARKED, pipeline=one.pipeline, stream_arn=one.stream_arn)
            (found,) = await store.letters(asked)
            assert replace(found, id=0) == one
            await store.remove("parked", [found.id])
            assert await store.parked_keys(one.pipeline, one.stream_arn) == frozenset()

    async def test_one_sequence_number_in_two_shards_is_two_records(self, store: DeadLetterStore) -> None:
        await store.keep([letter(1), letter(1, shard_id="shardId-2")])
        assert await store.count(DEAD) == 2

    async def test_a_record_whose_key_cannot_be_read_never_counts_as_parked(self, store: DeadLetterStore) -> None:
        keyless = letter(1, item_key="")
        assert await store.park([keyless], opening=True) == {""}  # nothing is lost that somebody wants to be kept
        assert await store.parked_keys("orders", STREAM_ARN) == frozenset()
        assert await store.park([letter(2, item_key="")]) == frozenset()
        assert without_ids(await store.letters(PARKED)) == [keyless]

    async def test_nobody_parks_a_record_behind_the_last_letter_of_its_key(
        self, store: DeadLetterStore, rival: DeadLetterStore
    ) -> None:
        async def follow(number: int, answers: dict[int, frozenset[str]]) -> None:
            for step in range(4):
                which = number * 10 + step
                letters = [letter(which, "a"), letter(which + 5_000, "never parked"), letter(which + 9_000, "b")]
                answers[which] = await rival.park(letters)

        async def heal(removed: list[DeadLetter]) -> None:
            while letters := await store.letters(replace(PARKED, item_key=key_of("a"))):
                assert await store.remove("parked", ids_of(letters)) == len(letters)
                removed.extend(letters)

        for round_number in range(self.rounds):
            answers: dict[int, frozenset[str]] = {}
            removed: list[DeadLetter] = []
            opener = letter(20_000 + round_number, "a")
            await store.park([opener, letter(30_000, "b")], opening=True)
            async with anyio.create_task_group() as tasks:
                for number in range(1, FOLLOWERS + 1):
                    tasks.start_soon(follow, number, answers)
                tasks.start_soon(heal, removed)
            # Whoever healed the key saw it empty: what came later found it not parked any more.
            assert await store.count(replace(PARKED, item_key=key_of("a"))) == 0
            assert await store.count(replace(PARKED, item_key=key_of("never parked"))) == 0
            followers = sorted(
                letter(which, "a").sequence_number for which, taken in answers.items() if len(taken) == 2
            )
            assert sorted(one.sequence_number for one in removed) == sorted([*followers, opener.sequence_number])
            assert all(taken - {key_of("a")} == {key_of("b")} for taken in answers.values())
            assert await store.count(replace(PARKED, item_key=key_of("b"))) == 1 + len(answers)
            left = await store.letters(PARKED)
            await store.remove("parked", ids_of(left))

    # -- removing -------------------------------------------------------------------------------------------------------

    async def test_removing_counts_what_was_there_in_its_drawer(self, store: DeadLetterStore) -> None:
        await store.keep([letter(1), letter(2)])
        await store.park([letter(1), letter(3)], opening=True)
        dead, parked = ids_of(await store.letters(DEAD)), ids_of(await store.letters(PARKED))
        assert await store.remove("parked", dead) == 0
        assert await store.remove("dead", [dead[0], dead[0], parked[0], 0, -1, 2**62, 2**70]) == 1
        assert await store.remove("dead", [dead[0]]) == 0
        assert ids_of(await store.letters(DEAD)) == dead[1:]
        assert ids_of(await store.letters(PARKED)) == parked

    async def test_a_record_may_be_in_both_drawers_with_its_own_facts(self, store: DeadLetterStore) -> None:
        await store.park([letter(1, reason="KeyParked")], opening=True)
        await store.keep([letter(1, invoke_count=3)])
        assert without_ids(await store.letters(PARKED)) == [letter(1, reason="KeyParked")]
        assert without_ids(await store.letters(DEAD)) == [letter(1, invoke_count=3)]
        (parked,) = ids_of(await store.letters(PARKED))
        assert await store.remove("parked", [parked]) == 1
        assert await store.count(DEAD) == 1
