"""A log of pages gives every reader what comes next, or says that it cannot; never a gap, never a record twice."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamflow.positions import TRIM_HORIZON, Position
from streamflow.protocols import Page
from streamflow.records import Record, Shard
from streamflow.rules.page_log import PageLog, behind

SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/1", shard_id="shardId-1")


def record(number: int) -> Record:
    text = f'{{"dynamodb":{{"SequenceNumber":"{number}"}}}}'
    return Record(msgspec.Raw(text.encode()), SHARD)


def filled(sizes: list[int], bytes_max: int, *, start: Position = TRIM_HORIZON) -> tuple[PageLog, int]:
    """A log with pages of so many records, numbered from 100 on, each as large as it has records; and the next number."""
    log = PageLog(start, bytes_max)
    number = 100
    for size in sizes:
        log.append(Page(records=[record(number + each) for each in range(size)], bytes=size))
        number += size
    return log, number


def read_from(log: PageLog, position: Position) -> list[int] | None:
    """What a reader that joins at the position gets, up to the tip; None if it cannot join."""
    number = log.number_at(position)
    if number is None:
        return None
    found: list[int] = []
    joined = True
    while (entry := log.page(number)) is not None:
        number, page = entry
        records = behind(page.records, position) if joined else page.records
        joined = False
        found += [int(each.sequence_number) for each in records]
        number += 1
    assert number == log.next_number
    return found


SIZES = st.lists(st.integers(0, 5), min_size=1, max_size=10)


@given(SIZES, st.integers(0, 60))
def test_whoever_joins_behind_a_record_gets_all_that_follows_it(sizes: list[int], after: int) -> None:
    log, end = filled(sizes, 1_000)
    position = Position.after(str(100 + after))
    if 100 + after < end:
        assert read_from(log, position) == list(range(101 + after, end))
    else:
        assert read_from(log, position) is None


@given(SIZES)
def test_whoever_began_where_the_log_did_gets_everything(sizes: list[int]) -> None:
    log, end = filled(sizes, 1_000)
    assert read_from(log, TRIM_HORIZON) == list(range(100, end))


@given(SIZES, st.integers(1, 12), st.integers(0, 60))
def test_what_was_let_go_is_never_skipped(sizes: list[int], bytes_max: int, after: int) -> None:
    log, end = filled(sizes, bytes_max)
    found = read_from(log, Position.after(str(100 + after)))
    assert found is None or found == list(range(101 + after, end))


@given(SIZES, st.integers(1, 12))
def test_no_more_than_the_limit_is_kept_beside_the_newest_page(sizes: list[int], bytes_max: int) -> None:
    log, _ = filled(sizes, bytes_max)
    pages = list(dict(entry for number in range(len(sizes)) if (entry := log.page(number)) is not None).values())
    assert sum(page.bytes for page in pages[:-1]) + pages[-1].bytes <= max(bytes_max, pages[-1].bytes)
    assert log.page(len(sizes) - 1) is not None
    assert log.page(len(sizes)) is None


@given(SIZES, st.sampled_from([TRIM_HORIZON, Position.at_timestamp(1_700_000_000.0)]), st.integers(1, 99))
def test_whoever_is_before_the_first_record_reads_apart(sizes: list[int], start: Position, number: int) -> None:
    """Between there and the log may be records: lost ones, or such as only the others do not want."""
    log, _ = filled(sizes, 1_000, start=start)
    assert log.number_at(Position.after(str(number))) is None


@given(SIZES)
def test_whoever_is_at_the_tip_reads_next(sizes: list[int]) -> None:
    log, _ = filled(sizes, 3)
    assert log.number_at(log.tip) == log.next_number == len(sizes)


@given(SIZES, st.integers(1, 12))
def test_whoever_comes_seldom_is_done_with_all_empty_pages_at_once(sizes: list[int], bytes_max: int) -> None:
    log, _ = filled(sizes, bytes_max)
    with_records = sum(size > 0 for size in sizes)
    held = dict(entry for number in range(len(sizes)) if (entry := log.page(number)) is not None)
    assert len(held) <= with_records + 1
    assert [number for number, page in held.items() if not page.records] in ([], [len(sizes) - 1])
