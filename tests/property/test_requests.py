"""Requests keep the limits and the order of each item, and every record is accounted for once, whatever fails."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import RecordRefusedError, SinkBusyError
from streamflow.failures import RecordFailure, RecordsFailedError
from streamflow.rules.requests import newest, packed, waves
from streamflow.sdk import Capabilities, Rejection, write_in_requests
from streamflow.testing.sink_contract import Changes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random
    from typing import Literal

    from streamflow.batches import Batch
    from streamflow.records import Record

KEYS = st.lists(st.sampled_from("abcd"), max_size=30)
CONCURRENCY = 3
WHOLE = "the whole batch failed"
LIMITS = st.none() | st.integers(1, 8)


# --- the rules -------------------------------------------------------------------------------------------------------


@given(sizes=st.lists(st.integers(0, 12), max_size=30), records_max=LIMITS, bytes_max=st.none() | st.integers(1, 20))
def test_packed_keeps_limits_and_order_and_sends_no_request_too_many(
    sizes: list[int], records_max: int | None, bytes_max: int | None
) -> None:
    places = list(range(len(sizes)))
    runs = [list(run) for run in packed(places, sizes, records_max=records_max, bytes_max=bytes_max)]
    assert [place for run in runs for place in run] == places
    assert all(runs)

    def fits(run: list[int]) -> bool:
        within = records_max is None or len(run) <= records_max
        return within and (bytes_max is None or sum(sizes[place] for place in run) <= bytes_max)

    assert all(fits(run) or len(run) == 1 for run in runs)
    # The first of a run had no room in the one before.
    assert not any(fits([*run, following[0]]) for run, following in pairwise(runs))


@given(KEYS)
def test_waves_keep_the_order_of_each_key_and_have_it_once(keys: list[str]) -> None:
    found = waves(keys)
    assert sorted(place for wave in found for place in wave) == list(range(len(keys)))
    for wave in found:
        assert len({keys[place] for place in wave}) == len(wave)
        assert wave == sorted(wave)
    for key in set(keys):
        assert [place for wave in found for place in wave if keys[place] == key] == [
            place for place, each in enumerate(keys) if each == key
        ]
    lengths = [len(wave) for wave in found]
    assert lengths == sorted(lengths, reverse=True)
    assert len(found) == max((keys.count(key) for key in set(keys)), default=0)


@given(KEYS)
def test_newest_is_the_last_place_of_each_key_in_order(keys: list[str]) -> None:
    places = newest(keys)
    assert places == sorted(places)
    assert {keys[place]: place for place in places} == {key: place for place, key in enumerate(keys)}
    assert len(places) == len(set(keys))


# --- whole writes ----------------------------------------------------------------------------------------------------


@dataclass
class Target:
    """Takes and rejects entries at random, and takes everything in the end; a request that raises took nothing."""

    random: Random
    limits: Capabilities
    item_of: dict[str, str]
    size_of: dict[str, int]
    taken: list[str] = field(default_factory=list)
    open_now: int = 0
    moods: int = 30

    async def send(self, entries: Sequence[str]) -> Sequence[Rejection | None] | None:
        self._check(entries)
        self.open_now += 1
        assert self.open_now <= CONCURRENCY
        for _ in range(self.random.randrange(3)):
            await anyio.lowlevel.checkpoint()
        self.open_now -= 1
        self.moods -= 1
        match self.random.randrange(6) if self.moods > 0 else 2:
            case 0:
                raise SinkBusyError("slow down", retry_after_s=1.0)
            case 1:
                raise ConnectionError(f"reset {self.random.randrange(2)}")
            case 2:
                self.taken += entries
                return None
            case _:
                return [self._answer(entry) for entry in entries]

    def _check(self, entries: Sequence[str]) -> None:
        assert entries
        if len(entries) > 1:
            assert len(entries) <= (self.limits.request_records_max or len(entries))
            total = sum(self.size_of[entry] for entry in entries)
            assert total <= (self.limits.request_bytes_max or total)
        if self.limits.order != "none":
            items = [self.item_of[entry] for entry in entries]
            assert len(items) == len(set(items)), "two changes of one item in one request"

    def _answer(self, entry: str) -> Rejection | None:
        match self.random.randrange(5):
            case 0:
                return Rejection("failed", "no luck")
            case 1:
                return Rejection("waiting", "throttled")
            case _:
                self.taken.append(entry)
                return None


@dataclass
class Scene:
    """Records by event id, with the item and the size of each; `unfit` are those that cannot be encoded."""

    batch: Batch
    service: Target
    unfit: set[str]

    async def write(self, records: list[Record]) -> dict[str, RecordFailure]:
        """What was not written, by event id; checks that the rest was, once, and nothing else."""
        before = len(self.service.taken)
        failures: tuple[RecordFailure, ...] = ()
        try:
            await write_in_requests(
                self.batch.select(records),
                encode=self.encode,
                send=self.service.send,
                capabilities=self.service.limits,
                concurrency=CONCURRENCY,
            )
        except RecordsFailedError as error:
            failures = error.failures
        except (SinkBusyError, ConnectionError):
            failures = tuple(RecordFailure(record, "failed", WHOLE) for record in records)
        told = {failure.record.event_id: failure for failure in failures}
        assert len(told) == len(failures)
        taken = self.service.taken[before:]
        assert sorted([*taken, *told]) == sorted(record.event_id for record in records)
        return told

    def encode(self, record: Record) -> tuple[str, int]:
        if record.event_id in self.unfit:
            raise RecordRefusedError("the target cannot hold it")
        return record.event_id, self.service.size_of[record.event_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An item, a size and whether it can be encoded, for each change."""

    changes: list[tuple[str, int, bool]]
    limits: Capabilities
    random: Random

    def scene(self) -> Scene:
        changes = Changes()
        records = [changes.put(item) for item, _, _ in self.changes]
        ids = [record.event_id for record in records]
        known = dict(zip(ids, self.changes, strict=True))
        size_max = self.limits.record_bytes_max or 9
        return Scene(
            changes.batch(*records),
            Target(
                self.random,
                self.limits,
                {each: item for each, (item, _, _) in known.items()},
                {each: size for each, (_, size, _) in known.items()},
            ),
            {each for each, (_, size, fit) in known.items() if not fit or size > size_max},
        )


