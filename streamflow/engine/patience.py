"""For how long something was seen not to change, by this observer's own monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from streamflow.clock import Clock


@dataclass(slots=True, eq=False)
class Patience:
    """Versions as they were seen, in groups that are looked at together.

    Patience begins anew where an observer did not look for a while: a store that was away kept the owners from writing,
    and this observer from seeing it.
    """

    clock: Clock
    gap_s_max: float
    """Longest time between two looks that counts as looking on."""
    _seen: dict[Hashable, Mapping[str, tuple[int, float]]] = field(default_factory=dict)
    _looked_at: dict[Hashable, float] = field(default_factory=dict)

    def look(self, group: Hashable, versions: Mapping[str, int]) -> None:
        """Take note of all versions of a group."""
        now = self.clock.monotonic()
        looked_at = self._looked_at.get(group, now)
        seen = self._seen.get(group, {}) if now - looked_at <= self.gap_s_max else {}
        self._seen[group] = {
            name: known if (known := seen.get(name)) is not None and known[0] == version else (version, now)
            for name, version in versions.items()
        }
        self._looked_at[group] = now

    def silent_s(self, group: Hashable, name: str, version: int) -> float:
        """Since when this version was there; 0 for one that no look has seen."""
        known = self._seen.get(group, {}).get(name)
        return self.clock.monotonic() - known[1] if known is not None and known[0] == version else 0.0
