"""What is no filter pattern: Lambda's text, our reason, and the place."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

import streamflow.errors
from streamflow.rules.patterns.compiling import PatternError, compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable


def refused(pattern: object, *, extensions: bool = False) -> PatternError:
    text = pattern if isinstance(pattern, str) else json.dumps(pattern)
    with pytest.raises(PatternError) as caught:
        compile_pattern(text, extensions=extensions)
    return caught.value


def test_a_pattern_error_has_lambdas_text_the_reason_and_the_place() -> None:
    error = refused({"a": {"b": [{"prefix": 1}]}})
    assert str(error) == "Invalid filter pattern definition. (prefix takes a string, not a number at a.b)"
    assert (error.reason, error.path) == ("prefix takes a string, not a number", "a.b")
    assert PatternError is streamflow.errors.PatternError


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON: "),
        ("{", "not JSON: "),
        ('{"a": [NaN]}', "not JSON: "),
        ('{"a": ["\\ud800"]}', "not JSON: "),
        ('{"a": ["\ud800"]}', "not JSON: "),
        ('{"a": [1e999]}', "not JSON: "),
        ('{"a": ["x"]} {}', "not JSON: "),
        ("[]", "a pattern is a JSON object"),
        ("null", "a pattern is a JSON object"),
        ('"x"', "a pattern is a JSON object"),
        ("{}", "an empty object"),
    ],
)
def test_a_text_must_be_a_json_object_with_members(text: str, reason: str) -> None:
    assert refused(text).reason.startswith(reason)


@pytest.mark.parametrize(
    ("pattern", "reason", "path"),
    [
        ({"a": {}}, "an empty object", "a"),
        ({"a": []}, "an empty array", "a"),
        ({"a": {"b": "x"}}, "a value outside an array", "a.b"),
        ({"a": None}, "a value outside an array", "a"),
        ({"a": 1}, "a value outside an array", "a"),
        ({"a": [["x"]]}, "an array inside a leaf array", "a"),
        ({"a": [{}]}, "an operator is an object with exactly one key, not 0", "a"),
        ({"a": [{"prefix": "x", "suffix": "y"}]}, "an operator is an object with exactly one key, not 2", "a"),
        ({"a": [{"starts-with": "x"}]}, "unknown operator 'starts-with'", "a"),
        ({"a": [{"Prefix": "x"}]}, "unknown operator 'Prefix'", "a"),
    ],
)
def test_objects_descend_and_arrays_are_leaves(pattern: object, reason: str, path: str) -> None:
    error = refused(pattern)
    assert error.reason.startswith(reason)
    assert error.path == path


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ({"exactly": 1}, "exactly takes a string, not a number"),
        ({"prefix": None}, "prefix takes a string, not null"),
        ({"suffix": ["x"]}, "suffix takes a string, not an array"),
        ({"equals-ignore-case": True}, "equals-ignore-case takes a string, not a boolean"),
        ({"wildcard": {"a": 1}}, "wildcard takes a string, not an object"),
        ({"prefix": {"wildcard": "x"}}, "prefix takes a string or equals-ignore-case, not 'wildcard'"),
        ({"prefix": {"equals-ignore-case": 1}}, "equals-ignore-case takes a string, not a number"),
        ({"suffix": {}}, "the operand of suffix is an object with exactly one key, not 0"),
        ({"wildcard": "a**b"}, "consecutive stars in wildcard at character 1"),
        ({"wildcard": "a\\b"}, "invalid escape in wildcard at character 1"),
        ({"wildcard": "a\\"}, "invalid escape in wildcard at character 1"),
        ({"exists": "true"}, "exists takes true or false, not a string"),
        ({"exists": None}, "exists takes true or false, not null"),
    ],
)
def test_operators_of_strings_and_exists_refuse_other_operands(condition: object, reason: str) -> None:
    assert refused({"a": [condition]}).reason.startswith(reason)


@pytest.mark.parametrize(
    ("operand", "reason"),
    [
        (None, "anything-but takes a string, a number, or a list"),
        (True, "anything-but takes a string, a number, or a list"),
        ([], "an empty list inside anything-but"),
        (["x", 1], "anything-but takes a string, a number, or a list"),
        (["x", None], "anything-but takes a string, a number, or a list"),
        ([1, True], "anything-but takes a string, a number, or a list"),
        ([["x"]], "anything-but takes a string, a number, or a list"),
        ({}, "the operand of anything-but is an object with exactly one key, not 0"),
        ({"prefix": ""}, "an empty prefix inside anything-but would never match"),
        ({"suffix": ["x", ""]}, "an empty suffix inside anything-but would never match"),
        ({"prefix": []}, "an empty list inside anything-but"),
        ({"prefix": 1}, "prefix takes a string, not a number"),
        ({"prefix": {"equals-ignore-case": "x"}}, "prefix takes a string, not an object"),
        ({"equals-ignore-case": ["x", 1]}, "equals-ignore-case takes a string, not a number"),
        ({"wildcard": "**"}, "consecutive stars"),
        ({"numeric": ["=", 1]}, "anything-but takes prefix, suffix, equals-ignore-case, wildcard, not 'numeric'"),
    ],
)
def test_anything_but_refuses_mixtures_and_what_it_cannot_negate(operand: object, reason: str) -> None:
    assert refused({"a": [{"anything-but": operand}]}).reason.startswith(reason)


@pytest.mark.parametrize(
    ("operand", "reason"),
    [
        (5, "numeric takes an array"),
        ([], "numeric takes an array"),
        ([">"], "numeric takes an array"),
        ([">", 1, "<"], "numeric takes an array"),
        ([">", 1, "<", 5, "<", 7], "numeric takes an array"),
        (["!=", 1], "a comparison of numeric is one of"),
        ([1, ">"], "a comparison of numeric is one of"),
        ([[], 1], "a comparison of numeric is one of"),
        ([">", "1"], "> in numeric takes a number, not a string"),
        (["=", True], "= in numeric takes a number, not a boolean"),
        (["<", 1, ">", 0], "< in numeric stands alone"),
        (["<=", 1, "<", 5], "<= in numeric stands alone"),
        (["=", 1, "<", 5], "= in numeric stands alone"),
        ([">", 1, ">", 5], "a lower bound in numeric is followed by < or <=, not by >"),
        ([">=", 1, "=", 5], "a lower bound in numeric is followed by < or <=, not by ="),
        ([">", 5, "<", 5], "the lower bound in numeric is not below the upper one"),
        ([">=", 6, "<=", 5], "the lower bound in numeric is not below the upper one"),
    ],
)
def test_numeric_is_one_comparison_or_a_range(operand: object, reason: str) -> None:
    assert refused({"a": [{"numeric": operand}]}).reason.startswith(reason)


@pytest.mark.parametrize(
    "operand",
    [
        "10.0.0.0",
        "10.0.0.0/",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.0/-1",
        "10.0.0.0/255.0.0.0",
        "x/8",
        "fe80::1%eth0/64",
        "/8",
    ],
)
def test_cidr_takes_an_address_and_mask_bits(operand: str) -> None:
    assert refused({"a": [{"cidr": operand}]}).reason.startswith("cidr takes ")


@pytest.mark.parametrize(
    "value", [{"a": ["x"]}, "x", 1, [], [{"a": ["x"]}], [{"a": ["x"]}, "x"], ["x", "y"], [{"a": ["x"]}, ["x"]]]
)
def test_or_takes_an_array_of_at_least_two_objects(value: object) -> None:
    error = refused({"b": {"$or": value}})
    assert (error.reason, error.path) == ("$or takes an array of at least two objects", "b.$or")


def test_an_operators_name_deep_inside_or_is_no_field() -> None:
    error = refused({"$or": [{"a": {"prefix": {"b": ["x"]}}}, {"c": ["x"]}]})
    assert error.reason == "'prefix' names an operator and cannot be a field inside $or"
    assert error.path == "a"


def test_or_makes_at_most_1000_combinations() -> None:
    ten = [{str(number): [1]} for number in range(10)]
    compile_pattern(json.dumps({name: {"$or": ten} for name in "abc"}))
    thousand_and_more = {**{name: {"$or": ten} for name in "abc"}, "d": {"$or": ten[:2]}}
    assert refused(thousand_and_more).reason == "$or makes 2000 combinations: at most 1000 are allowed"


def test_a_pattern_has_at_most_4096_characters() -> None:
    compile_pattern(json.dumps({"a": ["x" * (4096 - len('{"a": [""]}'))]}))
    assert refused({"a": ["x" * 4096]}).reason == "4107 characters: a pattern has at most 4096"


@pytest.mark.parametrize(
    "pattern", [{"dynamodb": {"NewImage": {"a": [{"changed": True}]}}}, {"a": [{"changed": False}]}]
)
def test_without_extensions_changed_is_unknown_and_the_reason_names_the_option(pattern: object) -> None:
    reason = refused(pattern).reason
    assert reason.startswith("unknown operator 'changed'")
    assert "filter_extensions" in reason


@pytest.mark.parametrize(
    "path", [["eventName"], ["dynamodb"], ["dynamodb", "NewImage"], ["dynamodb", "OldImage", "a", "S"]]
)
def test_changed_stands_below_the_new_image(path: list[str]) -> None:
    error = refused({".".join(path): [{"changed": True}]}, extensions=True)
    assert error.reason == "changed stands at a path below dynamodb.NewImage"


def test_changed_takes_a_boolean() -> None:
    reason = refused({"dynamodb": {"NewImage": {"a": [{"changed": "yes"}]}}}, extensions=True).reason
    assert reason == "changed takes true or false, not a string"


def test_a_place_shows_nothing_that_a_terminal_would_obey() -> None:
    assert str(refused({"a\x1b[2J": {"": []}})).isprintable()
    assert str(refused({"a": [{"\x1b[2J": 1}]})).isprintable()


# --- hostile patterns and events -------------------------------------------------------------------------------------


def calls(function: Callable[[], object]) -> int:
    """How many calls a function makes, directly and indirectly: time without a clock."""
    counted = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal counted
        counted += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return counted


def nested(depth: int, leaf: object, key: str = "a") -> Any:
    for _ in range(depth):
        leaf = {key: leaf}
    return leaf


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 680 + "[1]" + "}" * 680,
        '{"a":' * 2000 + "1",
        '{"a":' + "[" * 4000,
        '{"a":' + "[" * 2000 + "]" * 2000 + "}",
        '{"$or":[' * 300 + '{"a":[1]}' + "]}" * 300,
        '{"' + "." * 2000 + '":[1]}',
    ],
)
def test_deep_patterns_are_refused(text: str) -> None:
    assert len(text) < 4096 or text.endswith("1")
    reason = refused(text).reason
    assert "nested deeper" in reason or "not JSON" in reason or "characters" in reason


def test_depth_1000_is_refused_before_anything_recurses() -> None:
    assert refused('{"":' * 800 + "[1]" + "}" * 100).reason.startswith("not JSON")
    assert refused('{"":' * 450 + "[1]" + "}" * 450).reason == "nested deeper than 100 levels"


def test_the_deepest_pattern_matches_the_deepest_event() -> None:
    pattern = json.dumps(nested(99, [1]))
    matches = compile_pattern(pattern)
    assert matches(nested(99, 1))
    assert not matches(nested(98, 1))
    event: Any = 1
    for _ in range(99):
        event = {"a": [[event], []]}
    assert matches(event)


def test_or_nests_as_deep_as_anything() -> None:
    pattern: Any = {"b": [1]}
    for number in range(49):
        pattern = {"$or": [{f"a{number}": [1]}, pattern]}
    assert compile_pattern(json.dumps(pattern))({"b": 1})
    assert not compile_pattern(json.dumps(pattern))({"b": 2})


@pytest.mark.fault("F11")
def test_an_event_of_any_depth_is_no_error() -> None:
    deep_object: Any = nested(20_000, 1)
    deep_array: Any = [1]
    for _ in range(20_000):
        deep_array = [deep_array]
    dotted = {".".join("a" * 10_000): 1}
    pattern = json.dumps({"a": {"a": {"a": [2]}}, "$or": [{"a": {"b": [1]}}, {"c": [1]}]})
    for event in (deep_object, dotted, {"a": deep_array}, {"a": {"a": deep_array}}):
        assert not compile_pattern(pattern)(event)
    assert compile_pattern('{"a": [1]}')({"a": deep_array})
    changed = compile_pattern('{"dynamodb": {"NewImage": {"a": [{"changed": true}]}}}', extensions=True)
    assert not changed({"dynamodb": {"NewImage": deep_object, "OldImage": nested(20_000, 1)}})
    assert changed({"dynamodb": {"NewImage": deep_object, "OldImage": nested(20_000, 2)}})


class Watched(str):
    """A string that counts the characters that searches in it may look at."""

    __slots__ = ("looked_at",)

    def find(self, part: str, start: Any = 0, end: Any = None) -> int:
        found = super().find(part, start, end)
        self.looked_at = getattr(self, "looked_at", 0) + ((found if found >= 0 else end) - start + len(part))
        return found


@pytest.mark.parametrize("ending", ["", "b"])
def test_a_wildcard_looks_at_each_character_a_few_times_only(ending: str) -> None:
    matches = compile_pattern(json.dumps({"a": [{"wildcard": "*a" * 2_000 + "*" + ending}]}))
    value = Watched("a" * 100_000)
    assert matches({"a": value}) == (not ending)
    assert getattr(value, "looked_at", 0) <= 3 * len(value)
    apart = Watched("ab" * 50_000)
    assert matches({"a": apart})
    assert apart.looked_at <= 3 * len(apart)


def test_a_wildcard_that_fails_late_does_not_go_back() -> None:
    matches = compile_pattern(json.dumps({"a": [{"wildcard": "*a" * 1_000 + "*c*"}]}))
    value = Watched("ab" * 50_000)
    assert not matches({"a": value})
    assert value.looked_at <= 3 * len(value)


def test_compiling_or_costs_no_more_than_the_text_is_long() -> None:
    def text(branches: int) -> str:
        return json.dumps({"$or": [{"a": [number]} for number in range(branches)]}, separators=(",", ":"))

    small, large = (calls(lambda n=n: compile_pattern(text(n))) for n in (150, 300))  # type: ignore[misc]
    assert len(text(300)) < 4096
    assert large < 2.5 * small


def test_combinations_are_counted_without_being_made() -> None:
    choice = [{"a": [1]}, {"b": [1]}]
    pattern = {f"{number}": {"$or": choice} for number in range(100)}
    assert calls(lambda: refused(json.dumps(pattern, separators=(",", ":")))) < 50_000


def test_the_combinations_on_an_event_full_of_arrays_cost_no_more_than_its_size() -> None:
    pattern: dict[str, Any] = {"end": [1]}
    for _ in range(9):
        pattern = {"$or": [{"x": [1]}, {"y": [1]}], "m": pattern}

    def event(fillers: int) -> dict[str, Any]:
        """Each part matches on its own in some element, and in none together with the next one."""
        below: Any = {"end": 1}
        for _ in range(9):
            below = [{"x": 1}, {"y": 1}, *[{"z": 1}] * fillers, {"m": below}]
        return {"a": below}

    matches = compile_pattern(json.dumps({"a": pattern}))
    assert not matches(event(1)), "compiles all 512 combinations"
    small, large = (calls(lambda n=n: matches(event(n))) for n in (10, 20))  # type: ignore[misc]
    assert large < 2.5 * small
    assert small < 512 * 9 * 13 * 20
