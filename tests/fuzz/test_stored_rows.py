"""Rows that others wrote, or damaged, in the stores' tables: understood as they stand, or refused with a word on what to do.

Never as if nothing were stored: a checkpoint that is read as another one loses records or repeats a day of them.
"""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anyio
from hypothesis import example, given
from hypothesis import strategies as st

from streamflow.dead_letters import DeadLetter, LetterQuery
from streamflow.errors import StoreError
from streamflow.leases import Gap, Lease, LeaseKey, LeaseState, WindowState
from streamflow.positions import Position, PositionKind
from streamflow.stores.dynamodb import rows as kcl
from streamflow.stores.dynamodb.letter_items import letter_item, letter_of
from streamflow.stores.dynamodb.notes import NOTE, chunked_window, note_in
from streamflow.stores.dynamodb.writes import update_request
from streamflow.stores.sqlite_file import explained, open_file
from streamflow.stores.sqlite_leases import SqliteLeases
from streamflow.stores.sqlite_letters import SqliteLetters

if TYPE_CHECKING:
    from collections.abc import Callable

PIPELINE, STREAM, SHARD = "orders", "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/label", "shardId-1"
KEY = LeaseKey(PIPELINE, STREAM, SHARD)
NUMBER = "1100000000017450224518"

# --- SQLite ----------------------------------------------------------------------------------------------------------


class Inline:
    """In the place of the store's thread."""

    path = Path("state.db")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def ask(self, work: Callable[[sqlite3.Connection], Any], *, writes: bool) -> Any:
        try:
            return work(self._connection)
        except sqlite3.Error as error:
            raise explained(error, self.path) from error


@cache
def _schema() -> str:
    with TemporaryDirectory() as folder, closing(open_file(Path(folder) / "state.db")) as connection:
        return "\n".join(connection.iterdump())


def _opened() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(_schema())
    return connection


ids = st.text("abc-", min_size=1, max_size=6)
texts = (
    st.text(max_size=12)
    | st.sampled_from(["", "[]", "{}", "null", '"ab"', '["a",1]', '[["LATEST",1.5,"x"]]', '[["LATEST","x",null]]', "ENDED"])
    | st.sampled_from([kind.value for kind in PositionKind]).flatmap(
        lambda kind: st.sampled_from(["", ":", f":{NUMBER}", ":-1", ":nan", ":1e999", ":1_0", ":\u0661"]).map(kind.__add__)
    )
    | st.sampled_from(["0:60:{}", "60:0:{}", "0:60:", "a:60:{}", "0:60:[", "0:60:[]", "::", "9" * 5_000 + ":1:{}"])
)  # fmt: skip
lease_columns: dict[str, st.SearchStrategy[Any]] = {
    "owner": st.none() | st.just("worker") | texts,
    "claimant": st.none() | texts,
    "epoch": st.integers(-(2**63), 2**63 - 1),
    "version": st.integers(-(2**63), 2**63 - 1),
    "checkpoint": texts,
    "state": st.sampled_from([state.value for state in LeaseState]) | texts,
    "parents": st.just('["shardId-0"]') | texts,
    "children": texts,
    "gaps": st.just('[["TRIM_HORIZON",1.5,"trimmed"]]') | texts,
    "duration_s": st.none() | st.floats(),
    "window": texts,
}
RIGHT: dict[str, Any] = {
    "owner": None, "claimant": None, "epoch": 1, "version": 1, "checkpoint": f"AFTER_SEQUENCE_NUMBER:{NUMBER}",
    "state": "active", "parents": "[]", "children": "[]", "gaps": "[]", "duration_s": None, "window": "",
}  # fmt: skip


@st.composite
def damaged_rows(
    draw: st.DrawFn, columns: dict[str, Any] = lease_columns, right: dict[str, Any] = RIGHT
) -> dict[str, Any]:
    names = draw(st.sets(st.sampled_from(sorted(columns)), max_size=3))
    return {**right, **{name: draw(columns[name]) for name in names}}


def insert(connection: sqlite3.Connection, table: str, row: dict[str, Any], *, broken: str | None = None) -> bool:
    """False where SQLite itself refuses the row. `broken` names a column whose text is to be no UTF-8."""
    marks = ", ".join("CAST(x'61ff' AS TEXT)" if name == broken else "?" for name in row)
    values = [value for name, value in row.items() if name != broken]
    try:
        connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", values)
    except (sqlite3.Error, UnicodeEncodeError):
        return False
    return True


