"""Named points in the windows between an effect and its record, where a crash or a delay hurts most.

Nothing is armed in production, and then a point costs a call that returns at once. `streamflow.testing.failpoints` arms them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeAlias

from streamflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

Action: TypeAlias = "Callable[[str], Awaitable[None]]"
"""Awaited with the name of the point, by whoever reaches it: in its task, its loop and its thread."""

VARIABLE = "STREAMFLOW_FAILPOINTS"

NAMES: Mapping[str, str] = {
    # Leases
    "lease.listed": "Leases were listed and chosen, and none of them is taken.",
    "lease.before_take": "A free lease was read again, and is not taken.",
    "lease.taken": "A lease is ours in the store, and this worker does not know it.",
    "lease.written": "A held lease is written, with a checkpoint for instance, and this worker has the row of before.",
    "lease.before_release": "What a lease was held for is done or given up, and the lease is not let go.",
    "lease.released": "A lease is let go in the store, and nobody was told.",
    "heartbeat.written": "A sign of life is in the store, and the worker's own validity does not count from it.",
    "heartbeat.before_strike": "A worker was silent for too long, and is not struck from the list.",
    "handover.before_ask": "Shards are unequally shared out, and nobody is asked for a lease.",
    "handover.asked": "A lease is asked for in the store, and the one who asks was not told.",
    "handover.heard": "An owner has seen that its lease is asked for, and has not begun to let the shard go.",
    "handover.passed_on": "A lease is somebody else's in the store, and the one who gave it has not told anybody.",
    "handover.before_take": "A lease that was passed on to this worker was read again, and is not taken.",
    # One shard, from the opening to the end
    "shard.before_open": "A lease is held, and no page of its shard is asked for.",
    "page.read": "A page was read, and none of its records can be dispatched.",
    "batch.handled": "A handler has returned, and its batch is not settled.",
    "batch.failed": "A batch has failed, and nothing is done about it: no half is tried, nothing given up.",
    "dead_letter.sent": "A destination has a batch that is given up, and the batch is not settled.",
    "item.parked": "Records are parked with their item, and are not settled.",
    "checkpoint.before_write": "Records are settled, and the checkpoint is not written.",
    "checkpoint.stored": "A checkpoint is stored, and nobody was told.",
    "fence.raised": "A sink that keeps the checkpoint refuses older owners, and the shard is not read.",
    "fence.advanced": "A sink that keeps the checkpoint has the newest, and the lease has an older one.",
    "sqlite_sink.committed": "A batch is committed in the file of the sink, and the handler has not returned.",
    "shard.ended": "A shard is settled to its end, and its children are not looked up.",
    "children.stored": "The children of a finished shard have rows, and its own row does not say that it is done.",
    # A whole stream
    "discovery.listed": "The shards of a new stream are listed and their tips pinned, and no row is stored.",
    "discovery.rows_created": "Every shard of a new stream has a row, and the stream does not count as started.",
    "discovery.audited": "Shards that were unknown have rows, and their parents' rows are as before.",
    # The end
    "stop.retired": "Others reckon without a worker that stops, and it holds its leases.",
    "worker.before_leave": "A worker has let go all of its leases, and still counts as alive.",
    # Letters
    "redrive.claimed": "A redrive has claimed the letters of a pipeline, and none is delivered.",
    "redrive.delivered": "Letters are delivered again, and are still in the store.",
}
"""Each point with its window: what is so already, and what is not."""

_armed: list[Action] = []


async def reach(name: str) -> None:
    """Do what is armed at this point. Where nothing is armed this does not wait, so nothing is cancelled here."""
    if _armed:
        await _armed[-1](name)


def arm(action: Action) -> None:
    """Have `action` awaited at every point of this process, instead of what was armed before."""
    _armed.append(action)


def disarm(action: Action) -> None:
    """Take back what `arm` did."""
    _armed.remove(action)


def armed() -> bool:
    return bool(_armed)


def check_environment() -> None:
    """Refuse to work where somebody believes that points are armed, and they are not.

    Raises:
        ConfigError: the variable is set, and this process is not one that honours it.
    """
    if os.environ.get(VARIABLE) and not _armed:
        raise ConfigError(
            f"{VARIABLE} is set, and this process would ignore it: unset it, or break things on purpose with "
            "`python -m streamflow.testing.failpoints run …`"
        )
