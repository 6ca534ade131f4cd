"""What a target is, and what hand-written loops have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from streamflow.sdk import SinkDeclaration

_STARTERS = str(Path(__file__).parents[2] / "tests")

Record: TypeAlias = Mapping[str, Any]
"""A stream record as aioboto3 or `orjson.loads` gives it."""

WritePage: TypeAlias = Callable[[Sequence[Record]], Awaitable[None]]
"""Returning is that the page is written, as durably as the sink has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A table, queue or file that one contender has for itself, for one round."""

    sink: SinkDeclaration
    open_loop: Callable[[], AbstractAsyncContextManager[WritePage]]
    """The hand-written way to write a page: the same client library, in bulk, the same content."""
    count: Callable[[], Awaitable[int]]
    """How many changes arrived, or how many items are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """How many of each shard a contender reads in a full round: enough for a second or more."""

    ours: int
    peer: int
    floor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`serve` starts its server on the core that is named, and gives what contenders need to find it."""

    name: str
    """Of the claim, behind `sink_`."""
    server: str
    """What is at the other end, for the table; whether it is real."""
    loop: str
    """What the hand-written loop calls."""
    holds: Literal["changes", "items"]
    pages: Pages
    serve: Callable[[int], AbstractContextManager[str]]
    open_place: Callable[[str], AbstractAsyncContextManager[Place]]
    """Given what `serve` gave; opened in the contender, and gone afterwards."""


@contextmanager
def no_server(_: int) -> Iterator[str]:
    """For targets within the contender's own process."""
    yield ""


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes that are started in the block stay on this core, where the system can. The tests' servers can be found."""
    if _STARTERS not in sys.path:
        sys.path.append(_STARTERS)
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def own_name() -> str:
    """Of a table, queue or index that no other contender has."""
    return f"benchmark_{os.getpid()}"  # noqa: TID251 - names what only this process writes


# --- what people write to encode a record -----------------------------------------------------------------------------


def lambda_record(record: Record) -> dict[str, Any]:
    """The record as an element of a Lambda event but for its ARN, for a writer of JSON."""
    change = record["dynamodb"]
    created = change["ApproximateCreationDateTime"]
    if isinstance(created, datetime):
        created = created.timestamp()
    return {**record, "dynamodb": {**change, "ApproximateCreationDateTime": created}}


def plain(image: Mapping[str, Any]) -> dict[str, Any]:
    """An item in plain Python, for a writer of JSON; numbers beyond a double are not looked out for."""
    return {name: _value(value) for name, value in image.items()}


def _value(typed: Mapping[str, Any]) -> Any:
    ((kind, value),) = typed.items()
    match kind:
        case "N":
            return float(value) if "." in value else int(value)
        case "M":
            return plain(value)
        case "L":
            return [_value(each) for each in value]
        case "NULL":
            return None
        case _:
            return value


def item_key(record: Record) -> str:
    """One text for the item."""
    keys = record["dynamodb"]["Keys"]
    return f"{keys['order']['S']}/{keys['line']['N']}"


def is_delete(record: Record) -> bool:
    return bool(record["eventName"] == "REMOVE")


def split(records: Sequence[Record]) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """The items of a page as it leaves them: those that live, by key, and the keys of those that do not."""
    items: dict[str, dict[str, Any] | None] = {}
    for record in records:
        items[item_key(record)] = None if is_delete(record) else plain(record["dynamodb"]["NewImage"])
    living = [(key, item) for key, item in items.items() if item is not None]
    return living, [key for key, item in items.items() if item is None]
