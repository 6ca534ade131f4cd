"""Where a reader is in a shard; a checkpoint is a stored position."""

from __future__ import annotations

from enum import Enum
from math import isfinite

import msgspec

# 21 to 40 digits on DynamoDB Streams, 56 on Kinesis; far beyond that a number is an attack on the reader.
SEQUENCE_NUMBER_DIGITS_MAX = 128


class PositionKind(Enum):
    """Ordered as in the Kinesis Client Library: every kind before the next one, sequence numbers among themselves."""

    AT_TIMESTAMP = "AT_TIMESTAMP"
    TRIM_HORIZON = "TRIM_HORIZON"
    LATEST = "LATEST"
    AT_SEQUENCE_NUMBER = "AT_SEQUENCE_NUMBER"
    AFTER_SEQUENCE_NUMBER = "AFTER_SEQUENCE_NUMBER"
    SHARD_END = "SHARD_END"


_RANK = {kind: rank for rank, kind in enumerate(PositionKind)}
_RANK[PositionKind.AT_SEQUENCE_NUMBER] = _RANK[PositionKind.AFTER_SEQUENCE_NUMBER]


class Position(msgspec.Struct, frozen=True, gc=False):
    """A place in one shard: use the class methods, not the constructor.

    The text form (`str`, `parse`) is what stores keep: the kind, and after a colon the sequence number (decimal,
    21 to 40 digits on DynamoDB Streams, compared as a number) or the time (seconds since the Unix epoch).
    """

    kind: PositionKind
    sequence_number: str = ""
    timestamp_s: float = 0.0

    @classmethod
    def after(cls, sequence_number: str) -> Position:
        """The place just behind a record: what settling that record stores."""
        return cls(PositionKind.AFTER_SEQUENCE_NUMBER, sequence_number)

    @classmethod
    def at(cls, sequence_number: str) -> Position:
        return cls(PositionKind.AT_SEQUENCE_NUMBER, sequence_number)

    @classmethod
    def at_timestamp(cls, timestamp_s: float) -> Position:
        """The first record created at or after this time (seconds since the Unix epoch)."""
        return cls(PositionKind.AT_TIMESTAMP, timestamp_s=timestamp_s)

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read the text form.

        Raises:
            ValueError: it is none.
        """
        name, colon, value = text.partition(":")
        kind = PositionKind(name)
        if kind is PositionKind.AT_TIMESTAMP:
            timestamp_s = float(value)
            if not isfinite(timestamp_s):
                raise ValueError(f"{text!r} is not a position: no such time")
            return cls.at_timestamp(timestamp_s)
        if kind in {PositionKind.AT_SEQUENCE_NUMBER, PositionKind.AFTER_SEQUENCE_NUMBER}:
            if not (value.isascii() and value.isdigit() and len(value) <= SEQUENCE_NUMBER_DIGITS_MAX):
                raise ValueError(f"{text[:160]!r} is not a position: a sequence number is decimal")
            return cls(kind, value)
        if colon:
            raise ValueError(f"{text!r} is not a position")
        return cls(kind)

    def __str__(self) -> str:
        if self.kind is PositionKind.AT_TIMESTAMP:
            return f"{self.kind.value}:{self.timestamp_s!r}"
        return f"{self.kind.value}:{self.sequence_number}" if self.sequence_number else self.kind.value

    @property
    def order(self) -> tuple[int, int, int]:
        """A sort key: a checkpoint may only grow by it."""
        number = int(self.sequence_number) if self.sequence_number else 0
        return _RANK[self.kind], number, int(self.kind is PositionKind.AFTER_SEQUENCE_NUMBER)


TRIM_HORIZON = Position(PositionKind.TRIM_HORIZON)
LATEST = Position(PositionKind.LATEST)
SHARD_END = Position(PositionKind.SHARD_END)


def sortable(sequence_number: str) -> str:
    """A text that orders as the sequence number does as a number, whatever its length: for targets that compare text.

    Three digits of length, then the number without leading zeros. Raises `ValueError` for what is no such number.
    """
    if (
        not (sequence_number.isascii() and sequence_number.isdigit())
        or len(sequence_number) > SEQUENCE_NUMBER_DIGITS_MAX
    ):
        raise ValueError(f"{sequence_number[:160]!r} is no sequence number")
    digits = sequence_number.lstrip("0")
    return f"{len(digits):03d}{digits}"
