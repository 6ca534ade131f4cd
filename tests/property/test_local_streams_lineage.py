"""Whatever happens to the shards, a reader that follows parents to children finds every change once, in order."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.testing.refusals import RefusedError
from streamflow.testing.tables import Tables

KEYS = [f"key-{index}" for index in range(8)]
# A change is a write or a delete of a key, or something that happens to a shard.
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(KEYS), st.integers(0, 9)),
        st.tuples(st.just("delete"), st.sampled_from(KEYS), st.just(0)),
        st.tuples(st.just("split"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("rollover"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("late"), st.integers(0, 30), st.just(0)),
    ),
    min_size=10,
    max_size=100,
)


class History:
    """What was written, by key, as the stream should tell it."""

    def __init__(self, *, shards: int, page_bytes_max: int = 1_048_576, page_size: int = 100) -> None:
        self.now_s = 1_800_000_000.0
        self.tables = Tables(
            lambda: self.now_s, shards=shards, page_bytes_max=page_bytes_max, page_size=page_size, retention_s=1e12
        )
        self.tables.create_table("orders", {"id": "S"}, view_type="NEW_AND_OLD_IMAGES")
        self.stream = self.tables.stream_of("orders")
        self.items: dict[str, int] = {}
        self.written: dict[str, list[tuple[str, int | None, int | None]]] = defaultdict(list)

    def apply(self, change: tuple[str, Any, int]) -> None:
        self.now_s += 1
        match change:
            case ("put", key, value):
                self.tables.put("orders", {"id": {"S": key}, "value": {"N": str(value)}})
                old = self.items.get(key)
                if old != value:
                    self.written[key].append(("INSERT" if old is None else "MODIFY", old, value))
                self.items[key] = value
            case ("delete", key, _):
                self.tables.delete("orders", {"id": {"S": key}})
                if key in self.items:
                    self.written[key].append(("REMOVE", self.items.pop(key), None))
            case ("split", index, _):
                self.stream.split(self._open(index), self.now_s, 0.0)
            case ("rollover", index, _):
                self.stream.roll_over(self._open(index), self.now_s, 0.0)
            case ("late", index, _):
                self.stream.roll_over(self._open(index), self.now_s, 30.0)

    def _open(self, index: int) -> Any:
        return self.stream.open_shards[index % len(self.stream.open_shards)]

    def listing(self) -> dict[str, str | None]:
        """Shard id to parent, page by page."""
        shards: dict[str, str | None] = {}
        after: str | None = None
        while True:
            page = self.tables.describe_stream(self.stream.stream_arn, after=after)
            assert len(page.shards) <= self.tables.page_size
            shards |= {shard.shard_id: shard.parent_id for shard in page.shards}
            if (after := page.last_evaluated) is None:
                return shards

    def read(self, shard_id: str, limit: int) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        iterator: str | None = self.tables.shard_iterator(self.stream.stream_arn, shard_id, "TRIM_HORIZON")
        while iterator is not None:
            page = self.tables.get_records(iterator, limit=limit)
            assert len(page.bodies) <= limit
            assert len(page.bodies) <= 1 or sum(map(len, page.bodies)) <= self.tables.page_bytes_max
            records += [orjson.loads(body) for body in page.bodies]
            if not page.bodies and self.stream.shard(shard_id).ending_number is None:
                break
            iterator = page.next_iterator
        return records


def told(records: list[dict[str, Any]]) -> dict[str, list[tuple[str, int | None, int | None]]]:
    changes: dict[str, list[tuple[str, int | None, int | None]]] = defaultdict(list)
    for record in records:
        change = record["dynamodb"]
        old, new = (int(change[image]["value"]["N"]) if image in change else None for image in ("OldImage", "NewImage"))
        changes[change["Keys"]["id"]["S"]].append((record["eventName"], old, new))
    return changes


def descends(listing: dict[str, str | None], shard_id: str, ancestor: str) -> bool:
    current: str | None = shard_id
    while current is not None and current != ancestor:
        current = listing[current]
    return current is not None


def parents_first(listing: dict[str, str | None]) -> list[str]:
    ordered: list[str] = []
    while len(ordered) < len(listing):
        ordered += [s for s, parent in listing.items() if s not in ordered and (parent is None or parent in ordered)]
    return ordered


@settings(max_examples=200, deadline=None)
@given(
    changes=CHANGES,
    shards=st.integers(1, 5),
    limit=st.integers(1, 7),
    page_bytes_max=st.sampled_from([1, 900, 2_000, 1_048_576]),
    page_size=st.integers(1, 4),
)
def test_every_change_is_read_once_and_in_order_per_key(
    changes: list[tuple[str, Any, int]], shards: int, limit: int, page_bytes_max: int, page_size: int
) -> None:
    history = History(shards=shards, page_bytes_max=page_bytes_max, page_size=page_size)
    for change in changes:
        history.apply(change)
    history.now_s += 60
    listing = history.listing()
    by_shard = {shard: history.read(shard, limit) for shard in parents_first(listing)}
    records = [record for found in by_shard.values() for record in found]
    assert told(records) == history.written
    assert len({record["eventID"] for record in records}) == len(records)
    last_shard: dict[str, str] = {}
    for shard, found in by_shard.items():
        for key in told(found):
            assert descends(listing, shard, last_shard.get(key, shard))
            last_shard[key] = shard


@settings(max_examples=200, deadline=None)
@given(changes=CHANGES, shards=st.integers(1, 5))
def test_the_open_shards_divide_the_hash_space_and_numbers_grow_along_the_lineage(
    changes: list[tuple[str, Any, int]], shards: int
) -> None:
    history = History(shards=shards)
    for change in changes:
        history.apply(change)
    edges = [(shard.low, shard.high) for shard in history.stream.open_shards]
    assert edges[0][0] == 0
    assert edges[-1][1] == 2**32
    assert all(before[1] == after[0] for before, after in pairwise(edges))
    for shard in history.stream.shards.values():
        assert shard.numbers == sorted(set(shard.numbers))
        if shard.parent_id is not None:
            parent = history.stream.shard(shard.parent_id)
            assert parent.ending_number is not None
            assert max([*parent.numbers, parent.ending_number]) < min([*shard.numbers, shard.starting_number])


@settings(max_examples=200, deadline=None)
@given(changes=CHANGES, cut=st.integers(0, 40), after=st.integers(0, 40))
def test_a_reader_resumes_behind_any_record_unless_it_is_trimmed(
    changes: list[tuple[str, Any, int]], cut: int, after: int
) -> None:
    history = History(shards=1)
    for change in changes:
        if change[0] in {"put", "delete"}:
            history.apply(change)
    (shard,) = history.stream.open_shards
    numbers = list(shard.numbers)
    if not numbers:
        return
    cut, after = cut % len(numbers), after % len(numbers)
    shard.trim(before=numbers[cut])
    arn = history.stream.stream_arn
    if after < cut:
        with pytest.raises(RefusedError, match="TrimmedDataAccessException"):
            history.tables.shard_iterator(arn, shard.shard_id, "AFTER_SEQUENCE_NUMBER", str(numbers[after]))
        return
    iterator = history.tables.shard_iterator(arn, shard.shard_id, "AFTER_SEQUENCE_NUMBER", str(numbers[after]))
    page = history.tables.get_records(iterator)
    found = [orjson.loads(body)["dynamodb"]["SequenceNumber"] for body in page.bodies]
    assert found == [str(number) for number in numbers[after + 1 :]]
