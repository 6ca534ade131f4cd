"""A record that does not match: which part of the pattern failed, and what stands there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamflow.rules.patterns.explanations import explain_mismatch

EVENT: dict[str, Any] = {
    "eventName": "MODIFY",
    "dynamodb": {
        "NewImage": {
            "n": {"N": "12.50"},
            "tags": {"SS": ["a", "b", "c", "d", "e"]},
            "none": {"SS": []},
            "note": {"S": "x" * 100},
            "list": {"L": [{"M": {"a": {"S": "1"}, "b": {"S": "2"}}}, {"M": {"a": {"S": "3"}, "b": {"S": "4"}}}]},
        },
        "OldImage": {"n": {"N": "12.50"}},
        "SizeBytes": 54,
    },
    "flag": True,
    "nothing": None,
}


def why(pattern: dict[str, Any], *, extensions: bool = False) -> tuple[str, ...]:
    return explain_mismatch(json.dumps(pattern), EVENT, extensions=extensions)


def test_nothing_is_to_be_said_of_a_match() -> None:
    assert why({"eventName": ["MODIFY"]}) == ()


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ({"eventName": ["INSERT"]}, "eventName: found a string 'MODIFY', wanted [\"INSERT\"]"),
        (
            {"dynamodb": {"NewImage": {"n": {"N": [{"numeric": [">", 10]}]}}}},
            'dynamodb.NewImage.n.N: found a string \'12.50\', wanted [{"numeric": [">", 10]}]',
        ),
        (
            {"dynamodb": {"NewImage": {"n": ["12.50"]}}},
            'dynamodb.NewImage.n: found an object (with N), wanted ["12.50"]',
        ),
        (
            {"dynamodb": {"NewImage": {"m": {"N": ["1"]}}}},
            'dynamodb.NewImage.m.N: found no m in dynamodb.NewImage, wanted ["1"]',
        ),
        ({"status": ["x"]}, 'status: found no status, wanted ["x"]'),
        ({"eventName": {"S": ["x"]}}, 'eventName.S: found no S in eventName, wanted ["x"]'),
        ({"dynamodb": {"SizeBytes": ["54"]}}, 'dynamodb.SizeBytes: found a number 54, wanted ["54"]'),
        ({"flag": ["true"]}, 'flag: found a boolean true, wanted ["true"]'),
        ({"nothing": [{"exists": False}]}, 'nothing: found null, wanted [{"exists": false}]'),
        (
            {"dynamodb": {"NewImage": {"tags": {"SS": ["x"]}}}},
            "dynamodb.NewImage.tags.SS: found a string 'a', a string 'b', a string 'c' and 2 more, wanted [\"x\"]",
        ),
        (
            {"dynamodb": {"NewImage": {"none": {"SS": ["x"]}}}},
            'dynamodb.NewImage.none.SS: found an empty array, wanted ["x"]',
        ),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_failing_part_is_told_with_what_stands_there(pattern: dict[str, Any], line: str) -> None:
    assert why(pattern) == (line,)


def test_only_failing_parts_are_told() -> None:
    found = why({"eventName": ["MODIFY"], "flag": [False], "status": ["x"]})
    assert [line.partition(":")[0] for line in found] == ["flag", "status"]


def test_long_values_are_cut() -> None:
    (line,) = why({"dynamodb": {"NewImage": {"note": {"S": ["y"]}}}})
    assert "x" * 50 in line
    assert "x" * 61 not in line


def test_branches_of_or_are_told_one_by_one() -> None:
    assert why({"flag": [True], "$or": [{"eventName": ["INSERT"]}, {"nothing": ["x"]}]}) == (
        "$or: none of its 2 branches matches",
        "  1. eventName: found a string 'MODIFY', wanted [\"INSERT\"]",
        '  2. nothing: found null, wanted ["x"]',
    )
    assert why({"flag": [False], "$or": [{"eventName": ["MODIFY"]}, {"nothing": ["x"]}]}) == (
        "flag: found a boolean true, wanted [false]",
    )


def test_parts_that_match_only_in_different_elements_are_told() -> None:
    item = {"M": {"a": {"S": ["1"]}, "b": {"S": ["4"]}}}
    assert why({"dynamodb": {"NewImage": {"list": {"L": item}}}}) == (
        "each part matches, but only in different elements of one array",
    )


def test_changed_tells_both_images() -> None:
    assert why({"dynamodb": {"NewImage": {"n": {"N": [{"changed": True}]}}}}, extensions=True) == (
        "dynamodb.NewImage.n.N: found a string '12.50' and a string '12.50' in OldImage, wanted [{\"changed\": true}]",
    )
    (line,) = why({"dynamodb": {"NewImage": {"tags": [{"changed": False}]}}}, extensions=True)
    assert "found an object (with SS) and nothing in OldImage" in line


def test_control_characters_of_a_record_do_not_reach_the_terminal() -> None:
    event = {"a": "\x1b[2J\u202e", "b\x1b": {"c\x9b": 1}}
    for pattern in ({"a": ["x"]}, {"b\x1b": ["x"]}, {"c\u202e": ["\x9b\u202e"]}):
        assert all(line.isprintable() for line in explain_mismatch(json.dumps(pattern), event))
