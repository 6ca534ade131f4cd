"""Where the branches of `$or` and their siblings look at the same places of an event, and so must choose alike."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.rules.patterns.grammar import Leaf, Path, Pattern


def combinations(pattern: Pattern) -> Iterator[tuple[Leaf, ...]]:
    """The leaves of each way to take one branch of every choice."""
    branches = [[leaves for branch in choice for leaves in combinations(branch)] for choice in pattern.choices]
    for taken in product(*branches):
        yield (*pattern.leaves, *(leaf for leaves in taken for leaf in leaves))


def asks_for_absence(pattern: Pattern) -> bool:
    below = (asks_for_absence(branch) for choice in pattern.choices for branch in choice)
    return any(leaf.allows_absence for leaf in pattern.leaves) or any(below)


def shared_paths(pattern: Pattern) -> list[Path]:
    """The longest paths that more than one of those use that must match together: an array may stand all along them."""
    return _outermost(_shared(pattern))


def _shared(pattern: Pattern) -> set[Path]:
    """Paths that more than one of those use that must match together: the leaves, and each choice."""
    together = [_prefixes(pattern.leaves)]
    together += [set().union(*map(_all_prefixes, choice)) for choice in pattern.choices]
    times = Counter(path for paths in together for path in paths)
    shared = {path for path, count in times.items() if count > 1}
    return shared.union(*(_shared(branch) for choice in pattern.choices for branch in choice))


def _all_prefixes(pattern: Pattern) -> set[Path]:
    below = (_all_prefixes(branch) for choice in pattern.choices for branch in choice)
    return _prefixes(pattern.leaves).union(*below)


def _prefixes(leaves: Sequence[Leaf]) -> set[Path]:
    choosing = [leaf.path for leaf in leaves if not leaf.compares_images]
    return {path[:length] for path in choosing for length in range(1, len(path) + 1)}


def _outermost(paths: set[Path]) -> list[Path]:
    """Those that no other one goes on from."""
    inner = {path[:length] for path in paths for length in range(1, len(path))}
    return sorted(paths - inner)
