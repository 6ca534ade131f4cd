"""Tumbling windows hold each record once, begin at multiples of their size, and hand their state on, whatever happens."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import WindowStateError
from streamflow.leases import WindowState
from streamflow.records import Shard
from streamflow.rules.windows import CLOSE_GRACE_S, WINDOW_STATE_BYTES_MAX, Windows

SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/l", shard_id="shardId-1")

sizes = st.integers(1, 900)
times = st.one_of(st.integers(1, 5_000), st.floats(0.5, 5_000.0, allow_nan=False))


class Closed(NamedTuple):
    """What the final invocation of a window was given."""

    start_s: int
    end_s: int
    records: list[int]


class Driven:
    """Delivers records through the windows of a shard as the engine does; the state lists the records of its window."""

    def __init__(self, size_s: int, data: st.DataObject) -> None:
        self.windows = Windows.restored(size_s, None)
        self.data = data
        self.closed: list[Closed] = []

    def deliver(self, batch: list[tuple[int, float]]) -> None:
        while batch:
            count = self.windows.take([at for _, at in batch])
            if count == 0:
                self.close()
            else:
                self._invoke([number for number, _ in batch[:count]])
                batch = batch[count:]
            self._restart_perhaps()

    def _invoke(self, records: list[int]) -> None:
        before = self.windows.stored
        while self.data.draw(st.sampled_from([False, False, True]), label="fails"):
            self.windows.view().state["seen"] = "of an attempt that failed"
        assert self.windows.stored == before
        view = self.windows.view()
        assert (view.is_final, view.is_terminated_early) == (False, False)
        view.state.setdefault("seen", []).extend(records)
        self.windows.keep(view)

    def close(self) -> None:
        view = self.windows.view(final=True)
        assert (view.is_final, view.is_terminated_early) == (True, False)
        self.closed.append(Closed(view.start_s, view.end_s, view.state.get("seen", [])))
        self.windows.close()

    def _restart_perhaps(self) -> None:
        if self.data.draw(st.booleans(), label="restart"):
            self.windows = Windows.restored(self.windows.size_s, self.windows.stored)


def in_batches(created_at_s: list[float], data: st.DataObject) -> list[list[tuple[int, float]]]:
    batches: list[list[tuple[int, float]]] = [[]]
    for numbered in enumerate(created_at_s):
        if data.draw(st.sampled_from([False, False, True]), label="cut"):
            batches.append([])
        batches[-1].append(numbered)
    return batches


def driven(size_s: int, created_at_s: list[float], data: st.DataObject) -> list[Closed]:
    run = Driven(size_s, data)
    for batch in in_batches(created_at_s, data):
        run.deliver(batch)
    if run.windows.is_open:
        run.close()
    return run.closed


# -- which records ----------------------------------------------------------------------------------------------------


@given(sizes, st.lists(times, max_size=20).map(sorted), st.data())
def test_records_are_grouped_by_the_multiple_of_the_size_whatever_the_batches(
    size_s: int, created_at_s: list[float], data: st.DataObject
) -> None:
    places = [math.floor(at / size_s) for at in created_at_s]
    grouped = groupby(range(len(places)), key=places.__getitem__)
    expected = [Closed(place * size_s, (place + 1) * size_s, list(records)) for place, records in grouped]
    assert driven(size_s, created_at_s, data) == expected


@given(sizes, st.lists(times, max_size=20), st.data())
def test_record_older_than_the_open_window_belongs_to_it(
    size_s: int, created_at_s: list[float], data: st.DataObject
) -> None:
    newest = list(accumulate((math.floor(at / size_s) for at in created_at_s), max))
    grouped = groupby(range(len(newest)), key=newest.__getitem__)
    expected = [Closed(place * size_s, (place + 1) * size_s, list(records)) for place, records in grouped]
    assert driven(size_s, created_at_s, data) == expected


@given(sizes, st.integers(0, 100_000_000))
def test_window_holds_its_start_but_not_its_end(size_s: int, place: int) -> None:
    start_s, end_s = place * size_s, (place + 1) * size_s
    before_the_end_s = math.nextafter(end_s, 0.0)
    windows = Windows.restored(size_s, None)
    assert windows.take([max(start_s, 0.5), before_the_end_s, end_s]) == 2
    assert (windows.start_s, windows.end_s) == (start_s, end_s)
    assert windows.take([before_the_end_s, end_s]) == 1
    assert windows.take([end_s]) == 0
    windows.close()
    assert windows.take([end_s]) == 1
    assert windows.start_s == end_s


def test_window_of_ten_seconds_begins_at_ten_seconds_past() -> None:
    windows = Windows.restored(10, None)
    windows.take([datetime(2026, 9, 17, 14, 11, 13, tzinfo=UTC).timestamp()])
    members = windows.view().lambda_members(SHARD)
    assert members["window"] == {"start": "2026-09-17T14:11:10Z", "end": "2026-09-17T14:11:20Z"}


def test_only_the_leading_records_of_the_window_are_taken() -> None:
    windows = Windows.restored(10, None)
    assert windows.take([11.0, 12.0, 25.0, 13.0]) == 2


UNUSABLE = [0.0, -1.0, math.nan, math.inf, -math.inf, 253_402_300_800.0, 1e300]


@pytest.mark.parametrize("at", UNUSABLE)
def test_record_without_a_usable_time_belongs_to_the_open_window(at: float) -> None:
    windows = Windows.restored(10, None)
    assert windows.take([25.0, at, 27.0, at, 31.0]) == 4
    assert windows.take([at, 31.0]) == 1


@pytest.mark.parametrize("at", UNUSABLE)
def test_record_without_a_usable_time_opens_the_window_of_the_next_that_has_one(at: float) -> None:
    windows = Windows.restored(10, None)
    assert windows.take([at, at, 25.0, 31.0]) == 3
    assert windows.start_s == 20


@pytest.mark.parametrize("at", UNUSABLE)
def test_records_that_all_lack_a_time_have_a_window_that_is_closed_soon(at: float) -> None:
    windows = Windows.restored(10, None)
    assert windows.take([at, at]) == 2
    assert (windows.start_s, windows.end_s) == (0, 10)
    assert windows.take([1_764_000_000.0]) == 0
    assert windows.overdue(1_764_000_000.0)


def test_last_window_of_all_can_be_told_as_a_date() -> None:
    windows = Windows.restored(900, None)
    windows.take([253_402_300_800 - 901.0])
    windows.view().lambda_members(SHARD)
    assert windows.take([253_402_300_800 - 900.0]) == 1


def test_late_record_after_the_close_opens_its_window_again_from_an_empty_state() -> None:
    windows = Windows.restored(10, None)
    windows.take([12.0])
    windows.keep(view_with(windows, {"count": 1}))
    windows.close()
    assert windows.take([19.0]) == 1
    assert (windows.start_s, windows.view().state) == (10, {})


def test_idle_window_is_overdue_when_the_grace_after_its_end_is_over() -> None:
    windows = Windows.restored(10, None)
    assert not windows.overdue(1e9)
    windows.take([12.0])
    assert not windows.overdue(20.0)
    assert not windows.overdue(math.nextafter(20.0 + CLOSE_GRACE_S, 0.0))
    assert windows.overdue(20.0 + CLOSE_GRACE_S)
    windows.close()
    assert not windows.overdue(1e9)


# -- the state --------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=10,
)
states = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), json_values, max_size=4)


def view_with(windows: Windows, state: Any) -> Any:
    view = windows.view()
    view.state = state
    return view


def opened(state: dict[str, Any] | None = None) -> Windows:
    windows = Windows.restored(10, None)
    windows.take([12.0])
    if state is not None:
        windows.keep(view_with(windows, state))
    return windows


@given(states)
def test_state_survives_a_restart_as_it_was_left(state: dict[str, Any]) -> None:
    windows = opened(state)
    restored = Windows.restored(10, windows.stored)
    assert restored.view().state == windows.view().state == orjson.loads(orjson.dumps(state))
    assert (restored.start_s, restored.end_s, restored.stored) == (10, 20, windows.stored)


def test_every_attempt_has_a_copy_of_the_state_of_its_own() -> None:
    left = {"seen": [1], "by": {"a": [2]}}
    windows = opened(left)
    left["seen"].append(99)  # type: ignore[attr-defined]
    first, second = windows.view(), windows.view()
    first.state["seen"].append(98)
    first.state["by"]["a"].append(97)
    assert second.state == windows.view().state == {"seen": [1], "by": {"a": [2]}}
    windows.keep(second)
    second.state["seen"].append(96)
    assert windows.view().state == {"seen": [1], "by": {"a": [2]}}


@pytest.mark.parametrize(("length", "overflown"), [(WINDOW_STATE_BYTES_MAX, False), (WINDOW_STATE_BYTES_MAX + 1, True)])
def test_state_of_one_megabyte_is_the_largest(length: int, overflown: bool) -> None:
    state = {"s": "x" * (length - len(b'{"s":""}'))}
    windows = opened(state)
    assert windows.stored is not None
    assert len(windows.stored.state) == length
    assert windows.overflown is overflown
    assert Windows.restored(10, windows.stored).overflown is overflown
    assert windows.view(final=True, early=True).state == state


def test_size_of_a_state_is_that_of_its_encoded_json() -> None:
    assert not opened({"s": "é" * (WINDOW_STATE_BYTES_MAX // 2 - 4)}).overflown
    assert opened({"s": "é" * (WINDOW_STATE_BYTES_MAX // 2)}).overflown


def test_early_close_hands_over_the_whole_state_and_goes_on_from_an_empty_one() -> None:
    large = {"s": "x" * WINDOW_STATE_BYTES_MAX}
    windows = opened(large)
    early = windows.view(final=True, early=True)
    assert (early.is_final, early.is_terminated_early, early.state) == (True, True, large)
    windows.close_early()
    assert not windows.overflown
    assert (windows.start_s, windows.end_s, windows.view().state) == (10, 20, {})
    assert windows.take([19.0, 20.0]) == 1


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (None, "left a NoneType"),
        ([1], "left a list"),
        ("{}", "left a str"),
        ({1: "a"}, "key must be str"),
        ({"a": {(1, 2): 3}}, "key must be str"),
        ({"a": {4711}}, "holds a set"),
        ({"a": b"4711"}, "holds a bytes"),
        ({"a": [datetime(4711, 1, 1, tzinfo=UTC)]}, "holds a datetime"),
        ({"a": 4711 * 10**30}, "64-bit"),
        ({"a": [1.0, math.nan]}, "not finite"),
        ({"a": {"b": (1, None, -math.inf)}}, "not finite"),
        ({"a": Decimal(4711)}, r'Decimal, which is what images have.*numbers = "int_float"'),
    ],
    ids=str,
)
def test_state_that_is_no_json_object_is_refused_and_the_one_before_stays(state: Any, reason: str) -> None:
    windows = opened({"count": 1})
    with pytest.raises(WindowStateError, match=reason) as refused:
        windows.keep(view_with(windows, state))
    assert "4711" not in str(refused.value)
    assert windows.view().state == {"count": 1}


def test_none_in_a_state_is_json() -> None:
    assert opened({"a": None, "b": [None, 1.5]}).view().state == {"a": None, "b": [None, 1.5]}


def test_state_that_is_nested_too_deep_is_refused() -> None:
    state: dict[str, Any] = {}
    inner = state
    for _ in range(2_000):
        inner["a"] = inner = {}
    with pytest.raises(WindowStateError, match="must be JSON"):
        opened(state)


def test_nothing_is_open_before_the_first_record_and_after_the_close() -> None:
    windows = Windows.restored(10, None)
    for _ in range(2):
        assert (windows.is_open, windows.stored, windows.overflown) == (False, None, False)
        for use in (lambda: windows.start_s, lambda: windows.end_s, windows.view, windows.close_early):
            with pytest.raises(RuntimeError, match="no tumbling window is open"):
                use()
        windows.take([12.0])
        assert windows.is_open
        windows.close()


# -- another size after a restart -------------------------------------------------------------------------------------


@given(st.integers(0, 5_000_000), sizes, sizes)
def test_window_of_another_size_ends_where_it_was_to_end_and_later_ones_are_in_their_places(
    place: int, old_size_s: int, size_s: int
) -> None:
    start_s = place * old_size_s
    windows = Windows.restored(size_s, WindowState(start_s, start_s + old_size_s, b'{"count":3}'))
    view = windows.view(final=True)
    assert (view.start_s, view.end_s, view.state) == (start_s, start_s + old_size_s, {"count": 3})
    assert windows.take([math.nextafter(view.end_s, 0.0), view.end_s]) == 1
    windows.close()
    windows.take([view.end_s])
    assert windows.start_s <= view.end_s < windows.end_s
    assert windows.start_s % size_s == 0


@pytest.mark.parametrize("text", [b"", b"[1]", b"null", b'{"a":'])
def test_stored_state_that_is_damaged_is_told_instead_of_forgotten(text: bytes) -> None:
    with pytest.raises(WindowStateError, match="lease row"):
        Windows.restored(10, WindowState(10, 20, text))


# -- the vectors ------------------------------------------------------------------------------------------------------


def test_vector_18_next_window_begins_with_an_empty_state_after_the_final_of_the_last() -> None:
    windows = Windows.restored(10, None)
    invocations: list[tuple[str, int, dict[str, Any]]] = []
    batch = [1.0, 3.0, 12.0]
    while batch:
        count = windows.take(batch)
        view = windows.view(final=not count)
        invocations.append((str(batch[:count]), view.start_s, dict(view.state)))
        view.state["count"] = view.state.get("count", 0) + count
        if count:
            windows.keep(view)
        else:
            windows.close()
        batch = batch[count:]
    assert invocations == [("[1.0, 3.0]", 0, {}), ("[]", 0, {"count": 2}), ("[12.0]", 10, {})]
    assert windows.view(final=True).state == {"count": 1}


def test_vector_19_invocation_without_a_state_is_retried_with_the_same_one() -> None:
    windows = opened({"count": 1})
    for _ in range(2):
        attempt = windows.view()
        assert attempt.state == {"count": 1}
        attempt.state["count"] = 2
        attempt.state = None  # type: ignore[assignment]
        with pytest.raises(WindowStateError):
            windows.keep(attempt)
    assert windows.view().state == {"count": 1}
