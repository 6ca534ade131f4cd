"""`streamflow parked` on a SQLite file."""

from __future__ import annotations

import json

import pytest

from kept import STORE, STREAM_ARN, Command, Kept, command, kept, record
from streamflow.cli import letters

__all__ = ["command", "kept"]

FROM_STORE = ("--store", STORE)


@pytest.fixture
def parked(kept: Kept) -> Kept:
    """Item a with 3 changes, b with 1, and another pipeline's."""
    kept.keep(record("a", 1), record("b", 2), record("a", 3), record("a", 4, shard="shard-1"), drawer="parked")
    kept.keep(record("a", 1), pipeline="audit", drawer="parked")
    return kept


def test_list_has_a_line_for_each_item_without_data(parked: Kept, command: Command) -> None:
    out, err = command("parked", "list", "app.py:one")
    titles, *items = out.splitlines()
    assert titles.startswith("pipeline  changes")
    assert [item.split() for item in items] == [
        ["orders", "3", "2025-11-24T16:00:00Z", "1", "ValueError", "3", '{"id":{"S":"a"}}'],
        ["orders", "1", "2025-11-24T16:00:00Z", "2", "ValueError", "3", '{"id":{"S":"b"}}'],
    ]
    assert "secret" not in out + err


def test_list_as_json_is_an_object_a_line(parked: Kept, command: Command) -> None:
    out, _ = command("parked", "list", *FROM_STORE, "--pipeline", "orders", "--id", "3", "--json")
    assert json.loads(out) == {
        "pipeline": "orders",
        "stream_arn": STREAM_ARN,
        "item_key": '{"id":{"S":"a"}}',
        "changes": 3,
        "oldest": "2025-11-24T16:00:00Z",
        "first_id": 1,
        "error_type": "ValueError",
        "attempts": 3,
    }


def test_list_says_that_there_is_more(parked: Kept, command: Command) -> None:
    out, err = command("parked", "list", *FROM_STORE, "--limit", "2")
    assert len(out.splitlines()) == 3
    assert err == "2 of 3 items: --limit 3 shows all\n"


def test_nothing_is_told_kindly(kept: Kept, command: Command) -> None:
    kept.keep(record("a", 1))
    for arguments in (("list",), ("drop", "--all")):
        assert command("parked", *arguments, *FROM_STORE) == ("", "there are no such parked items\n")
    assert command("parked", "retry", "app.py:one") == ("", "there are no such parked items of orders\n")


def test_retry_heals_items_in_order(parked: Kept, command: Command) -> None:
    assert command("parked", "retry", "app.py:one")[0] == "orders: 4 delivered\n"
    assert parked.delivered == ["a 1", "a 3", "a 4", "b 2"]
    assert parked.left_ids("parked") == [5]


def test_retry_takes_whole_items(parked: Kept, command: Command) -> None:
    command("parked", "retry", "app.py:one", "--shard", "shard-1")
    assert parked.delivered == ["a 1", "a 3", "a 4"]
    assert parked.left_ids("parked") == [2, 5]


def test_retry_that_fails_exits_with_1_and_leaves_the_item_parked(parked: Kept, command: Command) -> None:
    parked.refuse("a")
    out, _ = command("parked", "retry", "app.py:one", code=1)
    assert out == "orders: 1 delivered, 1 failed again and kept, 2 held back behind a failed change of their item\n"
    assert [(letter.id, letter.invoke_count) for letter in parked.left("parked")] == [(1, 4), (3, 3), (4, 3), (5, 3)]


def test_drop_takes_whole_items_and_says_what_is_lost(parked: Kept, command: Command) -> None:
    out, _ = command("parked", "drop", "app.py:one", "--id", "3", "--yes")
    assert out == "1 item dropped, 3 changes lost\n"
    assert parked.left_ids("parked") == [2, 5]
    assert command("parked", "drop", *FROM_STORE, "--all", "--yes")[0] == "2 items dropped, 2 changes lost\n"


def test_drop_must_be_told_what(parked: Kept, command: Command) -> None:
    assert "Say which ones, or --all." in command("parked", "drop", "app.py:one", "--yes", code=2)[1]
    assert len(parked.left_ids("parked")) == 5


def test_drop_asks_before(parked: Kept, command: Command) -> None:
    out, err = command("parked", "drop", "app.py:one", "--all", answer="n\n")
    assert "Drop 2 items and lose 4 changes for good?" in err
    assert (out, len(parked.left_ids("parked"))) == ("", 5)


def test_drop_says_which_items_were_parked_again_meanwhile(
    parked: Kept, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirmed(*_: object, **__: object) -> bool:
        parked.keep(record("a", 5), drawer="parked")
        return True

    monkeypatch.setattr(letters, "confirmed", confirmed)
    out, err = command("parked", "drop", "app.py:one", "--all")
    assert out == "2 items dropped, 4 changes lost\n"
    assert err == 'parked again meanwhile, with new changes: {"id":{"S":"a"}}\n'
    assert parked.left_ids("parked") == [5, 6]


def test_a_parked_change_can_be_shown(parked: Kept, command: Command) -> None:
    assert '"eventID": "a-3"' in command("dlq", "show", "3", *FROM_STORE)[0]
    assert parked.delivered == []
