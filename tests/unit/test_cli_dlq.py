"""`streamflow dlq` on a SQLite file."""

from __future__ import annotations

import json

import anyio
import msgspec
import pytest

from kept import STORE, STREAM_ARN, Command, Kept, command, kept, record
from streamflow.engine.redrive_claim import claimed
from streamflow.plugins import open_store
from streamflow.records import Record, Shard

__all__ = ["command", "kept"]

FROM_STORE = ("--store", STORE)


def ids_of(listed: str) -> list[int]:
    return [json.loads(line)["id"] for line in listed.splitlines()]


# --- list ------------------------------------------------------------------------------------------------------------


def test_list_is_a_table_without_data(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1), record("b", 2, shard="shard-1"))
    out, err = command("dlq", "list", *FROM_STORE)
    titles, first, second = out.splitlines()
    assert titles.split("  ")[0] == "id"
    expected = [
        "1",
        "2025-11-24T16:00:00Z",
        "orders",
        "shard-0",
        f"{1:021}",
        "RetryAttemptsExhausted",
        "ValueError",
        "3",
    ]
    assert first.split() == [*expected, '{"id":{"S":"a"}}']
    assert second.startswith("2 ")
    assert titles.index("item key") == first.index('{"id"')
    assert "secret" not in out + err


def test_list_as_json_is_an_object_a_line_without_data(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1))
    out, _ = command("dlq", "list", *FROM_STORE, "--json")
    assert json.loads(out) == {
        "id": 1,
        "kept_at": "2025-11-24T16:00:00Z",
        "pipeline": "orders",
        "stream_arn": STREAM_ARN,
        "shard_id": "shard-0",
        "sequence_number": f"{1:021}",
        "reason": "RetryAttemptsExhausted",
        "error_type": "ValueError",
        "attempts": 3,
        "item_key": '{"id":{"S":"a"}}',
    }


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ((), [1, 2, 3, 4]),
        (("--pipeline", "audit"), [4]),
        (("--shard", "shard-1"), [2]),
        (("--key", ' { "id" : {"S": "a"} } '), [1, 3]),
        (("--id", "2", "--id", "4"), [2, 4]),
        (("--pattern", '{"eventName": ["INSERT"]}'), [1, 4]),
        (("--pattern", '{"dynamodb": {"NewImage": {"version": {"N": [{"numeric": [">", 2]}]}}}}'), [3]),
        (("--key", '{"id": {"S": "a"}}', "--pattern", '{"eventName": ["INSERT"]}'), [1]),
        (("--limit", "2"), [1, 2]),
    ],
)
def test_options_choose(kept: Kept, command: Command, options: tuple[str, ...], ids: list[int]) -> None:
    kept.keep(record("a", 1), record("b", 2, shard="shard-1"), record("a", 3))
    kept.keep(record("c", 1), pipeline="audit")
    out, _ = command("dlq", "list", *FROM_STORE, *options, "--json")
    assert ids_of(out) == ids


def test_a_key_of_two_attributes_is_found_in_any_order(kept: Kept, command: Command) -> None:
    keys = {"pk": {"S": "é"}, "sk": {"N": "7"}}
    change = {"eventName": "INSERT", "dynamodb": {"Keys": keys, "SequenceNumber": "1"}}
    kept.keep(Record(msgspec.Raw(json.dumps(change).encode()), Shard(stream_arn=STREAM_ARN, shard_id="shard-0")))
    for text in ('{"sk": {"N": "7"}, "pk": {"S": "é"}}', '{"pk": {"S": "\\u00e9"}, "sk": {"N": "7"}}'):
        out, _ = command("dlq", "list", *FROM_STORE, "--key", text, "--json")
        assert ids_of(out) == [1]


def test_list_says_that_there_is_more(kept: Kept, command: Command) -> None:
    kept.keep(*(record("a", version) for version in range(1, 4)))
    assert "there are more" in command("dlq", "list", *FROM_STORE, "--limit", "2")[1]
    assert command("dlq", "list", *FROM_STORE, "--limit", "3")[1] == ""


