"""What filter patterns match: each operator, arrays, paths, `$or`, and what AWS was seen to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamflow.rules.patterns.compiling import compile_pattern


def matches(pattern: dict[str, Any], event: dict[str, Any], *, extensions: bool = False) -> bool:
    return compile_pattern(json.dumps(pattern), extensions=extensions)(event)


def holds(condition: object, value: object) -> bool:
    return matches({"a": [condition]}, {"a": value})


def change(
    new: dict[str, Any] | None = None, old: dict[str, Any] | None = None, *, name: str = "MODIFY"
) -> dict[str, Any]:
    """A record in the form that is filtered."""
    images = {"NewImage": new, "OldImage": old}
    return {
        "eventID": "7de3041dd709b024af6f29e4fa13d34c",
        "eventName": name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "dynamodb": {
            "ApproximateCreationDateTime": 1764085200.0,
            "Keys": {"id": {"S": "1"}},
            **{image: item for image, item in images.items() if item is not None},
            "SequenceNumber": "1100000000017450224518",
            "SizeBytes": 54,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": "arn:aws:dynamodb:us-east-1:123456789012:table/T/stream/2025-11-25T16:08:24.123",
    }


# --- operators -------------------------------------------------------------------------------------------------------

MATCHING: list[tuple[object, list[object], list[object]]] = [
    ("x", ["x"], ["X", "xx", "", 1, None, True]),
    ("", [""], ["x", None, 0, False]),
    (None, [None], ["", "null", 0, False]),
    (True, [True], [False, 1, "true", None]),
    (False, [False], [True, 0, "", None]),
    (300, [300, 300.0, 3.0e2], [301, "300", True, None]),
    (1, [1, 1.0], [True, "1"]),
    (0, [0, -0.0], [False, "", None]),
    (3.0e2, [300], [300.5]),
    (9007199254740993, [9007199254740992, 9007199254740993.0], [9007199254740996]),
    ({"exactly": "x"}, ["x"], ["X", 1]),
    ({"prefix": "ab"}, ["ab", "abc"], ["Ab", "b", "", 1, None]),
    ({"prefix": ""}, ["", "x"], [1, None]),
    ({"suffix": "yz"}, ["yz", "xyz"], ["yZ", "y", 1]),
    ({"prefix": {"equals-ignore-case": "Ab"}}, ["aB", "ABC"], ["b", 1]),
    ({"suffix": {"equals-ignore-case": "Yz"}}, ["yZ", "XYZ"], ["y", 1]),
    ({"equals-ignore-case": "aBc"}, ["ABC", "abc"], ["abcd", 1, None]),
    ({"wildcard": "a*b*"}, ["ab", "a-b-", "abb"], ["ba", "xab", "a", 1]),
    ({"wildcard": "*"}, ["", "x"], [1, None]),
    ({"wildcard": "*.png"}, [".png", "a.png"], ["a.png ", "png"]),
    ({"wildcard": "ab*ba"}, ["abba", "ab-ba"], ["aba", "ab"]),
    ({"wildcard": "a"}, ["a"], ["aa", "", 1]),
    ({"wildcard": r"1\*2*"}, ["1*2", "1*23"], ["1x2", r"1\*2"]),
    ({"wildcard": r"a\\*"}, ["a\\", r"a\b"], ["a", "ab"]),
    ({"wildcard": "*a*b*a*"}, ["aba", "xaxbxax"], ["ab", "baa"]),
    ({"anything-but": "x"}, ["y", "X", 1, True, None], ["x"]),
    ({"anything-but": ["x", "y"]}, ["z"], ["x", "y"]),
    ({"anything-but": 5}, [6, "5", None], [5, 5.0]),
    ({"anything-but": [5, 6.5]}, [7], [5, 6.5]),
    ({"anything-but": {"prefix": "a"}}, ["ba", 1], ["a", "ab"]),
    ({"anything-but": {"prefix": ["a", "b"]}}, ["ca"], ["ab", "ba"]),
    ({"anything-but": {"suffix": "a"}}, ["ab"], ["a", "ba"]),
    ({"anything-but": {"suffix": ["a", "b"]}}, ["c"], ["ca", "cb"]),
    ({"anything-but": {"equals-ignore-case": "Ab"}}, ["abc"], ["ab", "AB"]),
    ({"anything-but": {"equals-ignore-case": ["a", "b"]}}, ["c"], ["A", "B"]),
    ({"anything-but": {"wildcard": "a*"}}, ["b"], ["a", "ab"]),
    ({"anything-but": {"wildcard": ["a*", "*b"]}}, ["c"], ["ac", "cb"]),
    ({"numeric": ["=", 5]}, [5, 5.0], [6, "5", True, None]),
    ({"numeric": [">", 5]}, [5.1], [5, 4]),
    ({"numeric": [">=", 5]}, [5, 6], [4.9]),
    ({"numeric": ["<", 5]}, [4.9, -1], [5]),
    ({"numeric": ["<=", 5]}, [5], [5.1]),
    ({"numeric": [">", 0, "<=", 5]}, [0.1, 5], [0, 5.1]),
    ({"numeric": [">=", -5e9, "<", 1e300]}, [-5e9, 0], [-6e9, 1e300]),
    ({"exists": True}, ["x", "", 0, False, None], []),
    ({"exists": False}, [], ["x", "", 0, False, None]),
    ({"cidr": "10.0.0.0/24"}, ["10.0.0.0", "10.0.0.255"], ["10.0.1.0", "10.0.0.0/24", "x", "::a00:1", 1, None]),
    ({"cidr": "10.0.0.77/24"}, ["10.0.0.1"], ["10.0.1.1"]),
    ({"cidr": "10.0.0.7/32"}, ["10.0.0.7"], ["10.0.0.8"]),
    ({"cidr": "2001:db8::/32"}, ["2001:db8::1", "2001:0DB8:0::ff"], ["2001:db9::1", "10.0.0.1", "2001:db8::1%eth0"]),
    ({"cidr": "0.0.0.0/0"}, ["255.255.255.255"], ["::1", "1.2.3", "01.2.3.4"]),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "yes", "no"), MATCHING, ids=[json.dumps(row[0]) for row in MATCHING])
def test_an_operator_asks_exactly_this_of_a_value(condition: object, yes: list[object], no: list[object]) -> None:
    assert [value for value in yes if not holds(condition, value)] == []
    assert [value for value in no if holds(condition, value)] == []


@pytest.mark.parametrize("condition", [row[0] for row in MATCHING], ids=json.dumps)
def test_only_exists_false_matches_what_is_not_there(condition: object) -> None:
    assert matches({"a": [condition]}, {"b": "x"}) == (condition == {"exists": False})


def test_one_of_the_values_of_a_leaf_is_enough() -> None:
    pattern = {"a": ["x", 5, {"prefix": "y"}, None]}
    assert [matches(pattern, {"a": value}) for value in ("x", 5.0, "yy", None, "z")] == [True, True, True, True, False]
    assert not matches(pattern, {})


def test_a_leaf_may_allow_a_value_or_nothing() -> None:
    pattern = {"a": ["x", {"exists": False}]}
    assert [matches(pattern, event) for event in ({}, {"a": "x"}, {"a": "y"})] == [True, True, False]


@pytest.mark.fault("F9")
def test_numbers_beyond_all_doubles_are_compared_without_error() -> None:
    assert matches({"a": [{"numeric": [">", 1]}]}, {"a": 10**400})
    assert not matches({"a": [{"numeric": [">", 1]}]}, {"a": -(10**400)})
    assert not matches({"a": [5]}, {"a": 10**400})


# --- paths and arrays ------------------------------------------------------------------------------------------------


def test_fields_of_a_pattern_must_all_match_and_others_do_not_matter() -> None:
    pattern = {"a": ["x"], "b": {"c": ["y"]}}
    assert matches(pattern, {"a": "x", "b": {"c": "y", "d": 1}, "e": 2})
    assert not matches(pattern, {"a": "x", "b": {"c": "z"}})
    assert not matches(pattern, {"a": "x"})
    assert not matches(pattern, {"a": "x", "b": "y"})


@pytest.mark.parametrize("value", ["x", None, 5, ["x"], [], {}, {"b": {}}, {"b": {"d": 1}}])
def test_exists_false_asks_that_nothing_is_at_the_leaf(value: object) -> None:
    assert matches({"a": {"b": {"c": [{"exists": False}]}}}, {"a": value})
    assert not matches({"a": {"b": {"c": [{"exists": False}]}}}, {"a": {"b": {"c": None}}})


def test_an_object_is_no_leaf() -> None:
    assert not matches({"a": [{"exists": True}]}, {"a": {"b": 1}})
    assert matches({"a": [{"exists": False}]}, {"a": {"b": 1}})
    assert not matches({"a": [{"anything-but": "x"}]}, {"a": {}})


def test_a_leaf_matches_if_any_element_of_an_array_does() -> None:
    assert matches({"a": ["x"]}, {"a": ["w", "x"]})
    assert matches({"a": ["x"]}, {"a": [["w"], [["x"]]]})
    assert not matches({"a": ["x"]}, {"a": ["w"]})
    assert matches({"a": [{"anything-but": "x"}]}, {"a": ["x", "y"]})
    assert not matches({"a": [{"anything-but": "x"}]}, {"a": ["x", "x"]})


@pytest.mark.parametrize("empty", [[], [[]], [[], [[]]]])
def test_an_empty_array_contributes_no_value(empty: object) -> None:
    assert not matches({"a": [{"exists": True}]}, {"a": empty})
    assert matches({"a": [{"exists": False}]}, {"a": empty})
    assert not matches({"a": [{"anything-but": "x"}]}, {"a": empty})


def test_arrays_are_crushed_out_of_paths() -> None:
    event = {"a": [{"b": 1}, {"b": [2, {"c": 3}]}]}
    assert matches({"a": {"b": [1]}}, event)
    assert matches({"a": {"b": [2]}}, event)
    assert matches({"a": {"b": {"c": [3]}}}, event)
    assert not matches({"a": {"b": [3]}}, event)


def test_two_fields_do_not_match_out_of_different_elements() -> None:
    pattern = {"people": {"name": ["Ada"], "city": ["London"]}}
    assert matches(pattern, {"people": [{"name": "Zoë"}, {"name": "Ada", "city": "London"}]})
    assert not matches(pattern, {"people": [{"name": "Ada", "city": "Paris"}, {"name": "Zoë", "city": "London"}]})


def test_elements_of_different_arrays_are_chosen_independently() -> None:
    pattern = {"a": {"x": [1]}, "b": {"y": [2]}}
    assert matches(pattern, {"a": [{"x": 0}, {"x": 1}], "b": [{"y": 2}, {"y": 0}]})


def test_absence_is_asked_of_the_elements_that_the_rest_of_the_pattern_chose() -> None:
    pattern = {"a": {"b": [{"exists": False}], "c": [1]}}
    assert matches(pattern, {"a": [{"b": 1}, {"c": 1}]})
    assert not matches(pattern, {"a": [{"b": 1, "c": 1}, {}]})
    assert not matches({"a": {"b": [{"exists": False}]}}, {"a": [{"b": 1}, {}]})


def test_dotted_keys_are_nested_keys() -> None:
    event = {"a": {"b": {"c": "x"}}}
    assert all(matches(pattern, event) for pattern in ({"a.b.c": ["x"]}, {"a": {"b.c": ["x"]}}, {"a.b": {"c": ["x"]}}))


def test_an_attribute_with_dots_in_its_name_is_found() -> None:
    image = {"user": {"M": {"id": {"S": "1"}}}, "user.age": {"N": "7"}, "user.name.first": {"S": "Ada"}}
    pattern = {"user.age": {"N": ["7"]}, "user.name.first": {"S": ["Ada"]}, "user": {"M": {"id": {"S": ["1"]}}}}
    assert matches({"dynamodb": {"NewImage": pattern}}, change(image))
    assert not matches({"dynamodb": {"NewImage": {"user.age": {"N": ["8"]}}}}, change(image))
    assert not matches({"dynamodb": {"NewImage": {"user.age": {"N": [{"exists": False}]}}}}, change(image))


def test_of_two_spellings_of_a_key_the_nested_one_counts() -> None:
    event = {"a": {"b": "x"}, "a.b": "y"}
    assert matches({"a": {"b": ["x"]}}, event)
    assert not matches({"a": {"b": ["y"]}}, event)
    assert matches({"a": {"b": ["x"], "c": [{"exists": False}]}}, event)


def test_of_a_key_or_path_that_is_given_twice_the_last_one_counts() -> None:
    assert compile_pattern('{"a": ["x"], "a": ["y"]}')({"a": "y"})
    assert not compile_pattern('{"a": ["x"], "a": ["y"]}')({"a": "x"})
    assert compile_pattern('{"a": {"b": ["x"]}, "a.b": ["y"]}')({"a": {"b": "y"}})


# --- $or -------------------------------------------------------------------------------------------------------------


def test_one_branch_of_or_and_all_siblings_must_match() -> None:
    pattern = {"a": ["x"], "$or": [{"b": [1]}, {"c": [2], "d": [3]}]}
    assert matches(pattern, {"a": "x", "b": 1})
    assert matches(pattern, {"a": "x", "c": 2, "d": 3})
    assert not matches(pattern, {"a": "x", "c": 2})
    assert not matches(pattern, {"a": "y", "b": 1})


def test_or_nests_and_stands_below_keys() -> None:
    pattern = {"a": {"$or": [{"b": [1]}, {"$or": [{"c": [2]}, {"d": {"e": [3]}}]}]}}
    assert matches(pattern, {"a": {"b": 1}})
    assert matches(pattern, {"a": {"c": 2}})
    assert matches(pattern, {"a": {"d": {"e": 3}}})
    assert not matches(pattern, {"a": {"e": 3}, "b": 1})


def test_a_branch_and_its_sibling_on_the_same_path_must_both_match() -> None:
    pattern = {"a": [{"prefix": "x"}], "$or": [{"a": [{"suffix": "y"}]}, {"b": [1]}]}
    assert matches(pattern, {"a": "xy"})
    assert matches(pattern, {"a": "x", "b": 1})
    assert not matches(pattern, {"a": "y"})


def test_branches_and_siblings_do_not_match_out_of_different_elements() -> None:
    pattern = {"a": {"x": [1]}, "$or": [{"a": {"y": [2]}}, {"b": [3]}]}
    assert matches(pattern, {"a": [{"x": 1, "y": 2}]})
    assert not matches(pattern, {"a": [{"x": 1}, {"y": 2}]})
    assert matches(pattern, {"a": [{"x": 1}, {"y": 2}], "b": 3})


def test_a_branch_can_choose_the_element_in_which_something_is_absent() -> None:
    pattern = {"a": {"x": [{"exists": False}]}, "$or": [{"a": {"y": [2]}}, {"b": [3]}]}
    assert matches(pattern, {"a": [{"x": 1}, {"y": 2}]})
    assert not matches(pattern, {"a": [{"x": 1}, {"y": 4}]})


@pytest.mark.parametrize("reserved", ["prefix", "anything-but", "<=", "regex", "date-before"])
def test_operator_names_in_its_objects_make_or_an_ordinary_key(reserved: str) -> None:
    text = json.dumps({"$or": [{"prefix": "x"}, {"exists": False}]})
    assert compile_pattern(text)({"$or": "xy"})
    assert compile_pattern(text)({})
    assert not compile_pattern(text)({"$or": "y"})
    assert matches({"$or": [{"a": [{"prefix": "x"}]}, {"b": [1]}]}, {"a": "x"}), "in a leaf it is an operator"


# --- DynamoDB --------------------------------------------------------------------------------------------------------


def test_vector_16_exists_false_at_an_attribute_matches_all_records() -> None:
    pattern = {"dynamodb": {"NewImage": {"a": [{"exists": False}]}}}
    assert matches(pattern, change({"b": {"S": "x"}}))
    assert matches(pattern, change({"a": {"S": "x"}}))
    assert matches(pattern, change(None, {"a": {"S": "x"}}, name="REMOVE"))


def test_exists_true_at_an_attribute_never_matches() -> None:
    pattern = {"dynamodb": {"NewImage": {"a": [{"exists": True}]}}}
    assert not matches(pattern, change({"a": {"S": "x"}}))
    assert not matches(pattern, change({"b": {"S": "x"}}))


def test_exists_at_the_type_of_an_attribute_does_what_it_says() -> None:
    there, absent = ({"dynamodb": {"NewImage": {"a": {"S": [{"exists": wanted}]}}}} for wanted in (True, False))
    with_a, without_a, other_type = change({"a": {"S": "x"}}), change({"b": {"S": "x"}}), change({"a": {"N": "1"}})
    assert [matches(there, event) for event in (with_a, without_a, other_type)] == [True, False, False]
    assert [matches(absent, event) for event in (with_a, without_a, other_type)] == [False, True, True]


@pytest.mark.parametrize("number", ["101", "100", "0", "-1"])
def test_vector_17_numeric_never_matches_an_attribute_of_type_n(number: str) -> None:
    for condition in ({"numeric": [">", 100]}, {"numeric": ["<", 1e9]}, {"numeric": ["=", int(number)]}, int(number)):
        assert not matches({"dynamodb": {"NewImage": {"n": {"N": [condition]}}}}, change({"n": {"N": number}}))


def test_strings_prefixes_and_anything_but_work_on_type_n() -> None:
    event = change({"n": {"N": "42"}})
    for condition in ("42", {"prefix": "4"}, {"anything-but": "101"}):
        assert matches({"dynamodb": {"NewImage": {"n": {"N": [condition]}}}}, event)


def test_an_attribute_without_its_type_never_matches() -> None:
    assert not matches({"dynamodb": {"NewImage": {"status": ["paid"]}}}, change({"status": {"S": "paid"}}))


def test_every_attribute_type_can_be_reached() -> None:
    image = {
        "s": {"S": "x"}, "flag": {"BOOL": True}, "nothing": {"NULL": True}, "tags": {"SS": ["a", "b"]},
        "numbers": {"NS": ["1", "2"]}, "map": {"M": {"k": {"S": "v"}}}, "list": {"L": [{"S": "x"}, {"N": "7"}]},
        "binary": {"B": "Zm9v"},
    }  # fmt: skip
    pattern = {
        "s": {"S": ["x"]}, "flag": {"BOOL": [True]}, "nothing": {"NULL": [True]}, "tags": {"SS": ["b"]},
        "numbers": {"NS": ["2"]}, "map": {"M": {"k": {"S": ["v"]}}}, "list": {"L": {"N": ["7"]}}, "binary": {"B": ["Zm9v"]},
    }  # fmt: skip
    assert matches({"dynamodb": {"NewImage": pattern}}, change(image))
    for name, leaf in pattern.items():
        assert not matches({"dynamodb": {"NewImage": {name: leaf}}}, change({name: {"S": "other"}}))


def test_the_envelope_can_be_filtered() -> None:
    event = {**change(None, {"id": {"S": "1"}}, name="REMOVE"), "userIdentity": {"type": "Service", "principalId": "x"}}
    assert matches({"eventName": ["REMOVE"], "eventSource": ["aws:dynamodb"]}, event)
    assert matches({"userIdentity": {"type": ["Service"], "principalId": ["x"]}}, event)
    assert not matches({"userIdentity": {"type": ["Service"]}}, change({}))
    assert matches({"dynamodb": {"ApproximateCreationDateTime": [{"numeric": [">", 1764085199]}]}}, event)
    assert matches({"dynamodb": {"SizeBytes": [54]}}, event)


# --- extensions ------------------------------------------------------------------------------------------------------


def typed(condition: object, number: str, *, image: str = "NewImage") -> bool:
    event = change({"n": {"N": number}}, {"n": {"N": number}})
    return matches({"dynamodb": {image: {"n": {"N": [condition]}}}}, event, extensions=True)


def test_numeric_compares_numbers_of_type_n_exactly() -> None:
    assert typed({"numeric": [">", 100]}, "101")
    assert not typed({"numeric": [">", 100]}, "99.9")
    assert typed({"numeric": ["=", 0.1]}, "0.1")
    assert typed({"numeric": ["=", 0.1]}, "1E-1", image="OldImage")
    assert typed({"numeric": [">=", -1, "<", 0]}, "-0.5")
    digits = "12345678901234567890123456789012345678"
    assert typed({"numeric": ["=", int(digits)]}, digits)
    assert not typed({"numeric": ["=", int(digits)]}, digits[:-1] + "9")


def test_an_operand_of_numeric_keeps_all_its_digits() -> None:
    text = '{"dynamodb": {"NewImage": {"n": {"N": [{"numeric": ["=", 0.12345678901234567890123456789]}]}}}}'
    exact = compile_pattern(text, extensions=True)
    assert exact(change({"n": {"N": "0.12345678901234567890123456789"}}))
    assert not exact(change({"n": {"N": "0.12345678901234567890123456788"}}))


@pytest.mark.parametrize(
    "text", ["", "x", "NaN", "Infinity", "1_000", " 1", "1 ", "٣", "0x10", "1e9999999", "1" * 5000]
)
def test_what_is_no_decimal_number_matches_no_numeric(text: str) -> None:
    assert not typed({"numeric": [">", -5e9]}, text)
    assert not typed({"numeric": ["<=", 5e9]}, text)


def test_typed_numbers_are_those_of_type_n_below_keys_and_images() -> None:
    for path in (["dynamodb", "NewImage", "n", "S"], ["dynamodb", "NewImage", "N"], ["other", "NewImage", "n", "N"]):
        pattern: Any = [{"numeric": [">", 1]}]
        event: Any = "2"
        for key in reversed(path):
            pattern, event = {key: pattern}, {key: event}
        assert not matches(pattern, event, extensions=True), path
    nested = {"M": {"a": {"L": [{"N": "2"}]}}}
    pattern = {"dynamodb": {"NewImage": {"n": {"M": {"a": {"L": {"N": [{"numeric": ["=", 2]}]}}}}}}}
    assert matches(pattern, change({"n": nested}), extensions=True)


def changed(
    path: str, new: dict[str, Any] | None, old: dict[str, Any] | None, *, wanted: bool = True, beside: Any = None
) -> bool:
    leaf = [{"changed": wanted}] if beside is None else [{"changed": wanted}, beside]
    return matches({f"dynamodb.NewImage.{path}": leaf}, change(new, old), extensions=True)


def test_changed_compares_new_and_old_at_a_path() -> None:
    paid, open_ = {"status": {"S": "paid"}}, {"status": {"S": "open"}}
    for path in ("status", "status.S"):
        assert changed(path, paid, open_)
        assert not changed(path, paid, paid)
        assert changed(path, paid, paid, wanted=False)
        assert not changed(path, paid, open_, wanted=False)


def test_absent_differs_from_present_and_not_from_absent() -> None:
    paid: dict[str, Any] = {"status": {"S": "paid"}}
    assert changed("status", paid, {})
    assert changed("status", paid, None)
    assert changed("status", None, paid)
    assert changed("status.S", {"status": {"N": "1"}}, paid)
    assert not changed("status", {}, None)
    assert changed("status", None, None, wanted=False)


def test_changed_compares_sets_as_sets_and_lists_in_order() -> None:
    assert not changed("tags", {"tags": {"SS": ["a", "b"]}}, {"tags": {"SS": ["b", "a"]}})
    assert not changed("tags.SS", {"tags": {"SS": ["a", "b"]}}, {"tags": {"SS": ["b", "a"]}})
    assert changed("tags", {"tags": {"SS": ["a", "b"]}}, {"tags": {"SS": ["a"]}})
    assert changed("list", {"list": {"L": [{"S": "a"}, {"S": "b"}]}}, {"list": {"L": [{"S": "b"}, {"S": "a"}]}})
    assert not changed("map", {"map": {"M": {"t": {"NS": ["1", "2"]}}}}, {"map": {"M": {"t": {"NS": ["2", "1"]}}}})


def test_a_value_of_another_json_type_differs() -> None:
    assert changed("a", {"a": {"BOOL": True}}, {"a": {"BOOL": 1}})
    assert changed("a", {"a": {"M": {}}}, {"a": {"M": []}})
    assert changed("a.M", {"a": {"M": {}}}, {"a": {"M": None}})


def test_changed_goes_into_maps_and_through_lists() -> None:
    def item(city: str, *quantities: str) -> dict[str, Any]:
        return {"at": {"M": {"city": {"S": city}}}, "lines": {"L": [{"M": {"n": {"N": n}}} for n in quantities]}}

    assert changed("at.M.city", item("Paris"), item("Rome"))
    assert not changed("at.M.zip", item("Paris"), item("Rome"))
    assert changed("lines.L.M.n.N", item("Rome", "1", "2"), item("Rome", "1", "3"))
    assert not changed("lines.L.M.n.N", item("Rome", "1", "2"), item("Paris", "1", "2"))


def test_changed_is_one_condition_among_others() -> None:
    new, old = {"status": {"S": "paid"}, "x": {"N": "1"}}, {"status": {"S": "open"}, "x": {"N": "1"}}
    assert changed("status.S", new, new, beside="paid")
    assert changed("status.S", new, old, beside="never")
    assert not changed("status.S", new, new, beside="never")
    both = {"dynamodb": {"NewImage": {"status": [{"changed": True}], "x": {"N": ["1"]}}}, "eventName": ["MODIFY"]}
    assert matches(both, change(new, old), extensions=True)
    assert not matches(both, change(new, new), extensions=True)
    assert not matches(both, change({**new, "x": {"N": "2"}}, old), extensions=True)
