"""Patterns compile or are refused, whatever they are; and they match what a matcher that knows no shortcut matches."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import suppress
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.errors import PatternError
from streamflow.rules.patterns.compiling import compile_pattern
from streamflow.rules.patterns.explanations import explain_mismatch
from streamflow.rules.patterns.traps import explain_traps

if TYPE_CHECKING:
    from collections.abc import Iterator

# --- any text --------------------------------------------------------------------------------------------------------

OPERATORS = [
    "exactly", "prefix", "suffix", "equals-ignore-case", "anything-but", "wildcard", "numeric", "exists", "cidr", "changed",
    "no-such-operator",
]  # fmt: skip
SCALARS: list[Any] = [
    "", "a", "a*b", "**", "\\", "\\*", "10.0.0.0/8", "::/0", "<", ">", "=", ">=", 0, 1, -1.5, 3e2, 10**30, True, False, None,
]  # fmt: skip
CONDITIONS: list[Any] = [
    {"exactly": "a"}, {"prefix": ""}, {"suffix": {"equals-ignore-case": "A"}}, {"equals-ignore-case": "B"}, {"wildcard": "*"},
    {"wildcard": "a*\\\\*b"}, {"numeric": ["=", 1]}, {"numeric": [">", -1, "<=", 3e2]}, {"exists": True}, {"exists": False},
    {"exists": False}, {"cidr": "10.0.0.0/8"}, {"anything-but": "a"}, {"anything-but": [1, 2.5]}, {"changed": True},
    {"anything-but": {"prefix": ["a", "b"]}}, {"anything-but": {"wildcard": "a*"}},
]  # fmt: skip
NAMES = [
    "dynamodb",
    "NewImage",
    "OldImage",
    "Keys",
    "a",
    "b",
    "a.b",
    "",
    ".",
    "S",
    "N",
    "M",
    "eventName",
    "$or",
    "prefix",
]


class Texts:
    """Texts that are patterns, or nearly: a seed gives the same ones for ever."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def __iter__(self) -> Iterator[str]:
        while True:
            text = json.dumps(self._object(0))
            yield self._damaged(text) if self._random.random() < 0.1 else text

    def _damaged(self, text: str) -> str:
        place = self._random.randrange(len(text))
        return (
            text[:place] + self._random.choice(['"', "{", "]", "\\u", "1e", "\x00", "\ud800", ""]) + text[place + 1 :]
        )

    def _object(self, depth: int) -> Any:
        return {self._random.choice(NAMES): self._member(depth) for _ in range(self._random.choice([1, 1, 1, 2, 2, 3]))}

    def _member(self, depth: int) -> Any:
        chance = self._random.random()
        if chance < 0.03:
            return self._random.choice([{}, [], *SCALARS])
        if chance < 0.4 and depth < 5:
            return self._object(depth + 1)
        return [self._element(depth) for _ in range(self._random.choice([1, 1, 1, 2, 2, 4]))]

    def _element(self, depth: int) -> Any:
        chance = self._random.random()
        if chance < 0.4:
            return self._random.choice(SCALARS)
        if chance < 0.8:
            return self._random.choice(CONDITIONS)
        if chance < 0.9 and depth < 5:
            return self._object(depth + 1)
        if chance < 0.92:
            return []
        names = self._random.choice([[self._random.choice(OPERATORS)]] * 9 + [[], ["prefix", "suffix"]])
        return {name: self._operand() for name in names}

    def _operand(self) -> Any:
        return self._random.choice(
            [
                self._random.choice(SCALARS),
                self._random.choice(SCALARS),
                {self._random.choice(OPERATORS): self._random.choice(SCALARS)},
                [self._random.choice(["<", "<=", ">", ">=", "=", "!="]), self._random.choice(SCALARS)],
                [">", self._random.choice(SCALARS), "<=", self._random.choice(SCALARS)],
                [self._random.choice(SCALARS) for _ in range(self._random.randrange(4))],
            ]
        )


EVENT = {
    "eventName": "MODIFY",
    "dynamodb": {
        "Keys": {"a": {"S": "a"}},
        "NewImage": {"a": {"S": "a"}, "b": {"N": "1"}, "a.b": {"M": {"a": {"S": "b"}}}},
        "OldImage": {"a": {"S": "b"}},
    },
    "a": [{"b": 1}, {"a": [["a"], {}]}],
    "b": None,
}