def plans(order: Literal["none", "key"]) -> st.SearchStrategy[Plan]:
    change = st.tuples(st.sampled_from("abcd"), st.integers(1, 9), st.sampled_from([True] * 9 + [False]))
    limits = st.builds(
        Capabilities,
        order=st.just(order),
        idempotence=st.just("none"),
        partial_failures=st.just(True),
        request_records_max=st.none() | st.integers(1, 4),
        request_bytes_max=st.none() | st.integers(4, 20),
        record_bytes_max=st.none() | st.just(8),
    )
    return st.builds(
        Plan,
        changes=st.lists(change, min_size=1, max_size=14),
        limits=limits,
        random=st.randoms(use_true_random=False),
    )


@given(plans("key"))
def test_no_change_is_written_before_an_earlier_one_of_its_item(plan: Plan) -> None:
    scene = plan.scene()
    told = anyio.run(scene.write, list(scene.batch))
    assert {each for each, failure in told.items() if failure.kind == "refused"} <= scene.unfit
    by_item: dict[str, list[str]] = defaultdict(list)
    for record in scene.batch:
        by_item[scene.service.item_of[record.event_id]].append(record.event_id)
    for changes in by_item.values():
        written = [each for each in scene.service.taken if each in changes]
        assert written == changes[: len(written)]


@given(plans("key"))
def test_what_comes_again_ends_with_every_change_written_once_and_in_order(plan: Plan) -> None:
    scene = plan.scene()

    async def deliver() -> None:
        """What the engine does: what is refused leaves, the rest comes again."""
        left = list(scene.batch)
        for _ in range(100):
            if not left:
                return
            told = await scene.write(left)
            left = [record for record in left if record.event_id in told and told[record.event_id].kind != "refused"]
        raise AssertionError("it does not end")

    anyio.run(deliver)
    expected: dict[str, list[str]] = defaultdict(list)
    for record in scene.batch:
        if record.event_id not in scene.unfit:
            expected[scene.service.item_of[record.event_id]].append(record.event_id)
    written: dict[str, list[str]] = defaultdict(list)
    for each in scene.service.taken:
        written[scene.service.item_of[each]].append(each)
    assert written == expected


@given(plans("none"))
def test_where_no_order_is_promised_every_record_is_accounted_for_and_none_is_held_back(plan: Plan) -> None:
    scene = plan.scene()
    told = anyio.run(scene.write, list(scene.batch))
    refused = {each for each, failure in told.items() if failure.kind == "refused"}
    # Where nothing was written for one reason, that is all that is told; what cannot be encoded is another reason.
    assert refused == scene.unfit
    assert not any("behind" in failure.reason for failure in told.values())
