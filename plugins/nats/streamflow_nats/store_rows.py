"""A lease as the bytes of its row, and back: pure.

A row is a line of JSON; behind it stands the state of a small window. That of a large one is in entries of its own, which
are written together with the row that counts them, and named after its version.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from streamflow.errors import StoreError
from streamflow.leases import Gap, Lease, LeaseState, WindowState
from streamflow.positions import Position

PIECE_BYTES = 128 << 10
_INLINE_BYTES = 4 << 10
"""Of a state behind its row: 10,000 rows with such states are 40 MB, and a listing of them still takes seconds."""


class Row(NamedTuple):
    """`lease` is without its window, if that is in `pieces` entries of its own.

    `is_littered` says that the row before had some too: whoever wrote this one may have died before it removed them.
    """

    lease: Lease
    pieces: int
    is_littered: bool


def encoded(lease: Lease, *, is_littered: bool) -> tuple[bytes, list[bytes]]:
    """The row, and the pieces of its window, if that is large. Raises `StoreError`: a name is no text."""
    window = lease.window
    state = b"" if window is None else window.state
    pieces = cut(state) if len(state) > _INLINE_BYTES else []
    values = {
        "pipeline": lease.pipeline,
        "stream_arn": lease.stream_arn,
        "shard_id": lease.shard_id,
        "owner": lease.owner,
        "claimant": lease.claimant,
        "epoch": lease.epoch,
        "version": lease.version,
        "checkpoint": str(lease.checkpoint),
        "state": lease.state.value,
        "parents": lease.parents,
        "children": lease.children,
        "gaps": [[str(gap.lost_from), gap.found_at_s, gap.cause] for gap in lease.gaps],
        "duration_s": lease.duration_s,
        "window": None if window is None else [window.start_s, window.end_s],
        "pieces": len(pieces),
        "is_littered": is_littered,
    }
    try:
        line = orjson.dumps(values)
    except orjson.JSONEncodeError as error:
        raise StoreError(f"lease store: the row of {lease.shard_id!r} cannot be stored: {error}") from None
    return line + b"\n" + (b"" if pieces else state), pieces


def decoded(data: bytes, key: str) -> Row:
    """Raises `StoreError`: the row is damaged."""
    line, _, state = data.partition(b"\n")
    try:
        values: dict[str, Any] = orjson.loads(line)
        window = values["window"]
        lease = Lease(
            pipeline=values["pipeline"],
            stream_arn=values["stream_arn"],
            shard_id=values["shard_id"],
            owner=values["owner"],
            claimant=values["claimant"],
            epoch=values["epoch"],
            version=values["version"],
            checkpoint=Position.parse(values["checkpoint"]),
            state=LeaseState(values["state"]),
            parents=tuple(values["parents"]),
            children=tuple(values["children"]),
            gaps=tuple(
                Gap(lost_from=Position.parse(lost_from), found_at_s=found_at_s, cause=cause)
                for lost_from, found_at_s, cause in values["gaps"]
            ),
            window=None if window is None else WindowState(window[0], window[1], state),
            duration_s=values["duration_s"],
        )
        return Row(lease, int(values["pieces"]), bool(values["is_littered"]))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise damaged(key, f"{type(error).__name__}: {error}") from error


def with_state(lease: Lease, state: bytes) -> Lease:
    """The lease with the state of its window, which was kept apart."""
    assert lease.window is not None
    return replace(lease, window=replace(lease.window, state=state))


def damaged(key: str, why: str) -> StoreError:
    return StoreError(
        f"lease store: the row {key} is damaged: {why} (correct it, or delete it: then the shard starts at its starting "
        "position)"
    )


def cut(data: bytes) -> list[bytes]:
    """In pieces of `PIECE_BYTES` at most, which any server takes that a store works with."""
    return [data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES)]
