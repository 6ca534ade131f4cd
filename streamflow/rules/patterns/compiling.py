"""Filter patterns compiled to closures.

A pattern matches if one choice of elements, one from each array of the event, satisfies all its leaves: two fields never
match out of different elements of one array. `exists: false` asks that nothing stands at the leaf in the elements that
the rest of the pattern chose. Below a limit of nesting the closures call each other; into an event nothing recurses
further than the pattern does, and `$or` is tried branch by branch: combinations are made only where arrays stand on
paths that several branches share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from streamflow.errors import PatternError
from streamflow.rules.patterns.changes import differs
from streamflow.rules.patterns.choices import asks_for_absence, combinations, shared_paths
from streamflow.rules.patterns.grammar import Leaf, Pattern, on_number_attribute, parse_pattern
from streamflow.rules.patterns.places import ABSENT, crushed, meets_array, standing_at, unfolded
from streamflow.rules.patterns.predicates import any_holds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow.rules.patterns.grammar import Path
    from streamflow.rules.patterns.predicates import Predicate

__all__ = ["PatternError", "compile_pattern", "compile_tree", "itself"]

Read: TypeAlias = "Callable[[Any], Any]"
"""Takes a part out of an event; ABSENT if it is not there."""
Locate: TypeAlias = "Callable[[Path], tuple[int, Read, Path]]"
"""Says how a path is read: what that costs, the part to take, and the rest of the path inside it. The same part is always
read by the same function."""
Answer: TypeAlias = "Callable[[Any], bool]"

# How a place answers. VACANT: it matches because nothing is there; that chooses no element of any array.
_NO, _VACANT, _MATCH = 0, 1, 2
_ATTRIBUTE_DEPTH = 2  # name and type
_Place: TypeAlias = "Callable[[Any], int]"


def compile_pattern(text: str, *, extensions: bool = False) -> Callable[[Mapping[str, Any]], bool]:
    """A function that says whether an event, one record as Lambda gets it, matches the pattern.

    `extensions` are what Lambda does not have: `numeric` on attributes of type `N`, and `changed`.

    Raises:
        PatternError: as `parse_pattern` says.
    """
    return compile_tree(parse_pattern(text, extensions=extensions), itself, extensions=extensions)


def itself(path: Path) -> tuple[int, Read, Path]:
    """For events that are plain mappings: every path is read from the whole."""
    return 0, _whole, path


def _whole(event: Any) -> Any:
    return event


def compile_tree(pattern: Pattern, locate: Locate, *, extensions: bool = False) -> Answer:
    """Compile for any kind of event: `locate` says how to read it. Cheap parts are asked first."""
    compiler = _Compiler(locate, extensions=extensions)
    by_itself = compiler.by_itself(pattern)
    shared = [locate(path)[1:] for path in shared_paths(pattern)]
    if not shared:
        return by_itself
    # A choice of elements can leave out what `exists: false` meets elsewhere, but make nothing match that is nowhere.
    may_gain = asks_for_absence(pattern)
    made: list[Answer] = []
    unmade = map(compiler.conjunction, combinations(pattern))

    def together() -> Iterator[Answer]:
        yield from made
        for combination in unmade:
            made.append(combination)
            yield combination

    def matches(event: Any) -> bool:
        answer = by_itself(event)
        if not (answer or may_gain) or not any(meets_array(read(event), rest) for read, rest in shared):
            return answer
        return any(combination(event) for combination in together())

    return matches


# --- leaves and choices ----------------------------------------------------------------------------------------------


class _Compiler:
    """What the closures of one pattern have in common."""

    def __init__(self, locate: Locate, *, extensions: bool) -> None:
        self._locate = locate
        self._extensions = extensions

    def by_itself(self, pattern: Pattern) -> Answer:
        """Leaves and choices each for itself: exact as long as no array is on a path that they share."""
        answers = [self.conjunction(pattern.leaves)] if pattern.leaves else []
        for choice in pattern.choices:
            branches = sorted(choice, key=self._cost)
            answers.append(any_of([self.by_itself(branch) for branch in branches]))
        return _all_of(answers)

    def _cost(self, pattern: Pattern) -> int:
        costs = [self._locate(leaf.path)[0] for leaf in pattern.leaves]
        return max([*costs, *(self._cost(branch) for choice in pattern.choices for branch in choice)])

    def conjunction(self, leaves: Sequence[Leaf]) -> Answer:
        """All of the leaves, with one choice of elements for all."""
        parts: dict[Read, list[tuple[Path, Leaf]]] = {}
        costs: dict[Read, int] = {}
        changes: list[Answer] = []
        for leaf in leaves:
            if leaf.compares_images:
                changes.append(self._changed(leaf))
                continue
            cost, read, rest = self._locate(leaf.path)
            costs[read] = cost
            parts.setdefault(read, []).append((rest, leaf))
        answers = [self._part(read, parts[read]) for read in sorted(parts, key=costs.__getitem__)]
        return _all_of([*answers, *changes])

    def _part(self, read: Read, leaves: list[tuple[Path, Leaf]]) -> Answer:
        exact = self._place(leaves)
        straight = [(rest, self._holds(leaf)) for rest, leaf in leaves]
        absent = exact(ABSENT) != _NO
        if len(straight) == 1 and not straight[0][0]:
            return _at_once(read, straight[0][1], exact)
        if len(straight) == 1 and len(straight[0][0]) == _ATTRIBUTE_DEPTH:
            return _at_attribute(read, straight[0][0], straight[0][1], exact)

        def matches(event: Any) -> bool:
            """Straight down to strings: arrays, dotted keys and what is not there take longer."""
            value = read(event)
            if value is ABSENT:
                return absent
            for names, holds in straight:
                node = value
                try:
                    for name in names:
                        node = node[name]
                except (KeyError, TypeError):
                    break
                if type(node) is not str:
                    break
                if not holds(node):
                    return False
            else:
                return True
            return exact(value) != _NO

        return matches

    def _holds(self, leaf: Leaf) -> Predicate:
        return any_holds(leaf.conditions, decimal_text=self._extensions and on_number_attribute(leaf.path))

    def _changed(self, leaf: Leaf) -> Answer:
        _, read_new, new_rest = self._locate(leaf.path)
        _, read_old, old_rest = self._locate(("dynamodb", "OldImage", *leaf.path[2:]))
        wanted = {condition.operand for condition in leaf.conditions}
        last_key = leaf.path[-1]

        def matches(event: Any) -> bool:
            new, old = standing_at(read_new(event), new_rest), standing_at(read_old(event), old_rest)
            return differs(new, old, last_key=last_key) in wanted

        return matches

    # --- one part of an event ----------------------------------------------------------------------------------------

    def _place(self, leaves: list[tuple[Path, Leaf]]) -> _Place:
        """What is asked of one place, given what is asked at paths from there on."""
        asked = [_leaf_place(leaf, self._holds(leaf)) for rest, leaf in leaves if not rest]
        below: dict[str, list[tuple[Path, Leaf]]] = {}
        for rest, leaf in leaves:
            if rest:
                below.setdefault(rest[0], []).append((rest[1:], leaf))
        if below:
            asked.append(_object_place([(name, self._place(inner)) for name, inner in below.items()]))
        return _with_arrays(asked[0] if len(asked) == 1 else _all_places(asked))


def _at_once(read: Read, holds: Predicate, exact: _Place) -> Answer:
    """For a part that is a leaf itself."""

    def matches(event: Any) -> bool:
        value = read(event)
        return holds(value) if type(value) is str else exact(value) != _NO

    return matches


def _at_attribute(read: Read, names: Path, holds: Predicate, exact: _Place) -> Answer:
    """For one typed attribute of keys or an image, which is what most filters look at."""
    attribute, kind = names

    def matches(event: Any) -> bool:
        value = read(event)
        try:
            node = value[attribute][kind]
        except (KeyError, TypeError):
            return exact(value) != _NO
        return holds(node) if type(node) is str else exact(value) != _NO

    return matches


def _leaf_place(leaf: Leaf, holds: Predicate) -> _Place:
    """An object is not a leaf: at a leaf's path it counts as nothing."""
    vacant = _VACANT if leaf.allows_absence else _NO

    def place(value: Any) -> int:
        if value is ABSENT or isinstance(value, Mapping):
            return vacant
        return _MATCH if holds(value) else _NO

    return place


