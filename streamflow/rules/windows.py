"""The tumbling windows of one shard: which records go together, and the state that their invocations hand on.

The rules are Lambda's (esm.md 4):
- windows begin at multiples of their size since the Unix epoch, and hold their begin but not their end;
- a record's creation time says where it belongs, and one that comes late joins the window that is open;
- at most one window is open, and it is closed, by a final invocation without records, before the next one opens;
- a retry begins with the state that the last success left, and every attempt has a copy of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson

from streamflow.batches import Window
from streamflow.errors import WindowStateError
from streamflow.leases import WindowState

if TYPE_CHECKING:
    from collections.abc import Sequence

# 1 MB of JSON for each shard (esm.md 4).
WINDOW_STATE_BYTES_MAX = 1_048_576

# How long after its end the window of an idle shard is closed. Records become readable after they were made, creation
# times are rounded down to the second, and the service's clock is not ours: a record that comes after the close would
# open its window a second time, from {}. Lambda was seen to wait 31 to 112 s.
CLOSE_GRACE_S = 10.0

# Dates end with the year 9999, which the longest window (900 s) must not pass.
_DATES_END_S = 253_402_300_800 - 900

_EMPTY = b"{}"
# Without these orjson would keep a time as a text, and the next invocation would find another type.
_JSON = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS


def state_bytes_max(batch_bytes_max: int) -> int:
    """How large a state may be, so that an event of this size has room for records beside it."""
    return min(WINDOW_STATE_BYTES_MAX, batch_bytes_max // 2)


@dataclass(slots=True)
class Windows:
    """The tumbling windows of one shard, each `size_s` long (1 to 900; 0 after they were turned off).

    Owned by the task that delivers the shard.

    Where no window is open, `view`, `keep`, `close_early`, `start_s` and `end_s` raise `RuntimeError`.
    """

    size_s: int
    stored: WindowState | None = None
    """The open window, as it goes into the lease row with the checkpoint; None where none is open."""
    state_bytes_max: int = WINDOW_STATE_BYTES_MAX
    """Beyond this the window is closed early: 1 MB, or what an event has room for."""

    @classmethod
    def restored(
        cls, size_s: int, stored: WindowState | None, *, state_bytes_max: int = WINDOW_STATE_BYTES_MAX
    ) -> Windows:
        """Go on with the window that the lease row holds.

        If windows have another size by now, this one ends where it was to end, and all later ones are in their places. A
        size of 0 closes what is stored and opens nothing any more: no state is lost.

        Raises:
            WindowStateError: what is stored is no JSON object.
        """
        if stored is not None and not isinstance(_decoded(stored.state), dict):
            raise WindowStateError("the lease row holds a tumbling window whose state is no JSON object")
        return cls(size_s, stored, state_bytes_max)

    # -- which records ------------------------------------------------------------------------------------------------

    def take(self, created_at_s: Sequence[float]) -> int:
        """How many of the leading records go into the next invocation, by their creation times in stream order.

        0 says that the open window must be closed first. Where none is open, the first record opens its own: a window
        that was closed and meets a late record begins again, from {}.

        A record without a usable creation time (0, negative, not finite, beyond the year 9999) belongs to the open
        window; where none is open, to that of the first given record that has one, or else to the epoch's first.
        """
        if self.stored is None:
            first_s = next((int(at) for at in created_at_s if 0 < at < _DATES_END_S), 0)
            start_s = first_s // self.size_s * self.size_s
            self.stored = WindowState(start_s, start_s + self.size_s, _EMPTY)
        end_s = self.end_s
        return next((count for count, at in enumerate(created_at_s) if end_s <= at < _DATES_END_S), len(created_at_s))

    @property
    def is_open(self) -> bool:
        return self.stored is not None

    @property
    def start_s(self) -> int:
        return self._open.start_s

    @property
    def end_s(self) -> int:
        return self._open.end_s

    def overdue(self, now_s: float) -> bool:
        """Whether the open window is to be closed although no later record came.

        Everything must have been read and settled that the shard held at `now_s`, in wall time.
        """
        return self.stored is not None and now_s >= self.end_s + CLOSE_GRACE_S

    # -- the state ----------------------------------------------------------------------------------------------------

    def view(self, *, final: bool = False, early: bool = False) -> Window:
        """The open window for one attempt, with a copy of the state."""
        return Window(
            start_s=self.start_s,
            end_s=self.end_s,
            state=orjson.loads(self._open.state),
            is_final=final,
            is_terminated_early=early,
        )

    def keep(self, window: Window) -> None:
        """The invocation that had this view succeeded: the next one begins with its state.

        Raises:
            WindowStateError: the state is no dict, or not JSON; the one before stays.
        """
        self.stored = WindowState(self.start_s, self.end_s, _encoded(window.state))

    @property
    def overflown(self) -> bool:
        """The state is too large: the window must be closed early, before anything else is invoked."""
        return self.stored is not None and len(self.stored.state) > self.state_bytes_max

    def close(self) -> None:
        """The final invocation is done, or given up: no window is open."""
        self.stored = None

    def close_early(self) -> None:
        """The final invocation of a window that was overflown is done, or given up: the same one goes on from {}."""
        self.stored = WindowState(self.start_s, self.end_s, _EMPTY)

    @property
    def _open(self) -> WindowState:
        if self.stored is None:
            raise RuntimeError("no tumbling window is open")
        return self.stored


def _encoded(state: object) -> bytes:
    if not isinstance(state, dict):
        raise WindowStateError(
            f"the handler left a {type(state).__name__} as the state of its tumbling window, not a dict"
        )
    try:
        # As deep as it will stand in an event, because there is a limit to that.
        encoded = orjson.dumps({"": [state]}, default=_refuse, option=_JSON)[5:-2]
    except TypeError as error:
        raise _not_json(str(error.__cause__ or error)) from None
    # orjson writes null for what is no number.
    if b"null" in encoded and not _is_finite(state):
        raise _not_json("a float in it is not finite")
    return encoded


def _not_json(reason: str) -> WindowStateError:
    return WindowStateError(f"the state of a tumbling window must be JSON: {reason}")


def _refuse(value: object) -> None:
    """The reason names the type, never the value."""
    if isinstance(value, Decimal):
        raise TypeError(
            "it holds a Decimal, which is what images have for numbers: make it an int, a float or a str, "
            'or read images with numbers = "int_float"'
        )
    raise TypeError(f"it holds a {type(value).__name__}")


def _is_finite(state: Any) -> bool:
    """Whether all floats in a value that orjson can encode are JSON numbers."""
    pending = [state]
    while pending:
        match pending.pop():
            case dict() as members:
                pending.extend(members.values())
            case list() | tuple() as elements:
                pending.extend(elements)
            case float() as number if not math.isfinite(number):
                return False
    return True


def _decoded(text: bytes) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
