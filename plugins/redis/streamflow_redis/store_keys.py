"""The keys of a store: pure.

All begin with the prefix as a hash tag, so a cluster keeps all of a store in one slot, as its scripts require.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamflow.dead_letters import Drawer


@dataclass(frozen=True, slots=True)
class StoreKeys:
    prefix: str

    @property
    def about(self) -> str:
        """A hash: `format` is the version of this layout, `last_id` the highest id of a letter so far."""
        return self._key("store")

    @property
    def probe(self) -> str:
        """Written and removed again when a store is opened."""
        return self._key("probe")

    def leases(self, pipeline: str, stream_arn: str) -> tuple[str, str]:
        """Two hashes by shard id: the rows, and their windows, which may be large and which a listing leaves out."""
        stream = f"{pipeline.replace('%', '%25').replace(':', '%3A')}:{stream_arn}"
        return self._key(f"leases:{stream}"), self._key(f"windows:{stream}")

    def drawer(self, drawer: Drawer) -> tuple[str, str, str, str]:
        """Hashes from id to facts, from id to name and from place to id, and the index, a sorted set."""
        facts, names, places, index = (self._key(f"{drawer}:{each}") for each in ("facts", "names", "places", "index"))
        return facts, names, places, index

    def _key(self, name: str) -> str:
        return f"{{{self.prefix}}}:{name}"
