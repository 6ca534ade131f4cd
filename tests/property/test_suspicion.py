"""Suspicion of a record that kills its process, for all histories: who is convicted was at work alone, each time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.leases import SUSPECTS, Lease
from streamflow.positions import TRIM_HORIZON, Position
from streamflow.rules.suspicion import (
    DEATHS_MAX,
    TIMES_MAX,
    Suspicion,
    has_died,
    row_key,
    row_of,
    suspicion_after_death,
)

LEASE = Lease(pipeline="orders", stream_arn="arn:x", shard_id="shardId-1")
NAMES = st.sampled_from(["a", "b", "c"])


def noted(suspicion: Suspicion) -> Lease:
    return row_of(suspicion, LEASE.key, by="w")


@given(
    st.builds(
        Suspicion,
        at=st.integers(0, 10**40).map(lambda number: Position.after(str(number))) | st.just(TRIM_HORIZON),
        deaths=st.integers(1, 50),
        alone=st.sampled_from(["", "1" * 40, "sha256:ab", "final"]),
        times=st.integers(1, 9),
    )
)
def test_a_row_says_what_was_noted_and_one_death_more(suspicion: Suspicion) -> None:
    if not suspicion.alone:
        suspicion = replace(suspicion, times=0)
    assert suspicion_after_death(noted(suspicion), suspicion.at) == replace(suspicion, deaths=suspicion.deaths + 1)
    assert (noted(suspicion).pipeline, noted(suspicion).stream_arn) == SUSPECTS
    assert noted(suspicion).key == row_key(LEASE.key)


@given(st.integers(1, 50), st.integers(0, 9))
def test_nothing_is_left_of_it_once_the_checkpoint_has_moved(deaths: int, times: int) -> None:
    before = Suspicion(at=TRIM_HORIZON, deaths=deaths, alone="a", times=times)
    assert suspicion_after_death(noted(before), Position.after("7")) == Suspicion(at=Position.after("7"), deaths=1)
    assert suspicion_after_death(None, TRIM_HORIZON) == Suspicion(at=TRIM_HORIZON, deaths=1)


@pytest.mark.parametrize("children", [("a",), ("a", "many"), ("a", "1", "2"), ("a", "-1"), ("a", "²")])
def test_a_row_that_somebody_else_has_written_says_nothing(children: tuple[str, ...]) -> None:
    row = replace(noted(Suspicion(at=TRIM_HORIZON, deaths=9)), children=children)
    assert suspicion_after_death(row, TRIM_HORIZON) == Suspicion(at=TRIM_HORIZON, deaths=1)


@given(st.lists(st.none() | NAMES | st.lists(NAMES, min_size=1, max_size=3), max_size=30))
def test_who_is_convicted_was_the_last_at_work_in_so_many_lives(
    lives: list[str | list[str] | None],
) -> None:
    """Each life hands nothing over, or records one after the other, and dies over the last; nothing is ever settled."""
    row: Lease | None = None
    died_over: list[str] = []
    for life in lives:
        suspicion = suspicion_after_death(row, TRIM_HORIZON)
        records = [life] if isinstance(life, str) else life or []
        if not suspicion.isolates:
            if records:
                row = noted(suspicion)
            continue
        for record in records:
            if suspicion.convicts(record):
                assert died_over[-TIMES_MAX:] == [record] * TIMES_MAX
                return
            row = noted(suspicion.handing_over(record, TRIM_HORIZON))
        if records:
            died_over.append(records[-1])


def test_a_shard_is_isolated_after_three_deaths_and_its_record_convicted_after_three_more() -> None:
    row: Lease | None = None
    for deaths in range(1, DEATHS_MAX):
        suspicion = suspicion_after_death(row, TRIM_HORIZON)
        assert (suspicion.deaths, suspicion.isolates) == (deaths, False)
        row = noted(suspicion)
    for times in range(TIMES_MAX):
        suspicion = suspicion_after_death(row, TRIM_HORIZON)
        assert suspicion.isolates
        assert (suspicion.times_of("a"), suspicion.convicts("a")) == (times, False)
        row = noted(suspicion.handing_over("a", TRIM_HORIZON))
    assert suspicion_after_death(row, TRIM_HORIZON).convicts("a")
    assert not suspicion_after_death(row, TRIM_HORIZON).convicts("b")


@pytest.mark.parametrize(
    ("owner", "claimant", "is_ours", "died"),
    [
        (None, None, False, False),
        ("w2", None, False, True),
        ("w2", "w1", False, True),
        ("w2", "w2", False, False),
        ("w1", None, False, True),
        ("w1", None, True, False),
        ("w1", "w2", False, True),
    ],
)
def test_an_owner_has_died_that_did_not_let_go(
    owner: str | None, claimant: str | None, is_ours: bool, died: bool
) -> None:
    assert has_died(replace(LEASE, owner=owner, claimant=claimant), me="w1", is_ours=is_ours) is died
