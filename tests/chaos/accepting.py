"""The handler of the workers: a sink without a fence, which takes whatever it is given and writes it down.

From the environment it knows where to write, and as whom.
"""

from __future__ import annotations

import os
from random import Random
from typing import TYPE_CHECKING

import anyio

from chaos.journal import JOURNAL, LIFE, Acceptance, Journal
from streamflow.clock import thread_monotonic

if TYPE_CHECKING:
    from streamflow.batches import Batch

# At most, on either side of the write: kills and pauses fall between the call of the handler, its effect and its return,
# and while records wait for it.
_ON_THE_WAY_S_MAX = 0.04

_journal = Journal(os.environ[JOURNAL])
_life = int(os.environ[LIFE])
_random = Random(_life)


async def accept(batch: Batch) -> None:
    await anyio.sleep(_random.uniform(0, _ON_THE_WAY_S_MAX))
    changes = []
    for record in batch:
        image = record.new_image or {}
        changes.append((int(str(image["id"])), int(str(image["version"])), record.sequence_number))
    _journal.append(
        Acceptance(
            at_s=thread_monotonic(),
            life=_life,
            shard_id=batch.shard.shard_id,
            epoch=batch.epoch,
            changes=tuple(changes),
        )
    )
    await anyio.sleep(_random.uniform(0, _ON_THE_WAY_S_MAX))