def test_file_stands_for_its_store_and_its_pipelines(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1))
    kept.keep(record("a", 1), pipeline="audit")
    kept.keep(record("a", 1), pipeline="another")
    assert ids_of(command("dlq", "list", "app.py:one", "--json")[0]) == [1]
    assert ids_of(command("dlq", "list", "app.py:two", "--json")[0]) == [1, 2]
    assert ids_of(command("dlq", "list", "app.py:two", "--pipeline", "audit", "--json")[0]) == [2]
    assert ids_of(command("dlq", "list", "app.py:new", *FROM_STORE, "--json")[0]) == [1]


def test_nothing_is_told_kindly(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1), drawer="parked")
    for arguments in (("list",), ("purge", "--all")):
        assert command("dlq", *arguments, *FROM_STORE) == ("", "there are no such dead letters\n")
    assert command("dlq", "redrive", "app.py:one") == ("", "there are no such dead letters of orders\n")


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\n1  forged", "\u202e", "\x85"])
def test_nothing_in_a_letter_moves_the_cursor(kept: Kept, command: Command, hostile: str) -> None:
    kept.keep(record(f"a{hostile}", 1, text=hostile), error=ValueError(f"no {hostile}"))
    for arguments in (("list",), ("show", "1")):
        out, _ = command("dlq", *arguments, *FROM_STORE)
        assert all(line.isprintable() for line in out.split("\n"))
    assert len(command("dlq", "list", *FROM_STORE)[0].splitlines()) == 2


def test_a_long_key_is_shortened_in_the_table_only(kept: Kept, command: Command) -> None:
    kept.keep(record("k" * 500, 1))
    line = command("dlq", "list", *FROM_STORE)[0].splitlines()[1]
    assert line.endswith("k…")
    assert "k" * 500 in command("dlq", "list", *FROM_STORE, "--json")[0]


@pytest.mark.parametrize("arguments", [("list",), ("purge", "--all", "--yes"), ("show", "1")])
def test_a_store_that_is_not_there_is_told_and_not_made(
    kept: Kept, command: Command, arguments: tuple[str, ...]
) -> None:
    _, err = command("dlq", *arguments, "--store", "sqlite:///new.db", code=2)
    assert err == "error: store: there is no file new.db: nothing has run with it yet\n"
    assert not (kept.folder / "new.db").exists()
    assert "has nothing to show" in command("dlq", *arguments, "--store", "memory:", code=2)[1]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--key", "a"), "--key: 'a' is no key in DynamoDB's JSON"),
        (("--key", '{"id": "a"}'), "is no key in DynamoDB's JSON"),
        (("--pattern", "{"), "error: --pattern: Invalid filter pattern definition."),
        (("--id", "0"), "--id"),
    ],
)
def test_a_wrong_choice_is_told(kept: Kept, command: Command, options: tuple[str, str], told: str) -> None:
    kept.keep(record("a", 1))
    assert told in command("dlq", "list", *FROM_STORE, *options, code=2)[1]


def test_where_letters_are_must_be_said(command: Command) -> None:
    assert "Name a FILE, or the store by --store" in command("dlq", "list", code=2)[1]


def test_a_pipeline_that_the_file_does_not_have_is_told(kept: Kept, command: Command) -> None:
    _, err = command("dlq", "list", "app.py:two", "--pipeline", "order", code=2)
    assert err == "error: --pipeline: app.py:two has no 'order', but orders, audit\n"
    assert kept.delivered == []


# --- show ------------------------------------------------------------------------------------------------------------


def test_show_has_the_error_and_the_whole_record(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1, text="é"), error=ValueError("first line\nsecond line"))
    out, _ = command("dlq", "show", "1", *FROM_STORE)
    head, _, shown = out.partition("\nrecord\n")
    assert "error            first line\n                 second line" in head
    assert f"sequence number  {1:021}\n" in head
    assert json.loads(shown) == json.loads(record("a", 1, text="é").raw)
    assert '"S": "é"' in shown


