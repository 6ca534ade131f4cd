"""Checkpoints as lines of JSON: what `checkpoint export` writes and `checkpoint import` reads.

Each line is one row, complete in itself. `format` is 1; a reader refuses what it does not know.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from streamflow.errors import ConfigError
from streamflow.leases import Lease, LeaseState, WindowState
from streamflow.positions import Position

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = 1


class _Window(BaseModel):
    model_config = ConfigDict(extra="forbid")

    start_s: int
    end_s: int
    state: dict[str, Any]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal[1]
    pipeline: Annotated[str, Field(min_length=1)]
    stream_arn: Annotated[str, Field(min_length=1)]
    shard_id: Annotated[str, Field(min_length=1)]
    state: LeaseState
    checkpoint: str
    parents: tuple[str, ...]
    children: tuple[str, ...]
    window: _Window | None

    @field_validator("checkpoint")
    @classmethod
    def _is_a_position(cls, value: str) -> str:
        Position.parse(value)
        return value


def line(row: Lease) -> str:
    """The row with its window, as `LeaseStore.get` has it."""
    window = row.window
    return json.dumps(
        {
            "format": FORMAT,
            "pipeline": row.pipeline,
            "stream_arn": row.stream_arn,
            "shard_id": row.shard_id,
            "state": row.state.value,
            "checkpoint": str(row.checkpoint),
            "parents": list(row.parents),
            "children": list(row.children),
            "window": None
            if window is None
            else {"start_s": window.start_s, "end_s": window.end_s, "state": json.loads(window.state)},
        }
    )


def rows(lines: Iterable[str], *, name: str) -> list[Lease]:
    """The rows of a file that is called `name`, without owners.

    Raises:
        ConfigError: every line that is none, with its number; a shard that is there twice; nothing at all.
    """
    found: dict[object, Lease] = {}
    problems: list[str] = []
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            row = _row(_Line.model_validate_json(text))
        except ValidationError as error:
            problems += [f"{name}:{number}: {_problem(detail)}" for detail in error.errors()]
            continue
        if row.key in found:
            problems.append(f"{name}:{number}: {row.shard_id} of {row.pipeline} is there twice")
        found[row.key] = row
    if not found and not problems:
        problems = [f"{name}: there are no checkpoints in it"]
    if problems:
        raise ConfigError(problems)
    return list(found.values())


def _row(told: _Line) -> Lease:
    window = told.window
    return Lease(
        pipeline=told.pipeline,
        stream_arn=told.stream_arn,
        shard_id=told.shard_id,
        state=told.state,
        checkpoint=Position.parse(told.checkpoint),
        parents=told.parents,
        children=told.children,
        window=None
        if window is None
        else WindowState(window.start_s, window.end_s, json.dumps(window.state, separators=(",", ":")).encode()),
    )


def _problem(detail: Any) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    if place == "format":
        return f"its format is not {FORMAT}: it was written by another version of streamflow"
    return f"{place}: {detail['msg']}" if place else "it is no line of `streamflow checkpoint export`"
