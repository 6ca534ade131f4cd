"""How long shards were nobody's in a rolling restart, to the millisecond, by what the workers log. Pure: lines are passed in.

Looks at the store are as far apart as what they would measure, where a look is the scan of a table. So the logs are judged, and
the looks, which are nobody's word, must agree with them but for their own distance.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LINE = re.compile(r"^(\S+Z) INFO streamflow (lease taken|lease released|lease handed over|shard ended) (.*)$")
_FIELD = re.compile(r'(\w+)=("[^"]*"|\S+)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """From the moment when a worker had let the shard go, or ended its parent, to that when another had taken it."""

    shard_id: str
    began_s: float
    length_s: float


def longest_gap(logs: Iterable[Iterable[str]]) -> Gap | None:
    """Of the lines of each worker. What nobody took any more, because the run was over, does not count.

    Who takes a lease may log it before the one who let it go does: then nobody had to wait.
    """
    free_since: dict[str, float] = {}
    owners: dict[str, int] = {}
    gaps: list[Gap] = []
    facts = [(*fact, worker) for worker, lines in enumerate(logs) for fact in _facts(lines)]
    for at_s, fact, shard_ids, worker in sorted(facts):
        for shard_id in shard_ids:
            if fact != "lease taken":
                owner = owners.get(shard_id)
                if owner is None or (owner == worker and fact != "shard ended"):
                    owners.pop(shard_id, None)
                    free_since.setdefault(shard_id, at_s)
                continue
            owners[shard_id] = worker
            if (began_s := free_since.pop(shard_id, None)) is not None:
                gaps.append(Gap(shard_id=shard_id, began_s=began_s, length_s=at_s - began_s))
    return max(gaps, key=lambda gap: gap.length_s, default=None)


def _facts(lines: Iterable[str]) -> Iterator[tuple[float, str, tuple[str, ...]]]:
    for line in lines:
        if (found := _LINE.match(line)) is None:
            continue
        fields = {name: value.strip('"') for name, value in _FIELD.findall(found[3])}
        children = fields.get("children", "none yet")
        ended = found[2] == "shard ended"
        shard_ids = () if children == "none yet" else tuple(children.split())
        yield _seconds(found[1]), found[2], shard_ids if ended else (fields["shard"],)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
