"""Our own attribute in a lease table, `streamflow`: what a lease says and the attributes of the KCL cannot.

It is a map that holds the epoch, and otherwise only where the lease differs from what the row says without it. The KCL knows
no such attribute, reads over it and, as it updates rows in place, leaves it alone. So it names the counter and the owner it
was written with: where a row has others, somebody else wrote it since.

The same form holds whole rows that are no shard's, in the companion table.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from streamflow.leases import Gap, Lease, LeaseState, WindowState
from streamflow.positions import Position

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Value: TypeAlias = "Mapping[str, Any]"
"""An attribute value as DynamoDB's JSON has it: {"S": "text"}."""
Item: TypeAlias = "Mapping[str, Value]"

NOTE = "streamflow"
# Of a window's state within the row. Each KB of an item costs a write unit at every renewal.
_STATE_BYTES_MAX = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkedWindow:
    """A window whose state lies in chunks of its own, under `name`; `digest` tells whether it is all there, and the same."""

    name: str
    start_s: int
    end_s: int
    digest: str

    def with_state(self, state: bytes) -> WindowState | None:
        """The window, if this is its state."""
        return WindowState(self.start_s, self.end_s, state) if _digest(state) == self.digest else None


def needs_chunks(window: WindowState | None) -> bool:
    return window is not None and len(window.state) > _STATE_BYTES_MAX


def noted(lease: Lease, beside: Lease, *, chunks: str | None = None) -> Value:
    """The note of a lease in a row that says `beside` without it. `chunks` is the name of its window, if that needs one."""
    note: dict[str, Value] = {
        "pipeline": {"S": lease.pipeline},
        "stream": {"S": lease.stream_arn},
        "epoch": {"N": str(lease.epoch)},
        "counter": {"N": str(lease.version)},
    }
    if lease.owner is not None:
        note["owner"] = {"S": lease.owner}
    if lease.claimant is not None and lease.claimant != beside.claimant:
        note["claimant"] = {"S": lease.claimant}
    if lease.checkpoint != beside.checkpoint:
        note["position"] = {"S": str(lease.checkpoint)}
    if lease.state is not beside.state:
        note["state"] = {"S": lease.state.value}
    if lease.parents != beside.parents:
        note["parents"] = _names(lease.parents)
    if lease.children != beside.children:
        note["children"] = _names(lease.children)
    if lease.gaps:
        note["gaps"] = {"L": [_gap(gap) for gap in lease.gaps]}
    if lease.duration_s is not None:
        note["duration"] = {"N": repr(lease.duration_s)}
    if lease.window is not None:
        note["window"] = _window(lease.window, chunks)
    return {"M": note}


def note_in(item: Item) -> Item | None:
    """The note of a row; None where there is none, or something else under its name."""
    note = item.get(NOTE, {}).get("M")
    return note if isinstance(note, dict) and {"epoch", "counter"} <= note.keys() else None


def with_note(beside: Lease, note: Item) -> Lease:
    """The lease that was noted. A window in chunks is left out: `chunked_window` tells of it.

    Raises:
        ValueError, KeyError, TypeError: the note is damaged.
    """
    return replace(
        beside,
        owner=note["owner"]["S"] if "owner" in note else None,
        claimant=note["claimant"]["S"] if "claimant" in note else beside.claimant,
        epoch=int(note["epoch"]["N"]),
        checkpoint=Position.parse(note["position"]["S"]) if "position" in note else beside.checkpoint,
        state=LeaseState(note["state"]["S"]) if "state" in note else beside.state,
        parents=_names_in(note["parents"]) if "parents" in note else beside.parents,
        children=_names_in(note["children"]) if "children" in note else beside.children,
        gaps=gaps_in(note),
        duration_s=float(note["duration"]["N"]) if "duration" in note else None,
        window=_window_in(note),
    )


def gaps_in(note: Item) -> tuple[Gap, ...]:
    found = note["gaps"]["L"] if "gaps" in note else []
    return tuple(
        Gap(
            lost_from=Position.parse(gap["M"]["from"]["S"]),
            found_at_s=float(gap["M"]["at"]["N"]),
            cause=gap["M"]["cause"]["S"],
        )
        for gap in found
    )


def chunked_window(note: Item | None) -> ChunkedWindow | None:
    """Where the window of a row is that is not in the row itself."""
    window = (note or {}).get("window", {}).get("M", {})
    if "chunks" not in window:
        return None
    return ChunkedWindow(
        name=window["chunks"]["S"],
        start_s=int(window["start"]["N"]),
        end_s=int(window["end"]["N"]),
        digest=window["digest"]["S"],
    )


def _gap(gap: Gap) -> Value:
    return {"M": {"from": {"S": str(gap.lost_from)}, "at": {"N": repr(gap.found_at_s)}, "cause": {"S": gap.cause}}}


def _names(names: Sequence[str]) -> Value:
    return {"L": [{"S": name} for name in names]}


def _names_in(value: Value) -> tuple[str, ...]:
    return tuple(name["S"] for name in value["L"])


def _window(window: WindowState, chunks: str | None) -> Value:
    state: Item = {"state": {"B": window.state}}
    if chunks is not None:
        state = {"chunks": {"S": chunks}, "digest": {"S": _digest(window.state)}}
    return {"M": {"start": {"N": str(window.start_s)}, "end": {"N": str(window.end_s)}, **state}}


def _digest(state: bytes) -> str:
    return hashlib.sha256(state).hexdigest()


def _window_in(note: Item) -> WindowState | None:
    window = note["window"]["M"] if "window" in note else {}
    if "state" not in window:
        return None
    return WindowState(int(window["start"]["N"]), int(window["end"]["N"]), bytes(window["state"]["B"]))
