"""The exact request of every write to a lease table of the KCL."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from streamflow.leases import Gap, Lease, LeaseKey, LeaseState, WindowState
from streamflow.positions import LATEST, SHARD_END, TRIM_HORIZON, Position
from streamflow.stores.dynamodb.keys import RowKeys
from streamflow.stores.dynamodb.notes import NOTE
from streamflow.stores.dynamodb.rows import lease_of
from streamflow.stores.dynamodb.writes import ask_request, contradicts, create_request, delete_request, update_request

STREAM_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
KEY = LeaseKey("orders", STREAM_ARN, "shardId-1")
CHILD = Lease(pipeline="orders", stream_arn=STREAM_ARN, shard_id="shardId-1", epoch=1_764, parents=("shardId-0",))
OF_US = {"pipeline": {"S": "orders"}, "stream": {"S": STREAM_ARN}}
NAMES = {
    "#leaseCounter": "leaseCounter",
    "#leaseOwner": "leaseOwner",
    "#checkpointOwner": "checkpointOwner",
    "#streamflow": "streamflow",
}
UNOWNED = "#leaseCounter = :known_leaseCounter AND attribute_not_exists(#leaseOwner) AND attribute_not_exists(#checkpointOwner)"
OWNED = (
    "#leaseCounter = :known_leaseCounter AND #leaseOwner = :known_leaseOwner AND attribute_not_exists(#checkpointOwner)"
)
ASKED = "#leaseCounter = :known_leaseCounter AND #leaseOwner = :known_leaseOwner AND #checkpointOwner = :known_checkpointOwner"


def note(**says: Any) -> dict[str, Any]:
    return {"M": {**OF_US, **says}}


def java_row(**attributes: Any) -> dict[str, Any]:
    item = {
        "leaseKey": {"S": "shardId-1"},
        "leaseOwner": {"S": "java-1"},
        "leaseCounter": {"N": "7"},
        "checkpoint": {"S": "100"},
        "checkpointSubSequenceNumber": {"N": "0"},
        "ownerSwitchesSinceCheckpoint": {"N": "2"},
        "pendingCheckpoint": {"S": "200"},
        "pendingCheckpointSubSequenceNumber": {"N": "0"},
        "pendingCheckpointState": {"B": b"\0app"},
        "throughputKBps": {"N": "1.5"},
        **attributes,
    }
    return {name: value for name, value in item.items() if value is not None}


def our_row(**attributes: Any) -> dict[str, Any]:
    """As our take of the row above leaves it; a pending checkpoint is there only if it is given."""
    ours = {
        "leaseOwner": {"S": "ours"},
        "leaseCounter": {"N": "8"},
        "ownerSwitchesSinceCheckpoint": {"N": "3"},
        "pendingCheckpoint": None,
        "pendingCheckpointState": None,
        "pendingCheckpointSubSequenceNumber": None,
        NOTE: note(epoch={"N": "8"}, counter={"N": "8"}, owner={"S": "ours"}),
    }
    return java_row(**{**ours, **attributes})


def lease(row: dict[str, Any], **changes: Any) -> Lease:
    found = lease_of(row, KEY)
    return replace(found, version=found.version + 1, **changes)


# --- create ----------------------------------------------------------------------------------------------------------


def test_create_puts_the_whole_row_if_there_is_none() -> None:
    assert create_request(CHILD, RowKeys(), typed=False) == {
        "Item": {
            "leaseKey": {"S": "shardId-1"},
            "leaseCounter": {"N": "0"},
            "checkpoint": {"S": "TRIM_HORIZON"},
            "checkpointSubSequenceNumber": {"N": "0"},
            "ownerSwitchesSinceCheckpoint": {"N": "0"},
            "parentShardId": {"SS": ["shardId-0"]},
            "startingHashKey": {"S": "0"},
            "endingHashKey": {"S": "1"},
            "streamflow": note(epoch={"N": "1764"}, counter={"N": "0"}),
        },
        "ConditionExpression": (
            "attribute_not_exists(#leaseKey) OR (attribute_exists(#streamflow.#stream) AND #streamflow.#stream <> :stream)"
        ),
        "ExpressionAttributeNames": {"#leaseKey": "leaseKey", "#streamflow": "streamflow", "#stream": "stream"},
        "ExpressionAttributeValues": {":stream": {"S": STREAM_ARN}},
    }


def test_create_in_tables_of_other_forms() -> None:
    stream = "123456789012:eu-west-1$123456789012$orders$2026-01-01T00_00_00.000:1"
    item = create_request(replace(CHILD, parents=("b", "a")), RowKeys(stream), typed=True)["Item"]
    assert item["leaseKey"] == {"S": f"{stream}:shardId-1"}
    assert (item["streamName"], item["shardId"], item["entityType"]) == (
        {"S": stream},
        {"S": "shardId-1"},
        {"S": "LEASE"},
    )
    assert item["parentShardId"] == {"SS": ["a", "b"]}
    bare = create_request(replace(CHILD, parents=()), RowKeys(), typed=False)["Item"]
    assert not {"parentShardId", "childShardIds", "entityType", "streamName", "leaseOwner"} & bare.keys()


@pytest.mark.parametrize(
    ("position", "text", "says"),
    [
        (TRIM_HORIZON, "TRIM_HORIZON", {}),
        (LATEST, "LATEST", {}),
        (Position.after("0012"), "0012", {}),
        (Position.at("12"), "TRIM_HORIZON", {"position": {"S": "AT_SEQUENCE_NUMBER:12"}}),
        (Position.at_timestamp(1.5), "TRIM_HORIZON", {"position": {"S": "AT_TIMESTAMP:1.5"}}),
        (SHARD_END, "TRIM_HORIZON", {"position": {"S": "SHARD_END"}}),
    ],
    ids=str,
)
def test_what_java_cannot_be_told_is_in_our_note(position: Position, text: str, says: dict[str, Any]) -> None:
    item = create_request(replace(CHILD, checkpoint=position), RowKeys(), typed=False)["Item"]
    assert item["checkpoint"] == {"S": text}
    assert item[NOTE] == note(epoch={"N": "1764"}, counter={"N": "0"}, **says)


# --- take, renew, checkpoint -----------------------------------------------------------------------------------------


def test_take_from_a_silent_owner() -> None:
    before = java_row()
    assert update_request(before, lease(before, owner="ours", epoch=8)) == {
        "Key": {"leaseKey": {"S": "shardId-1"}},
        "UpdateExpression": (
            "SET #leaseOwner = :leaseOwner, #leaseCounter = :leaseCounter, "
            "#ownerSwitchesSinceCheckpoint = :ownerSwitchesSinceCheckpoint, #streamflow = :streamflow"
        ),
        "ConditionExpression": OWNED,
        "ExpressionAttributeNames": {**NAMES, "#ownerSwitchesSinceCheckpoint": "ownerSwitchesSinceCheckpoint"},
        "ExpressionAttributeValues": {
            ":known_leaseCounter": {"N": "7"},
            ":known_leaseOwner": {"S": "java-1"},
            ":leaseOwner": {"S": "ours"},
            ":leaseCounter": {"N": "8"},
            ":ownerSwitchesSinceCheckpoint": {"N": "3"},
            ":streamflow": note(epoch={"N": "8"}, counter={"N": "8"}, owner={"S": "ours"}),
        },
        "ReturnValues": "ALL_NEW",
    }


def test_take_of_a_lease_that_nobody_has_is_no_switch() -> None:
    before = java_row(leaseOwner=None)
    request = update_request(before, lease(before, owner="ours"))
    assert request["ConditionExpression"] == UNOWNED
    assert "ownerSwitches" not in request["UpdateExpression"]


def test_take_of_a_lease_whose_hand_over_never_ended() -> None:
    before = java_row(checkpointOwner={"S": "java-0"})
    request = update_request(before, lease(before, owner="ours", claimant=None, epoch=8))
    assert request["ConditionExpression"] == ASKED
    assert request["UpdateExpression"].endswith(" REMOVE #checkpointOwner")
    values = request["ExpressionAttributeValues"]
    assert (values[":known_leaseOwner"], values[":known_checkpointOwner"]) == ({"S": "java-1"}, {"S": "java-0"})
    assert (values[":leaseOwner"], values[":ownerSwitchesSinceCheckpoint"]) == ({"S": "ours"}, {"N": "3"})


def test_renew_moves_the_counter() -> None:
    before = our_row()
    assert update_request(before, lease(before)) == {
        "Key": {"leaseKey": {"S": "shardId-1"}},
        "UpdateExpression": "SET #leaseCounter = :leaseCounter, #streamflow = :streamflow",
        "ConditionExpression": OWNED,
        "ExpressionAttributeNames": NAMES,
        "ExpressionAttributeValues": {
            ":known_leaseCounter": {"N": "8"},
            ":known_leaseOwner": {"S": "ours"},
            ":leaseCounter": {"N": "9"},
            ":streamflow": note(epoch={"N": "8"}, counter={"N": "9"}, owner={"S": "ours"}),
        },
        "ReturnValues": "ALL_NEW",
    }


def test_renew_leaves_a_request_to_pass_the_lease_on() -> None:
    before = our_row(leaseOwner={"S": "next"}, checkpointOwner={"S": "ours"})
    request = update_request(before, lease(before))
    assert request["ConditionExpression"] == ASKED
    assert request["UpdateExpression"] == "SET #leaseCounter = :leaseCounter, #streamflow = :streamflow"


def test_checkpoint_ends_what_was_pending() -> None:
    before = our_row(
        checkpointSubSequenceNumber={"N": "3"}, pendingCheckpoint={"S": "200"}, pendingCheckpointState={"N": "0"}
    )
    assert update_request(before, lease(before, checkpoint=Position.after("300"))) == {
        "Key": {"leaseKey": {"S": "shardId-1"}},
        "UpdateExpression": (
            "SET #leaseCounter = :leaseCounter, #checkpoint = :checkpoint, "
            "#checkpointSubSequenceNumber = :checkpointSubSequenceNumber, "
            "#ownerSwitchesSinceCheckpoint = :ownerSwitchesSinceCheckpoint, #streamflow = :streamflow "
            "REMOVE #pendingCheckpoint, #pendingCheckpointState"
        ),
        "ConditionExpression": OWNED,
        "ExpressionAttributeNames": {
            **NAMES,
            "#checkpoint": "checkpoint",
            "#checkpointSubSequenceNumber": "checkpointSubSequenceNumber",
            "#ownerSwitchesSinceCheckpoint": "ownerSwitchesSinceCheckpoint",
            "#pendingCheckpoint": "pendingCheckpoint",
            "#pendingCheckpointState": "pendingCheckpointState",
        },
        "ExpressionAttributeValues": {
            ":known_leaseCounter": {"N": "8"},
            ":known_leaseOwner": {"S": "ours"},
            ":leaseCounter": {"N": "9"},
            ":checkpoint": {"S": "300"},
            ":checkpointSubSequenceNumber": {"N": "0"},
            ":ownerSwitchesSinceCheckpoint": {"N": "0"},
            ":streamflow": note(epoch={"N": "8"}, counter={"N": "9"}, owner={"S": "ours"}),
        },
        "ReturnValues": "ALL_NEW",
    }


def test_nothing_but_a_checkpoint_ends_what_was_pending() -> None:
    before = java_row()
    for changes in (
        {},
        {"owner": "ours"},
        {"owner": None},
        {"gaps": (Gap(lost_from=LATEST, found_at_s=1.5, cause="x"),)},
    ):
        assert "pending" not in update_request(before, lease(before, **changes))["UpdateExpression"], changes


def test_the_end_of_a_shard_names_its_children() -> None:
    before = our_row()
    ended = lease(before, checkpoint=SHARD_END, state=LeaseState.ENDED, children=("b", "a"))
    values = update_request(before, ended)["ExpressionAttributeValues"]
    assert (values[":checkpoint"], values[":childShardIds"]) == ({"S": "SHARD_END"}, {"SS": ["a", "b"]})
    assert values[":streamflow"] == note(
        epoch={"N": "8"}, counter={"N": "9"}, owner={"S": "ours"}, children={"L": [{"S": "b"}, {"S": "a"}]}
    )


def test_the_end_of_a_shard_whose_children_are_not_known_yet_is_ours_alone() -> None:
    before = our_row()
    waiting = lease(before, checkpoint=SHARD_END, state=LeaseState.AWAITING_CHILDREN)
    request = update_request(before, waiting)
    assert "#checkpoint " not in request["UpdateExpression"]
    assert request["ExpressionAttributeValues"][":streamflow"] == note(
        epoch={"N": "8"},
        counter={"N": "9"},
        owner={"S": "ours"},
        position={"S": "SHARD_END"},
        state={"S": "awaiting_children"},
    )


def test_a_position_that_goes_back_is_never_ahead_for_java() -> None:
    before = our_row()
    for position, text in (
        (Position.after("50"), "50"),
        (Position.at("50"), "TRIM_HORIZON"),
        (TRIM_HORIZON, "TRIM_HORIZON"),
        (Position.at_timestamp(1.5), "TRIM_HORIZON"),
    ):
        values = update_request(before, lease(before, checkpoint=position))["ExpressionAttributeValues"]
        assert values[":checkpoint"] == {"S": text}, position
    ahead = update_request(before, lease(before, checkpoint=Position.at("101")))
    assert "#checkpoint " not in ahead["UpdateExpression"]  # 100, as it is, loses nothing


def test_windows_and_gaps_are_in_our_note() -> None:
    before = our_row()
    window, gap = WindowState(60, 120, b"{}"), Gap(lost_from=Position.after("9"), found_at_s=1.25, cause="trimmed")
    values = update_request(before, lease(before, window=window, gaps=(gap,)))["ExpressionAttributeValues"]
    assert values[":streamflow"] == note(
        epoch={"N": "8"},
        counter={"N": "9"},
        owner={"S": "ours"},
        gaps={
            "L": [
                {"M": {"from": {"S": "AFTER_SEQUENCE_NUMBER:9"}, "at": {"N": "1.25"}, "cause": {"S": "trimmed"}}},
            ]
        },
        window={"M": {"start": {"N": "60"}, "end": {"N": "120"}, "state": {"B": b"{}"}}},
    )
    values = update_request(before, lease(before, window=window), chunks="here")["ExpressionAttributeValues"]
    assert values[":streamflow"]["M"]["window"] == {
        "M": {
            "start": {"N": "60"},
            "end": {"N": "120"},
            "chunks": {"S": "here"},
            "digest": {"S": sha256(b"{}").hexdigest()},
        }
    }


# --- letting go, passing on, removing --------------------------------------------------------------------------------


def test_release_takes_the_owner_away() -> None:
    before = our_row()
    request = update_request(before, lease(before, owner=None))
    assert (
        request["UpdateExpression"] == "SET #leaseCounter = :leaseCounter, #streamflow = :streamflow REMOVE #leaseOwner"
    )
    assert request["ConditionExpression"] == OWNED
    assert request["ExpressionAttributeValues"][":streamflow"] == note(epoch={"N": "8"}, counter={"N": "9"})


def test_ask_begins_a_graceful_hand_over_and_leaves_the_counter() -> None:
    assert ask_request("shardId-1", owner="ours", claimant="next") == {
        "Key": {"leaseKey": {"S": "shardId-1"}},
        "UpdateExpression": "SET #leaseOwner = :leaseOwner, #checkpointOwner = :checkpointOwner",
        "ConditionExpression": (
            "#leaseOwner = :known_leaseOwner AND attribute_not_exists(#checkpointOwner) AND attribute_exists(#leaseKey)"
        ),
        "ExpressionAttributeNames": {
            "#leaseKey": "leaseKey",
            "#leaseOwner": "leaseOwner",
            "#checkpointOwner": "checkpointOwner",
        },
        "ExpressionAttributeValues": {
            ":known_leaseOwner": {"S": "ours"},
            ":leaseOwner": {"S": "next"},
            ":checkpointOwner": {"S": "ours"},
        },
        "ReturnValues": "ALL_NEW",
    }


def test_passing_on_ends_the_hand_over_and_is_no_second_switch() -> None:
    before = our_row(leaseOwner={"S": "next"}, checkpointOwner={"S": "ours"})
    request = update_request(before, lease(before, owner="next", claimant=None))
    assert request["UpdateExpression"] == (
        "SET #leaseCounter = :leaseCounter, #streamflow = :streamflow REMOVE #checkpointOwner"
    )
    assert request["ConditionExpression"] == ASKED


def test_delete_wants_the_row_as_it_was() -> None:
    assert delete_request(our_row()) == {
        "Key": {"leaseKey": {"S": "shardId-1"}},
        "ConditionExpression": OWNED,
        "ExpressionAttributeNames": {
            "#leaseCounter": "leaseCounter",
            "#leaseOwner": "leaseOwner",
            "#checkpointOwner": "checkpointOwner",
        },
        "ExpressionAttributeValues": {":known_leaseCounter": {"N": "8"}, ":known_leaseOwner": {"S": "ours"}},
    }


@pytest.mark.fault("F50")
def test_rows_in_odd_types_are_compared_as_they_are() -> None:
    before = java_row(leaseOwner={"NULL": True}, leaseCounter={"S": "7"})
    request = update_request(before, lease(before, owner="ours"))
    values = request["ExpressionAttributeValues"]
    assert (values[":known_leaseOwner"], values[":known_leaseCounter"]) == ({"NULL": True}, {"S": "7"})
    assert values[":leaseCounter"] == {"N": "8"}


def test_an_owner_of_before_the_row_was_made_again_is_known_by_its_epoch() -> None:
    anew = create_request(replace(CHILD, epoch=2_000), RowKeys(), typed=False)["Item"]
    held = replace(CHILD, epoch=1_000, owner="paused")
    assert contradicts(anew, held)
    assert not contradicts(anew, replace(held, epoch=2_001))
    assert not contradicts(anew, replace(held, owner=None))
