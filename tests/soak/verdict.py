"""What one part of the soak says: figures, the limits that they must keep, and how to see it again. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One of `at_most` and `at_least` is None."""

    name: str
    found: float
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""
    """What the figure depends on beside the code."""

    @property
    def met(self) -> bool:
        return (self.at_most is None or self.found <= self.at_most) and (
            self.at_least is None or self.found >= self.at_least
        )

    @property
    def text(self) -> str:
        bound = f"≤ {self.at_most:,g}" if self.at_most is not None else f"≥ {self.at_least:,g}"
        shown = f"{self.found:,.0f}" if abs(self.found) >= 100 or self.found == int(self.found) else f"{self.found:.3g}"
        return f"{self.name} {shown} ({bound})"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """`seed` is None where nothing was drawn. `records`, `kills`, `lost` and `duplicates` are in the table of every part."""

    name: str
    says: str
    command: str
    seed: int | None
    seconds: float
    records: int
    kills: int
    lost: int
    duplicates: int
    limits: list[Limit]
    figures: dict[str, Any]
    commit: str = ""
    machine: str = ""

    @property
    def broken(self) -> list[Limit]:
        return [limit for limit in self.limits if not limit.met]

    @property
    def line(self) -> str:
        word = "NOT MET" if self.broken else "met"
        return (
            f"{self.name:<4}{self.seconds:>5.0f} s {self.records:>11,} records {self.kills:>4} kills "
            f"{self.lost:>3} lost {self.duplicates:>7,} duplicates  {word}: {'; '.join(limit.text for limit in self.limits)}"
        )


def none(**counts: float) -> Iterable[Limit]:
    """Of these there must be none."""
    return (Limit(name=name.replace("_", " "), found=count, at_most=0) for name, count in counts.items())