@given(damaged_rows(), st.none() | st.sampled_from(["checkpoint", "owner", "state", "gaps", "window", "parents"]))
@example({**RIGHT, "parents": '"ab"'}, None)
@example({**RIGHT, "parents": '{"a":1}'}, None)
@example({**RIGHT, "children": "[1]"}, None)
@example({**RIGHT, "children": "[" * 2_000}, None)
@example({**RIGHT, "gaps": '[["LATEST","x",null]]'}, None)
@example({**RIGHT, "window": "9" * 5_000 + ":1:{}"}, None)
@example({**RIGHT, "checkpoint": "AT_TIMESTAMP:" + "9" * 500}, None)
@example({**RIGHT, "duration_s": float("inf")}, None)
@example({**RIGHT, "state": "9" * 5_000}, None)
@example(RIGHT, "checkpoint")
def test_a_row_of_sqlite_is_understood_as_it_stands_or_refused(row: dict[str, Any], broken: str | None) -> None:
    with closing(_opened()) as connection:
        named = {"pipeline": PIPELINE, "stream_arn": STREAM, "shard_id": SHARD, **row}
        if not insert(connection, "streamflow_leases", named, broken=broken):
            return
        store = SqliteLeases(Inline(connection))  # type: ignore[arg-type]

        async def read() -> tuple[list[Lease] | None, list[Lease] | None]:
            return await attempt(lambda: store.get(KEY)), await attempt(lambda: store.list(PIPELINE, STREAM))

        got, listed = anyio.run(read)
        # A listing leaves windows out, so it may understand what a look at the whole row refuses.
        if got is not None and listed is not None:
            assert [replace(lease, window=None) for lease in got] == listed
        for lease in (got or []) + (listed or []):
            assert_as_it_stands(lease, row)


async def attempt(look: Callable[[], Any]) -> list[Lease] | None:
    try:
        found = await look()
    except StoreError as error:
        assert len(str(error)) < 2_000
        return None
    return list(found) if isinstance(found, list | tuple) else [found]


def assert_as_it_stands(lease: Lease, row: dict[str, Any]) -> None:
    assert (lease.owner, lease.claimant, lease.epoch, lease.version) == (
        row["owner"],
        row["claimant"],
        row["epoch"],
        row["version"],
    )
    assert lease.checkpoint == Position.parse(row["checkpoint"])
    assert lease.state.value == row["state"]
    assert [list(lease.parents), list(lease.children)] == [json.loads(row["parents"]), json.loads(row["children"])]
    assert all(type(gap.cause) is str and type(gap.found_at_s) in {float, int} for gap in lease.gaps)
    assert lease.duration_s is None or lease.duration_s == row["duration_s"] or lease.duration_s != lease.duration_s


letter_columns: dict[str, Any] = {
    "sequence_number": texts, "item_key": texts, "record": st.binary(max_size=20), "reason": texts, "error_type": texts,
    "error_text": texts, "invoke_count": st.integers(-(2**63), 2**63 - 1), "kept_at_s": st.floats(allow_nan=False),
}  # fmt: skip
RIGHT_LETTER: dict[str, Any] = {
    "drawer": "dead", "pipeline": PIPELINE, "stream_arn": STREAM, "shard_id": SHARD, "sequence_number": NUMBER,
    "item_key": "{}", "record": b"{}", "reason": "r", "error_type": "t", "error_text": "e", "invoke_count": 1, "kept_at_s": 1.0,
}  # fmt: skip


@given(damaged_rows(letter_columns, RIGHT_LETTER), st.none() | st.sampled_from(["reason", "item_key", "error_text"]))
def test_a_letter_of_sqlite_is_read_as_it_stands_or_refused(row: dict[str, Any], broken: str | None) -> None:
    with closing(_opened()) as connection:
        if not insert(connection, "streamflow_letters", row, broken=broken):
            return
        store = SqliteLetters(Inline(connection))  # type: ignore[arg-type]
        try:
            (letter,) = anyio.run(store.letters, LetterQuery(drawer="dead"))
        except StoreError:
            assert broken is not None
            return
        assert (letter.record, letter.reason, letter.invoke_count) == (
            row["record"],
            row["reason"],
            row["invoke_count"],
        )


# --- the table of the KCL --------------------------------------------------------------------------------------------

dynamo_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["LATEST", "SHARD_END", "TRIM_HORIZON", "AT_TIMESTAMP", NUMBER, "1", "0", f"AFTER_SEQUENCE_NUMBER:{NUMBER}", "ended"]
)  # fmt: skip
dynamo_numbers = st.integers(-(10**38) + 1, 10**38 - 1).map(str) | st.sampled_from(["1.5", "1E+100", "-0", "0.0001"])
dynamo_values: Any = st.recursive(
    dynamo_texts.map(lambda text: {"S": text})
    | dynamo_numbers.map(lambda text: {"N": text})
    | st.binary(max_size=5).map(lambda data: {"B": data})
    | st.booleans().map(lambda value: {"BOOL": value})
    | st.just({"NULL": True})
    | st.lists(dynamo_texts, min_size=1, max_size=2).map(lambda names: {"SS": names})
    | st.lists(dynamo_numbers, min_size=1, max_size=2).map(lambda numbers: {"NS": numbers}),
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda values: {"L": values})
        | st.dictionaries(
            st.sampled_from(["from", "at", "cause", "state", "start", "end", "chunks", "digest"]), inner, max_size=4
        ).map(lambda values: {"M": values})
    ),
    max_leaves=4,
)
ATTRIBUTES = (
    kcl.OWNER, kcl.COUNTER, kcl.CHECKPOINT, kcl.SUB_SEQUENCE, kcl.SWITCHES, kcl.CHECKPOINT_OWNER, kcl.PARENTS, kcl.CHILDREN,
    kcl.ENTITY, *kcl.PENDING, "throughputKBps", "startingHashKey", "somebodyElses",
)  # fmt: skip
RIGHT_ITEM: dict[str, Any] = {
    kcl.KEY: {"S": SHARD},
    kcl.COUNTER: {"N": "7"},
    kcl.CHECKPOINT: {"S": NUMBER},
    kcl.SUB_SEQUENCE: {"N": "0"},
    kcl.OWNER: {"S": "worker"},
    kcl.SWITCHES: {"N": "0"},
}
NOTED = Lease(
    pipeline=PIPELINE, stream_arn=STREAM, shard_id=SHARD, owner="worker", epoch=9, version=7, checkpoint=Position.after(NUMBER),
    parents=("shardId-0",), gaps=(Gap(lost_from=Position.after("1"), found_at_s=1.5, cause="trimmed"),),
    window=WindowState(0, 60, b'{"a":1}'),
)  # fmt: skip


