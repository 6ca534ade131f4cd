"""Rows of lease tables as leases: hand-made ones with everything that was seen in the field, and those of real fleets."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from streamflow.errors import StoreError
from streamflow.leases import Gap, Lease, LeaseKey, LeaseState, WindowState
from streamflow.positions import LATEST, SHARD_END, TRIM_HORIZON, Position
from streamflow.stores.dynamodb.keys import RowKeys, row_keys
from streamflow.stores.dynamodb.notes import NOTE, chunked_window, needs_chunks, note_in, noted, with_note
from streamflow.stores.dynamodb.rows import PENDING, as_kcl_says, is_leader, is_lease, lease_key_of, lease_of
from streamflow.stores.dynamodb.writes import update_request

if TYPE_CHECKING:
    from streamflow.stores.dynamodb.notes import Item

STREAM_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
KINESIS_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/orders"
KEY = LeaseKey("orders", STREAM_ARN, "shardId-1")
NUMBER = "49680557821161400150277599271237887409576899173167398962"
FIXTURES = sorted((Path(__file__).parents[1] / "fixtures" / "kcl").glob("*.json"))


def row(**attributes: Any) -> dict[str, Any]:
    """A row as a worker of the KCL 2.x writes it; None takes an attribute away."""
    item = {
        "leaseKey": {"S": "shardId-1"},
        "leaseOwner": {"S": "java-1"},
        "leaseCounter": {"N": "23"},
        "checkpoint": {"S": NUMBER},
        "checkpointSubSequenceNumber": {"N": "0"},
        "ownerSwitchesSinceCheckpoint": {"N": "1"},
        "startingHashKey": {"S": "0"},
        "endingHashKey": {"S": "1"},
        **attributes,
    }
    return {name: value for name, value in item.items() if value is not None}


def updated(before: Item, lease: Lease) -> dict[str, Any]:
    """The row after our update, as DynamoDB would have it: what the request does not name stays."""
    request = update_request(before, lease)
    names, values = request["ExpressionAttributeNames"], request["ExpressionAttributeValues"]
    assignments, _, removals = request["UpdateExpression"].removeprefix("SET ").partition(" REMOVE ")
    after = dict(before)
    for assignment in assignments.split(", "):
        name, _, value = assignment.partition(" = ")
        after[names[name]] = values[value]
    for name in removals.split(", ") if removals else []:
        after.pop(names[name], None)
    return after


LEASE = Lease(
    pipeline="orders",
    stream_arn=STREAM_ARN,
    shard_id="shardId-1",
    owner="java-1",
    epoch=23,
    version=23,
    checkpoint=Position.after(NUMBER),
)


# --- what the KCL says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "changes"),
    [
        ({}, {}),
        ({"leaseOwner": None}, {"owner": None}),
        ({"leaseOwner": {"NULL": True}}, {"owner": None}),
        ({"leaseOwner": {"S": ""}}, {"owner": None}),
        ({"checkpointOwner": {"S": "java-0"}}, {"owner": "java-0", "claimant": "java-1"}),
        ({"checkpointOwner": {"S": "java-1"}}, {}),
        ({"checkpointOwner": {"S": "java-0"}, "leaseOwner": None}, {"owner": "java-0"}),
        ({"checkpoint": {"S": "TRIM_HORIZON"}}, {"checkpoint": TRIM_HORIZON}),
        ({"checkpoint": {"S": "LATEST"}}, {"checkpoint": LATEST}),
        ({"checkpoint": {"S": "AT_TIMESTAMP"}}, {"checkpoint": TRIM_HORIZON}),
        ({"checkpoint": None}, {"checkpoint": TRIM_HORIZON}),
        ({"checkpoint": {"S": "000000001764"}}, {"checkpoint": Position.after("000000001764")}),
        ({"checkpoint": {"S": "SHARD_END"}}, {"checkpoint": SHARD_END, "state": LeaseState.AWAITING_CHILDREN}),
        (
            {"checkpoint": {"S": "SHARD_END"}, "childShardIds": {"SS": ["shardId-3", "shardId-2"]}},
            {"checkpoint": SHARD_END, "state": LeaseState.ENDED, "children": ("shardId-2", "shardId-3")},
        ),
        ({"checkpointSubSequenceNumber": {"N": "7"}}, {"checkpoint": Position.at(NUMBER)}),
        ({"checkpointSubSequenceNumber": None}, {}),
        ({"ownerSwitchesSinceCheckpoint": None, "startingHashKey": None, "endingHashKey": None}, {}),
        ({"parentShardId": {"SS": ["shardId-0", "shardId-00"]}}, {"parents": ("shardId-0", "shardId-00")}),
        ({"parentShardId": {"L": [{"S": "shardId-0"}]}}, {"parents": ("shardId-0",)}),
        ({"parentShardId": {"S": "shardId-0"}}, {"parents": ("shardId-0",)}),
        ({"leaseCounter": {"S": "23"}}, {}),
        ({"entityType": {"S": "LEASE"}, "throughputKBps": {"N": "132.71234"}, "theirs": {"BOOL": True}}, {}),
        ({"pendingCheckpoint": {"S": NUMBER}, "pendingCheckpointState": {"B": b"\0app"}}, {}),
        ({"pendingCheckpoint": {"S": NUMBER}, "pendingCheckpointState": {"N": "0"}}, {}),
        ({NOTE: {"S": "not ours"}}, {}),
        ({NOTE: {"M": {"theirs": {"S": "too"}}}}, {}),
    ],
)  # fmt: skip
def test_a_row_of_the_kcl_is_a_lease(attributes: dict[str, Any], changes: dict[str, Any]) -> None:
    assert lease_of(row(**attributes), KEY) == replace(LEASE, **changes)


@pytest.mark.fault("F42")
@pytest.mark.parametrize(
    "attributes",
    [
        {"leaseCounter": None},
        {"leaseCounter": {"S": "many"}},
        {"leaseCounter": {"BOOL": True}},
        {"checkpoint": {"S": "shardId-1"}},
        {"checkpointSubSequenceNumber": {"S": "x"}},
        {NOTE: {"M": {"epoch": {"N": "1"}, "counter": {"N": "23"}, "owner": {"S": "java-1"}, "state": {"S": "lost"}}}},
        {NOTE: {"M": {"epoch": {"N": "1"}, "counter": {"N": "23"}, "owner": {"S": "java-1"}, "position": {"N": "1"}}}},
        {NOTE: {"M": {"epoch": {"N": "1"}, "counter": {"N": "20"}, "gaps": {"L": [{"S": "hole"}]}}}},
    ],
)
def test_a_damaged_row_is_told_with_its_name(attributes: dict[str, Any]) -> None:
    with pytest.raises(
        StoreError, match=r"the row shardId-1 of pipeline 'orders' is damaged.*correct it, or delete it"
    ):
        lease_of(row(**attributes), KEY)


@pytest.mark.parametrize(
    "entity", ["STREAM", "LEADER", "CLIENT_VERSION_MIGRATION", "TABLE_MIGRATION", "WORKER_METRIC_STATS"]
)
def test_what_the_kcl_keeps_besides_leases_is_none(entity: str) -> None:
    item = {"leaseKey": {"S": "of another kind"}, "entityType": {"S": entity}}
    assert not is_lease(item)
    assert is_leader(item) == (entity == "LEADER")
    assert not is_leader({**item, "isReleased": {"S": "1"}})


def test_rows_without_a_type_or_with_that_of_leases_are_leases() -> None:
    assert is_lease(row())
    assert is_lease(row(entityType={"S": "LEASE"}))


# --- what we say besides ---------------------------------------------------------------------------------------------

FULL = replace(
    LEASE,
    owner="ours#2",
    claimant="other",
    epoch=2**41,
    version=24,
    checkpoint=Position.at_timestamp(0.1 + 0.2),
    state=LeaseState.AWAITING_CHILDREN,
    parents=("shardId-b", "shardId-a"),
    children=("shardId-d", "shardId-c"),
    gaps=(Gap(lost_from=Position.after("1"), found_at_s=0.1 + 0.7, cause="“trimmed”"),),
    window=WindowState(60, 120, b'{"total":1}'),
    duration_s=0.1 + 0.2,
)
POSITIONS = [
    TRIM_HORIZON,
    LATEST,
    SHARD_END,
    Position.after("9" * 56),
    Position.at(NUMBER),
    Position.at_timestamp(1_764_000_000.123456),
]


@pytest.mark.parametrize(
    "lease", [FULL, replace(FULL, claimant=None), replace(FULL, owner=None), replace(LEASE, version=24)]
)
@pytest.mark.parametrize(
    "attributes", [{}, {"checkpointOwner": {"S": "java-0"}}, {"leaseOwner": None, "checkpoint": {"S": "LATEST"}}]
)
def test_a_lease_comes_back_from_its_row_with_every_field(lease: Lease, attributes: dict[str, Any]) -> None:
    assert lease_of(updated(row(**attributes), lease), KEY) == lease


@pytest.mark.parametrize(("position", "state"), list(product(POSITIONS, LeaseState)), ids=str)
@pytest.mark.parametrize("there", ["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "SHARD_END", NUMBER])
def test_every_position_and_state_comes_back_from_every_row(position: Position, state: LeaseState, there: str) -> None:
    wanted = replace(LEASE, version=24, checkpoint=position, state=state)
    assert lease_of(updated(row(checkpoint={"S": there}), wanted), KEY) == wanted


@pytest.mark.parametrize(("position", "state"), list(product(POSITIONS, LeaseState)), ids=str)
@pytest.mark.parametrize("there", ["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "SHARD_END", NUMBER])
def test_what_java_reads_loses_nothing(position: Position, state: LeaseState, there: str) -> None:
    before = row(checkpoint={"S": there})
    was = lease_of(before, KEY)
    java = as_kcl_says(updated(before, replace(LEASE, version=24, checkpoint=position, state=state)), KEY).checkpoint
    if state is LeaseState.ENDED:
        assert java == SHARD_END
    elif position == was.checkpoint:
        assert java == was.checkpoint  # as Java itself has written it
    else:
        assert java in (position, TRIM_HORIZON) or java.order <= position.order
        assert java != SHARD_END
        assert java != LATEST or position == LATEST


def test_a_shard_that_waits_for_its_children_is_not_finished_for_java() -> None:
    waiting = replace(LEASE, version=24, checkpoint=SHARD_END, state=LeaseState.AWAITING_CHILDREN)
    after = updated(row(), waiting)
    assert after["checkpoint"] == {"S": NUMBER}
    assert "childShardIds" not in after
    assert lease_of(after, KEY) == waiting
    ended = replace(waiting, version=25, state=LeaseState.ENDED, children=("shardId-2", "shardId-3"))
    after = updated(after, ended)
    assert (after["checkpoint"], after["childShardIds"]) == ({"S": "SHARD_END"}, {"SS": ["shardId-2", "shardId-3"]})
    assert lease_of(after, KEY) == ended
    assert as_kcl_says(after, KEY).state is LeaseState.ENDED


def test_a_shard_without_children_may_be_ended() -> None:
    ended = replace(LEASE, version=24, checkpoint=SHARD_END, state=LeaseState.ENDED)
    after = updated(row(), ended)
    assert (after["checkpoint"], after.get("childShardIds")) == ({"S": "SHARD_END"}, None)
    assert lease_of(after, KEY) == ended


def test_where_a_worker_of_the_kcl_wrote_since_the_row_counts_and_not_our_note() -> None:
    ours = updated(row(), FULL)
    renewed = {**ours, "leaseCounter": {"N": "30"}}
    found = lease_of(renewed, KEY)
    assert found == replace(as_kcl_says(renewed, KEY), epoch=FULL.epoch + 6, gaps=FULL.gaps)
    assert (found.checkpoint, found.state, found.window) == (TRIM_HORIZON, LeaseState.ACTIVE, None)
    handed_over = {**ours, "leaseOwner": {"S": "java-2"}, "checkpointOwner": {"S": "java-1"}}
    assert lease_of(handed_over, KEY) == replace(as_kcl_says(handed_over, KEY), epoch=FULL.epoch + 1, gaps=FULL.gaps)


def test_the_epoch_grows_over_workers_of_the_kcl() -> None:
    ours = updated(row(), replace(LEASE, owner="ours", epoch=1_764_000_000_000, version=24))
    epochs = [lease_of(ours, KEY).epoch]
    for counter in range(25, 30):
        stolen = {**ours, "leaseOwner": {"S": "java-2"}, "leaseCounter": {"N": str(counter)}}
        found = lease_of(stolen, KEY)
        taken = replace(found, owner="ours", epoch=found.epoch + 1, version=counter + 1)
        epochs += [found.epoch, lease_of(updated(stolen, taken), KEY).epoch]
    assert epochs[0] < min(epochs[1:])
    assert all(taken > stolen for stolen, taken in zip(epochs[1::2], epochs[2::2], strict=True))


def test_a_request_to_pass_the_lease_on_leaves_our_note_in_force() -> None:
    ours = replace(LEASE, owner="ours", version=24, checkpoint=Position.at_timestamp(1.5), epoch=99)
    asked = {**updated(row(), ours), "leaseOwner": {"S": "java-2"}, "checkpointOwner": {"S": "ours"}}
    assert lease_of(asked, KEY) == replace(ours, claimant="java-2")


def test_small_windows_are_in_the_row_and_large_ones_beside_it() -> None:
    small, large = WindowState(0, 60, b"x" * 1_024), WindowState(-60, 0, b"x" * 1_025)
    assert (needs_chunks(None), needs_chunks(small), needs_chunks(large)) == (False, False, True)
    beside = replace(LEASE, window=None)
    assert with_note(beside, noted(replace(beside, window=small), beside)["M"]).window == small
    note = noted(replace(beside, window=large), beside, chunks="here")["M"]
    found = chunked_window(note)
    assert found is not None
    assert (found.name, found.with_state(large.state), found.with_state(small.state)) == ("here", large, None)
    assert with_note(beside, note).window is None
    assert chunked_window(None) is None
    assert b"xxxx" not in orjson.dumps(note)


# --- names of rows ---------------------------------------------------------------------------------------------------

ADAPTER_STREAM = "123456789012:eu-west-1$123456789012$orders$2026-01-01T00_00_00.000:1"


@pytest.mark.parametrize(
    ("lease_keys", "stream_arn", "stream"),
    [
        ([], STREAM_ARN, ""),
        (["shardId-1", "shardId-2"], STREAM_ARN, ""),
        ([f"{ADAPTER_STREAM}:shardId-1"], STREAM_ARN, ADAPTER_STREAM),
        (["123456789012:eu-west-1$123456789012$other$2026_0:1:shardId-1"], STREAM_ARN, ADAPTER_STREAM),
        (["000000000000:orders:17:shardId-1", "000000000000:other:1:shardId-1"], KINESIS_ARN, "000000000000:orders:17"),
        (["000000000000:orders:9:shardId-1", "000000000000:orders:10:shardId-1"], KINESIS_ARN, "000000000000:orders:10"),
    ],
)  # fmt: skip
def test_the_form_of_names_is_that_of_the_rows(lease_keys: list[str], stream_arn: str, stream: str) -> None:
    assert row_keys(lease_keys, stream_arn, table="leases") == RowKeys(stream)


def test_names_lead_to_shards_and_back() -> None:
    for keys in (RowKeys(), RowKeys(ADAPTER_STREAM)):
        assert keys.shard_id(keys.lease_key("shardId-1")) == "shardId-1"
    assert RowKeys().shard_id(f"{ADAPTER_STREAM}:shardId-1") is None
    assert RowKeys(ADAPTER_STREAM).shard_id("000000000000:other:1:shardId-1") is None


@pytest.mark.parametrize(
    ("lease_keys", "stream_arn", "reason"),
    [
        (["shardId-1", f"{ADAPTER_STREAM}:shardId-2"], STREAM_ARN, "two applications"),
        (["000000000000:other:1:shardId-1"], KINESIS_ARN, "time of the stream's creation"),
        (["000000000000:other:1:shardId-1"], "orders", "is not the ARN of one"),
    ],
)
def test_names_that_do_not_go_together_are_refused(lease_keys: list[str], stream_arn: str, reason: str) -> None:
    with pytest.raises(StoreError, match=f"lease table leases: .*{reason}"):
        row_keys(lease_keys, stream_arn, table="leases")


# --- rows of real fleets ---------------------------------------------------------------------------------------------


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The lease rows of a fixture; its binary values are base64, as in DynamoDB's JSON."""

    def value(name: str, found: Any) -> Any:
        match found:
            case {"B": str(text)}:
                return {"B": b64decode(text)}
            case dict():
                return {key: value(key, inner) for key, inner in found.items()}
        return found

    return [value("", item) for item in orjson.loads(file.read_bytes())["tables"]["orders"]["items"]]