def test_show_as_json_is_one_object(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1), drawer="parked")
    found = json.loads(command("dlq", "show", "1", *FROM_STORE, "--json")[0])
    assert (found["drawer"], found["error"], found["record"]["eventID"]) == ("parked", "secret of an item", "a-1")


def test_show_of_a_record_that_is_no_json_shows_it_as_it_is(kept: Kept, command: Command) -> None:
    kept.keep(Record(msgspec.Raw(b'{"broken": \xff'), Shard(stream_arn=STREAM_ARN, shard_id="shard-0")))
    out, _ = command("dlq", "show", "1", *FROM_STORE)
    assert out.endswith('record\n{"broken": \\xff\n')
    assert json.loads(command("dlq", "show", "1", *FROM_STORE, "--json")[0])["record"] == '{"broken": \\xff'


def test_show_of_a_record_that_is_nested_beyond_reason_shows_it_as_it_is(kept: Kept, command: Command) -> None:
    kept.keep(Record(msgspec.Raw(b"[" * 5_000), Shard(stream_arn=STREAM_ARN, shard_id="shard-0")))
    out, *_ = command("dlq", "show", "1", *FROM_STORE)
    assert out.endswith("record\n" + "[" * 5_000 + "\n")


def test_show_of_nothing_exits_with_1(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1))
    assert command("dlq", "show", "2", *FROM_STORE, code=1) == ("", "there is no letter 2\n")


# --- purge -----------------------------------------------------------------------------------------------------------


def test_purge_must_be_told_what(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1))
    assert "Say which ones, or --all." in command("dlq", "purge", "app.py:one", "--yes", code=2)[1]
    assert kept.left_ids() == [1]


def test_purge_deletes_what_was_chosen_and_nothing_else(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1), record("b", 2), record("a", 3))
    kept.keep(record("a", 4), pipeline="audit")
    kept.keep(record("a", 5), drawer="parked")
    out, _ = command("dlq", "purge", *FROM_STORE, "--key", '{"id": {"S": "a"}}', "--pipeline", "orders", "--yes")
    assert out == "2 dead letters deleted\n"
    assert kept.left_ids() == [2, 4]
    command("dlq", "purge", "app.py:one", "--all", "--yes")
    assert kept.left_ids() == [4]
    assert kept.left_ids("parked") == [5]


def test_purge_asks_before(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1))
    for answer, code in (("", 130), ("n\n", 0), ("\n", 0)):
        out, err = command("dlq", "purge", *FROM_STORE, "--all", code=code, answer=answer)
        assert (out, "Delete 1 dead letter for good?" in err) == ("", True)
        assert kept.left_ids() == [1]
    assert command("dlq", "purge", *FROM_STORE, "--all", answer="y\n")[0] == "1 dead letter deleted\n"
    assert kept.left_ids() == []


def test_a_record_that_cannot_be_read_matches_no_pattern(kept: Kept, command: Command) -> None:
    shard = Shard(stream_arn=STREAM_ARN, shard_id="shard-0")
    without_name = {**json.loads(record("a", 2).raw), "eventName": "?"}
    for raw in (b'{"dynamodb": {}}', json.dumps(without_name).encode()):
        kept.keep(Record(msgspec.Raw(raw), shard))
    kept.keep(record("a", 1))
    pattern = '{"dynamodb": {"Keys": {"id": {"S": ["a"]}}}}'
    assert command("dlq", "purge", *FROM_STORE, "--pattern", pattern, "--yes")[0] == "1 dead letter deleted\n"
    assert kept.left_ids() == [1, 2]


# --- redrive ---------------------------------------------------------------------------------------------------------


def test_redrive_delivers_in_order_and_says_how_many(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1), record("b", 2), record("a", 3))
    assert command("dlq", "redrive", "app.py:one")[0] == "orders: 3 delivered\n"
    assert kept.delivered == ["a 1", "b 2", "a 3"]
    assert kept.left_ids() == []