@st.composite
def damaged_items(draw: st.DrawFn) -> dict[str, Any]:
    item = dict(RIGHT_ITEM)
    if draw(st.booleans()):
        note = dict(update_request(RIGHT_ITEM, replace(NOTED, version=8))["ExpressionAttributeValues"][f":{NOTE}"]["M"])
        for name in draw(
            st.sets(st.sampled_from([*sorted(note), "position", "state", "children", "duration"]), max_size=2)
        ):
            note[name] = draw(dynamo_values)
        note["counter"] = draw(st.just({"N": "7"}) | dynamo_values)
        item[NOTE] = {"M": note}
    for name in draw(st.sets(st.sampled_from([*ATTRIBUTES, NOTE]), max_size=3)):
        item[name] = draw(dynamo_values)
    for name in draw(st.sets(st.sampled_from(sorted(item.keys() - {kcl.KEY})), max_size=1)):
        del item[name]
    return item


@given(damaged_items())
@example({**RIGHT_ITEM, kcl.CHECKPOINT: {"N": "5"}})
@example({**RIGHT_ITEM, kcl.CHECKPOINT: {"SS": [NUMBER]}})
@example({**RIGHT_ITEM, kcl.OWNER: {"N": "5"}})
@example({**RIGHT_ITEM, kcl.PARENTS: {"M": {}}})
@example({**RIGHT_ITEM, NOTE: {"M": {"epoch": {"N": "1"}, "counter": {"N": "7"}, "owner": {"NULL": True}}}})
def test_a_row_of_the_kcl_is_understood_as_it_stands_or_refused(item: dict[str, Any]) -> None:
    try:
        lease = kcl.lease_of(item, KEY)
        chunked_window(note_in(item))
    except StoreError as error:
        assert SHARD in str(error)
        return
    said = item.get(kcl.CHECKPOINT)
    if NOTE not in item and said is not None and said not in ({"NULL": True}, {"S": ""}):
        # Whatever somebody stored there, it is no shard that was never read.
        assert lease.checkpoint != Position.parse("TRIM_HORIZON") or said.get("S") in {"TRIM_HORIZON", "AT_TIMESTAMP"}
    assert all(isinstance(name, str) for name in (*lease.parents, *lease.children))
    assert lease.owner is None or isinstance(lease.owner, str)
    written = update_request(item, replace(lease, version=lease.version + 1, checkpoint=Position.after(NUMBER)))
    # Attributes that we do not know are named in no write: DynamoDB leaves them as they are.
    touched = set(written["ExpressionAttributeNames"].values())
    assert touched.isdisjoint({"throughputKBps", "startingHashKey", "somebodyElses"})


def test_a_row_that_is_right_is_what_it_says() -> None:
    assert kcl.lease_of(RIGHT_ITEM, KEY) == Lease(
        pipeline=PIPELINE, stream_arn=STREAM, shard_id=SHARD, owner="worker", epoch=7, version=7,
        checkpoint=Position.after(NUMBER),
    )  # fmt: skip


@given(
    st.sets(st.sampled_from(["pipeline", "sequence", "item", "reason", "type", "invokes", "kept"]), max_size=3),
    st.data(),
)
def test_a_letter_of_dynamodb_is_read_or_refused(names: set[str], data: st.DataObject) -> None:
    letter = DeadLetter(
        pipeline=PIPELINE, stream_arn=STREAM, shard_id=SHARD, sequence_number=NUMBER, item_key="{}", record=b"{}", reason="r",
        error_type="t", error_text="e", invoke_count=1, kept_at_s=1.0, id=5,
    )  # fmt: skip
    item, _ = letter_item("dead", 5, letter)
    body = data.draw(st.just(item["body"]["B"]) | st.binary(max_size=30))
    damaged = {**item, **{name: data.draw(dynamo_values) for name in names}}
    try:
        read = letter_of(damaged, body)
    except StoreError as error:
        assert re.search(r"letter 5 is damaged", str(error))
        return
    assert read.id == 5