def _object_place(members: list[tuple[str, _Place]]) -> _Place:
    vacant = _all_places([place for _, place in members])(ABSENT)

    def place(value: Any) -> int:
        if type(value) is not dict and not isinstance(value, Mapping):
            return vacant
        value = unfolded(value)
        answer = _VACANT
        for name, member in members:
            found = member(value.get(name, ABSENT))
            if found == _NO:
                return _NO
            answer = max(answer, found)
        return answer

    return place


def _all_places(places: list[_Place]) -> _Place:
    def place(value: Any) -> int:
        answers = [each(value) for each in places]
        return max(answers) if min(answers) != _NO else _NO

    return place


def _with_arrays(place: _Place) -> _Place:
    """An array matches by any of its elements; vacant it is only if all of them are, and if it has none."""

    def crushing(value: Any) -> int:
        if type(value) is not list:
            return place(value)
        answers = set()
        for element in crushed(value):
            answer = place(element)
            if answer == _MATCH:
                return _MATCH
            answers.add(answer)
        return min(answers) if answers else place(ABSENT)

    return crushing


def _all_of(answers: list[Answer]) -> Answer:
    if len(answers) == 1:
        return answers[0]

    def matches(event: Any) -> bool:
        for answer in answers:  # noqa: SIM110 - all() of a generator costs as much as two answers
            if not answer(event):
                return False
        return True

    return matches


def any_of(answers: list[Answer]) -> Answer:
    if len(answers) == 1:
        return answers[0]

    def matches(event: Any) -> bool:
        for answer in answers:  # noqa: SIM110 - the same
            if answer(event):
                return True
        return False

    return matches