def test_redrive_that_fails_exits_with_1_and_keeps_what_failed(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1), record("b", 2), record("a", 3))
    kept.refuse("a")
    out, _ = command("dlq", "redrive", "app.py:one", code=1)
    assert out == ("orders: 1 delivered, 1 failed again and kept, 1 held back behind a failed change of their item\n")
    assert [(letter.id, letter.invoke_count) for letter in kept.left()] == [(1, 4), (3, 3)]
    kept.refuse()
    command("dlq", "redrive", "app.py:one")
    assert kept.delivered == ["b 2", "a 1", "a 3"]


def test_redrive_as_json_is_one_object(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1), record("b", 2))
    out, _ = command("dlq", "redrive", "app.py:one", "--json", "--pattern", '{"eventName": ["INSERT"]}')
    assert json.loads(out) == {
        "pipeline": "orders",
        "delivered": 1,
        "dropped": 0,
        "failed": 0,
        "held_back": 0,
        "skipped": 1,
        "stopped": False,
    }


def test_redrive_keeps_its_limit_and_its_rate(kept: Kept, command: Command) -> None:
    kept.keep(*(record("a", version) for version in range(1, 6)))
    out, _ = command("dlq", "redrive", "app.py:one", "--limit", "3", "--rate", "1000")
    assert out == "orders: 3 delivered; stopped, there may be more\n"
    assert kept.left_ids() == [4, 5]


def test_redrive_needs_to_know_the_pipeline(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1))
    kept.keep(record("b", 1), pipeline="audit")
    assert "name one of orders, audit by --pipeline" in command("dlq", "redrive", "app.py:two", code=2)[1]
    command("dlq", "redrive", "app.py:two", "--pipeline", "audit")
    assert kept.delivered == ["b 1"]


def test_redrive_needs_a_file(command: Command) -> None:
    assert "Missing argument 'FILE'" in command("dlq", "redrive", *FROM_STORE, code=2)[1]


def test_redrive_of_a_store_that_is_not_there_is_told_and_not_made(kept: Kept, command: Command) -> None:
    assert "there is no file new.db" in command("dlq", "redrive", "app.py:new", code=2)[1]
    assert not (kept.folder / "new.db").exists()


def test_ctrl_c_ends_it_after_the_batch_in_flight(kept: Kept, command: Command) -> None:
    kept.keep(*(record("a", version) for version in range(1, 6)))
    kept.interrupt()
    # The signal is heard when the loop looks for it, at the latest while it waits for the rate.
    out, err = command("dlq", "redrive", "app.py:one", "--rate", "0.001")
    assert out == "orders: 1 delivered; stopped, there may be more\n"
    assert "SIGINT: finishing what is in flight; once more stops at once" in err
    assert kept.left_ids() == [2, 3, 4, 5]
    assert command("dlq", "redrive", "app.py:one", "--rate", "0.001")[0].startswith("orders: 1 delivered")


def test_second_ctrl_c_ends_it_at_once(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1))
    kept.interrupt(stubborn=True)
    out, err = command("dlq", "redrive", "app.py:one", code=1)
    assert out == ""
    assert err.endswith("stopped at once: what was in flight will be delivered again by the next one\n")
    assert [(letter.id, letter.invoke_count) for letter in kept.left()] == [(1, 3)]
    (kept.folder / "stubborn").unlink()
    assert command("dlq", "redrive", "app.py:one")[0] == "orders: 1 delivered\n"  # no claim was left


def test_a_claim_that_was_left_is_told_and_can_be_taken_over(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1))

    async def beside() -> None:
        async with (
            open_store(STORE) as store,
            claimed(store, pipeline="orders", drawer="dead", owner="host-1", take_over=False) as claim,
        ):
            # As if killed: what is released at the end of the block is somebody else's.
            claim.owner = "nobody"

    anyio.run(beside)
    _, err = command("dlq", "redrive", "app.py:one", code=1)
    assert err == (
        "error: another redrive of orders is at work on the same letters: host-1 (wait for it, or if it was killed, "
        "say --take-over)\n"
    )
    assert command("dlq", "redrive", "app.py:one", "--take-over")[0] == "orders: 1 delivered\n"
    assert command("dlq", "redrive", "app.py:one")[1] == "there are no such dead letters of orders\n"
