"""Shard iterators: opaque to clients, and all state of a reader inside them, so that a page can be read again."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from streamflow.testing.refusals import invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardIterator:
    """The place before the first record with a sequence number of at least `number`."""

    stream_arn: str
    shard_id: str
    number: int
    issued_at_s: float
    generation: int
    """Grows when all iterators are made to expire at once."""

    def __str__(self) -> str:
        place = f"{self.shard_id}/{self.number}/{self.issued_at_s!r}/{self.generation}"
        return f"{self.stream_arn}|1|{base64.b64encode(place.encode()).decode()}"

    @classmethod
    def parse(cls, text: str) -> ShardIterator:
        """Read one back.

        Raises:
            RefusedError: ValidationException, it is none.
        """
        try:
            stream_arn, _, place = text.split("|")
            shard_id, number, issued_at_s, generation = base64.b64decode(place, validate=True).decode().split("/")
            return cls(
                stream_arn=stream_arn,
                shard_id=shard_id,
                number=int(number),
                issued_at_s=float(issued_at_s),
                generation=int(generation),
            )
        except (ValueError, binascii.Error):
            raise invalid("Invalid ShardIterator") from None
