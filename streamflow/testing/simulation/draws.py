"""Addressed randomness: what is drawn at one place does not shift when something else is drawn, or no longer drawn.

One stream of random numbers would tie every draw to all earlier ones: a run without one kind of fault would be another
run altogether, and nothing could be left out of a failing one to see what it takes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random
from typing import Any, TypeAlias, cast

Address: TypeAlias = str | int
"""Parts of an address: the site, the node, the how-manieth. No object whose text holds where it lies in memory."""

NUMBERS = 8
"""That one draw yields."""
_STRUCT = struct.Struct(f"<{NUMBERS}Q")
_TO_UNIT = 2.0**-53


@dataclass(frozen=True, slots=True)
class Draws:
    """Everything random in a run, from one seed."""

    seed: int
    _seeded: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_seeded", blake2b(f"{self.seed}:".encode()))

    def rng(self, *address: Address) -> Random:
        """A generator of its own, in the same state whenever it is asked for under this address."""
        return Random(self._digest(address))  # noqa: S311 - a run must repeat

    def uniform(self, *address: Address) -> float:
        """One number in [0, 1)."""
        return self.uniforms(*address)[0]

    def uniforms(self, *address: Address) -> tuple[float, ...]:
        """Eight independent numbers in [0, 1), at the price of one."""
        return tuple([(number >> 11) * _TO_UNIT for number in _STRUCT.unpack(self._digest(address))])

    def _digest(self, address: tuple[Address, ...]) -> bytes:
        digest = self._seeded.copy()  # half the price of a key
        digest.update(repr(address).encode())
        return cast("bytes", digest.digest())
