"""How far a shard is, in an object of its own that only its newest owner can replace.

An object of records is announced here before it is put. So whoever takes the shard over knows the one object that may still
be on its way from the owner before: it finds that object, and then the shard is past it, or puts an empty one in its place,
which the late one cannot replace any more. Either way nothing is written twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson

from streamflow.sdk import MalformedRecordError, Position

if TYPE_CHECKING:
    from streamflow.sdk import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An object that was announced, and the sequence number of its last record."""

    key: str
    last: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Everything up to `position`, a sequence number, is settled; and up to `pending.last`, if that object is there.

    `serial` counts announcements: no two objects of a shard have the same key.
    """

    epoch: int = 0
    position: str | None = None
    serial: int = 0
    pending: Pending | None = None

    @classmethod
    def parse(cls, text: bytes) -> Checkpoint:
        """Raises `ValueError`: it is none."""
        try:
            told: dict[str, Any] = orjson.loads(text)
            pending = told["pending"]
            return cls(
                epoch=int(told["epoch"]),
                position=None if told["position"] is None else str(told["position"]),
                serial=int(told["serial"]),
                pending=None if pending is None else Pending(key=str(pending["key"]), last=str(pending["last"])),
            )
        except (KeyError, TypeError, ValueError):
            raise ValueError("it is no checkpoint") from None

    def json(self) -> bytes:
        pending = None if self.pending is None else {"key": self.pending.key, "last": self.pending.last}
        return orjson.dumps(
            {"epoch": self.epoch, "position": self.position, "serial": self.serial, "pending": pending},
            option=orjson.OPT_INDENT_2,
        )

    def announcing(self, key: str, last: str) -> Checkpoint:
        return replace(self, serial=self.serial + 1, pending=Pending(key=key, last=last))

    def settled(self, *, there: bool) -> Checkpoint:
        """Without the pending object, which is `there` or never will be."""
        position = self.pending.last if there and self.pending is not None else self.position
        return replace(self, position=position, pending=None)

    @property
    def place(self) -> Position | None:
        return None if self.position is None else Position.after(self.position)

    def reached(self, record: Record) -> bool:
        """Whether the record is settled; of one that cannot be read nobody knows."""
        try:
            return self.place is not None and record.position.order <= self.place.order
        except MalformedRecordError:
            return False