def test_there_are_rows_of_real_fleets() -> None:
    assert sum(len(rows_of(file)) for file in FIXTURES) > 30


@pytest.mark.fault("F50")
@pytest.mark.parametrize("file", FIXTURES, ids=lambda file: file.stem)
def test_rows_of_real_fleets_are_taken_over_continued_and_left_readable(file: Path) -> None:
    rows = rows_of(file)
    keys = row_keys(map(lease_key_of, rows), KINESIS_ARN, table="orders")
    for before in rows:
        assert is_lease(before)
        shard_id = keys.shard_id(before["leaseKey"]["S"])
        assert shard_id is not None
        key = LeaseKey("orders", KINESIS_ARN, shard_id)
        found = lease_of(before, key)
        taken = replace(found, owner="ours", claimant=None, epoch=found.epoch + 1, version=found.version + 1)
        after = updated(before, taken)
        assert lease_of(after, key) == taken
        gone = {"checkpointOwner"}
        owned = {"leaseOwner", "leaseCounter", "ownerSwitchesSinceCheckpoint", NOTE}
        assert {name: value for name, value in after.items() if name not in owned} == {
            name: value for name, value in before.items() if name not in owned | gone
        }
        assert as_kcl_says(after, key) == replace(
            as_kcl_says(before, key), owner="ours", claimant=None, version=taken.version, epoch=taken.version
        )
        moved = replace(taken, checkpoint=Position.after("9" * 57), version=taken.version + 1)
        if found.state is LeaseState.ACTIVE:
            on = updated(after, moved)
            assert lease_of(on, key) == moved
            assert on["checkpoint"] == {"S": "9" * 57}
            assert on["ownerSwitchesSinceCheckpoint"] == {"N": "0"}
            assert not set(PENDING) & on.keys()
            assert {
                name: on[name]
                for name in before
                if name in {"parentShardId", "startingHashKey", "endingHashKey", "throughputKBps"}
            } == {
                name: before[name]
                for name in before
                if name in {"parentShardId", "startingHashKey", "endingHashKey", "throughputKBps"}
            }
            let_go = updated(on, replace(moved, owner=None, version=moved.version + 1))
            assert "leaseOwner" not in let_go
            assert note_in(let_go) is not None
