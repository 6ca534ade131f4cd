"""Records of a batch into requests: within the limits of the target, and in an order that keeps that of each item."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")


def packed(
    entries: Sequence[T], sizes: Sequence[int], *, records_max: int | None, bytes_max: int | None
) -> Iterator[Sequence[T]]:
    """Runs of `entries`, in order, each within both limits; one that is too large by itself goes alone."""
    start, total = 0, 0
    for place, size in enumerate(sizes):
        full = records_max is not None and place - start >= records_max
        if place > start and (full or (bytes_max is not None and total + size > bytes_max)):
            yield entries[start:place]
            start, total = place, 0
        total += size
    if start < len(entries):
        yield entries[start:]


def waves(keys: Sequence[str]) -> list[list[int]]:
    """Places in waves: no key is twice in one, and each key's places are in order over them. The first is the largest."""
    seen: dict[str, int] = defaultdict(int)
    found: list[list[int]] = []
    for place, key in enumerate(keys):
        wave = seen[key]
        seen[key] += 1
        if wave == len(found):
            found.append([])
        found[wave].append(place)
    return found


def newest(keys: Sequence[str]) -> list[int]:
    """The place of each key's last occurrence, in order of place: what is left where only the final state counts."""
    last = {key: place for place, key in enumerate(keys)}
    return sorted(last.values())