def test_10_000_random_texts_compile_or_are_refused() -> None:
    counted: Counter[str] = Counter()
    for number, text in zip(range(10_000), Texts(seed=20_261_017), strict=False):
        extensions = number % 2 == 1
        try:
            matches = compile_pattern(text, extensions=extensions)
        except PatternError as error:
            counted["refused" if str(error).startswith("Invalid filter pattern definition. (") else "other"] += 1
        else:
            answer = matches(EVENT)
            assert answer in (True, False)
            assert (explain_mismatch(text, EVENT, extensions=extensions) == ()) == answer
            explain_traps(text, extensions=extensions)
            counted["matching" if answer else "compiled"] += 1
    # The generator would prove nothing if it made one kind only.
    assert min(counted.values()) > 100, counted
    assert counted.keys() == {"refused", "matching", "compiled"}


@given(st.text(max_size=200) | st.text(alphabet='{}[]":,$or\\ue0a1*', max_size=60))
@settings(max_examples=500)
def test_any_text_compiles_or_is_refused(text: str) -> None:
    with suppress(PatternError):
        compile_pattern(text)


# --- a second opinion ------------------------------------------------------------------------------------------------

Membership = dict[int, int]
"""Of which array (by identity) which element."""


def fields(value: Any, path: str, membership: Membership) -> Iterator[tuple[str, Any, Membership]]:
    """All scalars of an event with their paths, and the array elements that they lie in."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from fields(below, f"{path}.{key}" if path else key, membership)
    elif isinstance(value, list):
        for index, element in enumerate(value):
            yield from fields(element, path, {**membership, id(value): index})
    else:
        yield path, value, membership


def agree(one: Membership, other: Membership) -> bool:
    return all(other.get(array, index) == index for array, index in one.items())


def asked(condition: Any, value: Any) -> bool:
    """Equality, prefix, anything-but and exists:true: the operators are proven elsewhere, here it is about places."""
    if not isinstance(condition, dict):
        return json.dumps(condition) == json.dumps(value)
    ((name, operand),) = condition.items()
    if name == "exists":
        return operand is True
    if name == "prefix":
        return isinstance(value, str) and value.startswith(operand)
    return json.dumps(operand) != json.dumps(value)


def conjunctions(pattern: dict[str, Any], path: str = "") -> list[list[tuple[str, list[Any]]]]:
    """The pattern without `$or`: each way to take one branch of every choice, as leaves by path."""
    factors: list[list[list[tuple[str, list[Any]]]]] = []
    for key, value in pattern.items():
        if key == "$or":
            factors.append([way for branch in value for way in conjunctions(branch, path)])
        elif isinstance(value, dict):
            factors.append(conjunctions(value, f"{path}.{key}" if path else key))
        else:
            factors.append([[(f"{path}.{key}" if path else key, value)]])
    return [[leaf for part in taken for leaf in part] for taken in product(*factors)]


def slow_match(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    found = list(fields(event, "", {}))
    return any(_some_choice(leaves, found) for leaves in conjunctions(pattern))


def _some_choice(leaves: list[tuple[str, list[Any]]], found: list[tuple[str, Any, Membership]]) -> bool:
    """Each leaf takes a field that it matches, or nothing where it allows that; all that were taken must agree."""
    options: list[list[Membership | None]] = []
    for path, conditions in leaves:
        taken: list[Membership | None] = [
            membership for name, value, membership in found if name == path and any(asked(c, value) for c in conditions)
        ]
        options.append([*taken, None] if {"exists": False} in conditions else taken)
    for choice in product(*options):
        chosen: Membership = {}
        for membership in choice:
            if membership is not None:
                if not agree(membership, chosen):
                    break
                chosen = {**chosen, **membership}
        else:
            empty = [path for (path, _), membership in zip(leaves, choice, strict=True) if membership is None]
            if not any(name in empty and agree(membership, chosen) for name, _, membership in found):
                return True
    return False


class Cases:
    """Small patterns and events over the same few names, so that they meet."""

    NAMES = "abc"
    SCALARS: tuple[Any, ...] = ("x", "x", "xy", "z", 1, 2, True, None)
    CONDITIONS: tuple[Any, ...] = (
        *SCALARS, {"exists": True}, {"exists": False}, {"exists": False}, {"prefix": "x"}, {"anything-but": "x"},
        {"anything-but": 1},
    )  # fmt: skip

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def pattern(self, depth: int = 0, *, choices: bool = True) -> dict[str, Any]:
        random = self.random
        pattern: dict[str, Any] = {
            name: self.pattern(depth + 1, choices=choices) if random.random() < 0.5 - depth / 5 else self._leaf()
            for name in random.sample(self.NAMES, random.choice([1, 1, 2]))
        }
        if choices and random.random() < 0.4 - depth / 10:
            pattern["$or"] = [self.pattern(depth + 1) for _ in range(random.choice([2, 2, 3]))]
        return pattern

    def _leaf(self) -> list[Any]:
        return [self.random.choice(self.CONDITIONS) for _ in range(self.random.choice([1, 1, 2]))]

    def event(self) -> dict[str, Any]:
        return {name: self._value(1) for name in self.random.sample(self.NAMES, self.random.choice([1, 2, 3, 3]))}

    def _value(self, depth: int) -> Any:
        chance = self.random.random() + depth / 10
        if chance < 0.35:
            return {
                name: self._value(depth + 1)
                for name in self.random.sample(self.NAMES, self.random.choice([0, 1, 2, 2]))
            }
        if chance < 0.75:
            return [self._value(depth + 1) for _ in range(self.random.choice([0, 1, 2, 2, 3]))]
        return self.random.choice(self.SCALARS)


@pytest.mark.parametrize("seed", range(4))
def test_a_pattern_matches_what_the_slow_matcher_matches(seed: int) -> None:
    cases = Cases(seed)
    counted: Counter[bool] = Counter()
    for _ in range(1_500):
        pattern, event = cases.pattern(), cases.event()
        matches = compile_pattern(json.dumps(pattern))(event)
        assert matches == slow_match(pattern, event), f"{json.dumps(pattern)} on {json.dumps(event)}"
        counted[matches] += 1
    assert min(counted[True], counted[False]) > 100, counted


def dotted(pattern: dict[str, Any]) -> dict[str, Any]:
    """The same pattern, without `$or`, as one object."""
    flat: dict[str, Any] = {}
    for key, value in pattern.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{below}": inner for below, inner in dotted(value).items()}
        else:
            flat[key] = value
    return flat


def test_dotted_keys_are_nested_keys_in_patterns() -> None:
    cases = Cases(seed=1)
    for _ in range(2_000):
        pattern, event = cases.pattern(choices=False), cases.event()
        nested, flat = json.dumps(pattern), json.dumps(dotted(pattern))
        assert compile_pattern(flat)(event) == compile_pattern(nested)(event), f"{nested} on {json.dumps(event)}"


def with_dots(value: Any, random: Random) -> Any:
    """The same event with some of its nested objects written as dotted keys."""
    if not isinstance(value, dict):
        return value
    flat: dict[str, Any] = {}
    for key, below in value.items():
        inner = with_dots(below, random)
        if isinstance(inner, dict) and inner and random.random() < 0.6:
            flat |= {f"{key}.{name}": each for name, each in inner.items()}
        else:
            flat[key] = inner
    return flat


def test_dotted_keys_are_nested_keys_in_events() -> None:
    cases = Cases(seed=2)
    for _ in range(2_000):
        pattern, event = json.dumps(cases.pattern()), cases.event()
        matches, flat = compile_pattern(pattern), with_dots(event, cases.random)
        assert matches(flat) == matches(event), f"{pattern} on {json.dumps(flat)}"


@pytest.mark.parametrize("matching", [True, False])
def test_the_slow_matcher_says_both(matching: bool) -> None:
    pattern = {"a": {"b": ["x"], "c": ["z"]}}
    event = {"a": [{"b": "x", "c": "z"}]} if matching else {"a": [{"b": "x"}, {"c": "z"}]}
    assert slow_match(pattern, event) == matching
