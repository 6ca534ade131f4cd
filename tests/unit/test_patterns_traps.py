"""Patterns that do not do what they look like are explained, with what to write instead."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamflow.errors import PatternError
from streamflow.rules.patterns.traps import explain_traps


def traps(pattern: dict[str, Any], *, extensions: bool = False) -> tuple[str, ...]:
    return explain_traps(json.dumps(pattern), extensions=extensions)


def of_new_image(attribute: Any) -> dict[str, Any]:
    return {"dynamodb": {"NewImage": attribute}}


@pytest.mark.parametrize(
    "pattern",
    [
        {"eventName": ["INSERT", "MODIFY", "REMOVE"]},
        {"eventName": [{"prefix": "INS"}, {"anything-but": "REMOVE"}]},
        {"userIdentity": {"type": ["Service"], "principalId": ["dynamodb.amazonaws.com"]}},
        {"eventSourceARN": [{"suffix": "x"}], "eventID": [{"exists": True}], "awsRegion": ["eu-west-1"]},
        {"dynamodb": {"Keys": {"id": {"N": ["101"]}}}},
        {"dynamodb": {"Keys": {"id": {"N": [{"anything-but": "101"}]}}}},
        {"dynamodb": {"SizeBytes": [{"numeric": [">", 100]}, 5], "ApproximateCreationDateTime": [1764085200]}},
        {"dynamodb": {"SequenceNumber": ["1"], "StreamViewType": ["NEW_IMAGE"]}},
        of_new_image({"a": {"S": [{"exists": True}]}}),
        of_new_image({"a": {"S": [{"exists": False}]}}),
        of_new_image({"a": {"S": [{"anything-but": "x"}, {"exists": False}]}}),
        of_new_image({"a": {"BOOL": [True]}, "b": {"NULL": [True]}, "c": {"SS": ["x"]}}),
        of_new_image({"a": {"M": {"b": {"L": {"N": ["1"]}}}}}),
        of_new_image({"a.b": {"S": ["x"]}, "S": {"S": ["x"]}, "M": {"S": ["x"]}}),
        {"$or": [{"eventName": ["INSERT"]}, of_new_image({"a": {"S": ["x"]}})]},
    ],
    ids=json.dumps,
)
def test_a_pattern_that_does_what_it_says_has_no_traps(pattern: dict[str, Any]) -> None:
    assert traps(pattern) == ()


UNTYPED = "because an attribute that is present is an object with its type as key, and no leaf"
UNKNOWN = "because a record has no such field"
ITEM = "the item is below dynamodb, in Keys, NewImage and OldImage"
EVENT_NAMES = "eventName is one of INSERT, MODIFY, REMOVE"
LEAF = "an object and no leaf"
TRAPS: list[tuple[dict[str, Any], str, str]] = [
    (
        of_new_image({"a": [{"exists": True}]}),
        "dynamodb.NewImage.a",
        (
            f'exists:true never matches here, {UNTYPED}; write {{"a": {{"S": [{{"exists": true}}]}}}}, for each type that it '
            "may have"
        ),
    ),
    (
        of_new_image({"a": [{"exists": False}]}),
        "dynamodb.NewImage.a",
        (
            f'exists:false always matches here, {UNTYPED}; write {{"a": {{"S": [{{"exists": false}}]}}}}, for each type that '
            "it may have"
        ),
    ),
    (
        {"dynamodb": {"OldImage": {"status": ["paid"]}}},
        "dynamodb.OldImage.status",
        f'this never matches, {UNTYPED}; write {{"status": {{"S": […]}}}}, with the type that it has in place of S',
    ),
    (
        of_new_image({"m": {"M": {"N": ["1"]}}}),
        "dynamodb.NewImage.m.M.N",
        f'this never matches, {UNTYPED}; write {{"N": {{"S": […]}}}}, with the type that it has in place of S',
    ),
    (
        of_new_image({"l": {"L": ["x"]}}),
        "dynamodb.NewImage.l.L",
        "this never matches, because L holds objects and is no leaf; go down from L to a type",
    ),
    (
        of_new_image({"n": {"N": [{"numeric": [">", 100]}]}}),
        "dynamodb.NewImage.n.N",
        (
            "numeric never matches an attribute of type N, which is a string in the event; write strings "
            '(["101"]), or allow numeric here with filter_extensions'
        ),
    ),
    (
        of_new_image({"n": {"NS": [{"numeric": [">", 100]}]}}),
        "dynamodb.NewImage.n.NS",
        "numeric never matches here, where a string stands; compare with strings",
    ),
    (
        {"dynamodb": {"Keys": {"id": {"N": [101]}}}},
        "dynamodb.Keys.id.N",
        '101 never matches, because a string stands here; write "101"',
    ),
    (
        {"dynamodb": {"Keys": {"id": {"N": [{"anything-but": 101}]}}}},
        "dynamodb.Keys.id.N",
        'anything but 101 always matches what is there, because a string stands here; write "101"',
    ),
    (
        of_new_image({"paid": {"BOOL": ["true"]}}),
        "dynamodb.NewImage.paid.BOOL",
        "'true' never matches, because a boolean stands here; write true or false",
    ),
    (
        of_new_image({"a": {"S": [None]}}),
        "dynamodb.NewImage.a.S",
        "null never matches, because a string stands here; write a string",
    ),
    (
        {"dynamodb": {"SizeBytes": ["5"]}},
        "dynamodb.SizeBytes",
        "'5' never matches, because a number stands here; write a number",
    ),
    (
        {"dynamodb": {"NewImage": [{"exists": True}]}},
        "dynamodb.NewImage",
        (
            f"exists:true never matches here, because NewImage is {LEAF}; ask for the event: "
            '{"eventName": ["INSERT", "MODIFY"]} have a new image'
        ),
    ),
    (
        {"dynamodb": {"OldImage": [{"exists": False}]}},
        "dynamodb.OldImage",
        (
            f"exists:false always matches here, because OldImage is {LEAF}; ask for the event: "
            '{"eventName": ["MODIFY", "REMOVE"]} have an old image'
        ),
    ),
    (
        {"userIdentity": [{"exists": True}]},
        "userIdentity",
        (
            f"exists:true never matches here, because userIdentity is {LEAF}; go down to a member: "
            '{"userIdentity": {"type": ["Service"]}}'
        ),
    ),
    (
        {"dynamodb": ["x"]},
        "dynamodb",
        f"this never matches, because dynamodb is {LEAF}; go down to a member",
    ),
    (
        of_new_image({"a": {"S": [{"anything-but": "x"}]}}),
        "dynamodb.NewImage.a.S",
        'anything-but does not match where this is absent; add {"exists": false} if it shall',
    ),
    ({"NewImage": {"a": {"S": ["x"]}}}, "NewImage.a.S", f"this never matches, {UNKNOWN}; write dynamodb.NewImage"),
    (
        {"dynamodb": {"newImage": {"a": {"S": ["x"]}}}},
        "dynamodb.newImage.a.S",
        f"this never matches, {UNKNOWN}; write dynamodb.NewImage",
    ),
    (
        {"userIdentity": {"PrincipalId": ["x"]}},
        "userIdentity.PrincipalId",
        f"this never matches, {UNKNOWN}; write userIdentity.principalId",
    ),
    ({"type": ["Service"]}, "type", f"this never matches, {UNKNOWN}; {ITEM}"),
    ({"dynamodb": {"id": ["x"]}}, "dynamodb.id", f"this never matches, {UNKNOWN}; {ITEM}"),
    ({"event": [{"exists": False}]}, "event", f"exists:false always matches here, {UNKNOWN}; {ITEM}"),
    ({"eventName": ["insert"]}, "eventName", f"'insert' never matches: {EVENT_NAMES}"),
    ({"eventName": [{"anything-but": ["DELETE"]}]}, "eventName", f"'DELETE' excludes nothing: {EVENT_NAMES}"),
]


@pytest.mark.parametrize(("pattern", "path", "trap"), TRAPS, ids=[json.dumps(row[0]) for row in TRAPS])
def test_a_trap_is_one_sentence_with_its_place_and_what_to_write(pattern: dict[str, Any], path: str, trap: str) -> None:
    assert traps(pattern) == (f"{path}: {trap}",)


def test_traps_are_found_in_every_branch_and_told_once() -> None:
    branch = of_new_image({"n": {"N": [{"numeric": ["=", 1]}, {"numeric": ["=", 2]}]}})
    found = traps({"$or": [branch, branch, {"eventName": ["X"]}]})
    assert [trap.partition(":")[0] for trap in found] == ["dynamodb.NewImage.n.N", "eventName"]


def test_extensions_are_no_traps_where_they_are_allowed() -> None:
    assert traps(of_new_image({"n": {"N": [{"numeric": ["=", 1]}]}}), extensions=True) == ()
    assert traps(of_new_image({"n": [{"changed": True}], "m": {"S": [{"changed": False}]}}), extensions=True) == ()


def test_a_wrong_pattern_has_no_traps_but_an_error() -> None:
    with pytest.raises(PatternError):
        explain_traps("{}")
