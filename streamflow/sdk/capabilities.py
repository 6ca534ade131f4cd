"""What a sink can do, and what it takes: the engine batches by it, and `streamflow check` warns by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Order: TypeAlias = Literal["none", "key", "shard"]
"""What the target shows of the stream's order: nothing, that of each item's changes, or that of a shard."""

Idempotence: TypeAlias = Literal["none", "window", "versioned", "transactional"]
"""What a record that is written again does: it repeats its effect; it is recognised for a time; it changes nothing,
because a newer or the same version is there; nor could it, because the checkpoint was stored with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Sizes are bytes of what is sent, but for `bytes_max`; None is no limit of the sink's own.

    Raises:
        ValueError: they contradict each other.
    """

    order: Order
    idempotence: Idempotence
    idempotence_key: str | None = None
    """What a repetition is recognised by, for people: `event id`, `item key and sequence number`."""
    idempotence_window_s: float | None = None
    """How long a `window` lasts."""
    partial_failures: bool = False
    """`write` raises `RecordsFailedError`, which tells single records apart."""
    deletes: bool = True
    """A REMOVE is a delete, or told as one; otherwise it is refused."""
    needs_images: bool = False
    """It writes what is in the new image: a stream with the view KEYS_ONLY or OLD_IMAGE will not do."""
    windows: bool = False
    """It knows tumbling windows: `batch.window`, its state, and final invocations without records."""
    batch_size: int = 100
    """Records that it writes best at a time: the pipeline's `batch_size`, unless that is set."""
    records_max: int | None = None
    """The most records that one `write` takes: no batch is larger."""
    bytes_max: int | None = None
    """The most bytes of encoded event that one `write` takes: no batch is larger, but for a single record."""
    request_records_max: int | None = None
    """The most records in one request to the target."""
    request_bytes_max: int | None = None
    """The most bytes in one request to the target."""
    record_bytes_max: int | None = None
    """A larger record is refused."""

    def __post_init__(self) -> None:
        wrong = list(self._contradictions())
        if wrong:
            raise ValueError("; ".join(wrong))

    def _contradictions(self) -> list[str]:
        wrong = []
        if (self.idempotence == "none") != (self.idempotence_key is None):
            wrong.append("idempotence_key says what idempotence goes by: give both or neither")
        if (self.idempotence == "window") != (self.idempotence_window_s is not None):
            wrong.append("idempotence_window_s goes with idempotence window")
        numbers = (
            "batch_size",
            "records_max",
            "bytes_max",
            "request_records_max",
            "request_bytes_max",
            "record_bytes_max",
        )
        wrong += [f"{name} is below 1" for name in numbers if (value := getattr(self, name)) is not None and value < 1]
        return wrong
