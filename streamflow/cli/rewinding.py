"""Where a rewind goes, and what it changes: the stream is asked what the rows alone do not tell."""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import TYPE_CHECKING

import anyio

from streamflow.cli import leased
from streamflow.cli.letters import number_of
from streamflow.cli.resetting import Plan
from streamflow.errors import ConfigError, NotFoundError, TrimmedError
from streamflow.leases import LeaseState
from streamflow.positions import SEQUENCE_NUMBER_DIGITS_MAX, TRIM_HORIZON, Position
from streamflow.rules import resets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamflow.cli.leased import PlacedStream
    from streamflow.cli.looking import Look
    from streamflow.leases import Lease
    from streamflow.protocols import Source
    from streamflow.records import Shard
    from streamflow.rules.resets import Reset

_BEFORE_NOW = re.compile(r"^-(\d{1,9})([smhd])$")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_READ_TOGETHER = 16
_EMPTY_PAGES_MAX = 20


def parsed_target(text: str, *, now_s: float) -> Position | float:
    """The horizon, the place of a record, or a time in seconds since the Unix epoch.

    Raises:
        ConfigError: it is none of these, or to come.
    """
    if text == str(TRIM_HORIZON):
        return TRIM_HORIZON
    if text.isascii() and text.isdigit() and len(text) <= SEQUENCE_NUMBER_DIGITS_MAX:
        return Position.at(text)
    if found := _BEFORE_NOW.match(text):
        return math.floor(now_s) - int(found[1]) * _SECONDS[found[2]]  # records are dated in whole seconds
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--to: {text!r} is none of: a time as 2026-11-25T07:00:00Z, a time before now as -90s, -30m, -2h or -1d, a "
            "sequence number, TRIM_HORIZON"
        ) from None
    time_s = (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
    if time_s > now_s:
        raise ConfigError(f"--to: {text} is still to come")
    return time_s


async def rewound(stream: PlacedStream, look: Look, shard_ids: Sequence[str], goal: Position | float) -> Plan:
    assert stream.source is not None
    rows = resets.shards_of(
        row for row in look.rows if (row.pipeline, row.stream_arn) == (stream.pipeline, stream.stream_arn)
    )
    named = leased.chosen(list(rows.values()), shard_ids)
    listed = await stream.source.shards()
    if isinstance(goal, Position) and goal.sequence_number:
        return Plan(resets=_back(resets.with_descendants([resets.reset(named[0], goal)], rows)))
    chosen = {row.shard_id for row in named} or set(rows)
    chosen |= resets.descendants(chosen, rows)
    selected = [rows[shard_id] for shard_id in sorted(chosen)]
    if isinstance(goal, Position):
        found = resets.to_trim_horizon(selected, listed)
    else:
        reached_s = await _reached(stream.source, resets.numbered(selected, listed), listed)
        found = resets.to_time(selected, listed, goal, reached_s=reached_s)
    return Plan(resets=found, notes=_notes(stream, rows, selected, listed))


def _back(found: list[Reset]) -> list[Reset]:
    if any(each.direction is resets.Direction.AHEAD for each in found):
        raise ConfigError("--to: the shard is not that far yet: `streamflow checkpoint set` goes ahead")
    return found


def _notes(
    stream: PlacedStream, rows: Mapping[str, Lease], selected: Sequence[Lease], listed: Mapping[str, Shard]
) -> list[str]:
    notes = []
    if unknown := sorted(set(listed) - set(rows)):
        notes.append(
            f"{stream.pipeline}: {number_of(len(unknown), 'shard')} of the stream without a lease will be read from the start"
        )
    gone = [row.shard_id for row in selected if row.shard_id not in listed and row.state is LeaseState.ACTIVE]
    notes += [f"{stream.pipeline}: {shard_id} is gone from the stream and stays as it is" for shard_id in gone]
    return notes


async def _reached(source: Source, rows: Sequence[Lease], listed: Mapping[str, Shard]) -> dict[str, float | None]:
    """When the record at each checkpoint was made, as `resets.to_time` wants it: DynamoDB finds no record by its time."""
    found: dict[str, float | None] = {}
    limiter = anyio.CapacityLimiter(_READ_TOGETHER)

    async def look(row: Lease) -> None:
        async with limiter:
            found[row.shard_id] = await _made_at_s(source, listed[row.shard_id], row.checkpoint.sequence_number)

    async with anyio.create_task_group() as tasks:
        for row in rows:
            tasks.start_soon(look, row, name=f"{row.pipeline}/{row.shard_id}/look")
    return found


async def _made_at_s(source: Source, shard: Shard, sequence_number: str) -> float | None:
    async with source.open(shard, Position.at(sequence_number)) as reader:
        try:
            for _ in range(_EMPTY_PAGES_MAX):
                page = await reader.read(records_max=1)
                if page.records:
                    return page.records[0].created_at_s
                if page.ended:
                    return None
        except (TrimmedError, NotFoundError):
            return float("-inf")
    return None
