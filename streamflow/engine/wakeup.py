"""A wake-up call for whoever waits at that moment."""

from __future__ import annotations

from dataclasses import dataclass

import anyio


@dataclass(slots=True, eq=False)
class WakeUp:
    """Nothing is kept for those who come later, and it costs next to nothing while nobody waits."""

    _call: anyio.Event | None = None

    async def wait(self) -> None:
        if self._call is None:
            self._call = anyio.Event()
        await self._call.wait()

    def call(self) -> None:
        if self._call is not None:
            self._call.set()
            self._call = None
