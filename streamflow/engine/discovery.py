"""Which shards there are: the first start, the children that came late, and a slow audit of the whole stream.

Only the holder of the stream's own row does this, so that a fleet asks the service once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamflow import events
from streamflow.engine.ownership import side_by_side
from streamflow.engine.reader import error_code
from streamflow.errors import LeaseLostError, SourceError, StoreError
from streamflow.failpoints import reach
from streamflow.leases import STREAM_ROW, Lease, LeaseState
from streamflow.positions import TRIM_HORIZON
from streamflow.records import Shard
from streamflow.rules import lineage, steps
from streamflow.rules.pacing import CHILDREN_BACKOFF, DISCOVERY_BACKOFF
from streamflow.rules.steps import Ended, Started

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamflow.engine.flow import Flow
    from streamflow.engine.ownership import HeldLease, Ownership
    from streamflow.positions import Position

# For how long, and how often, a parent is looked for that no listing shows although it is too young to be trimmed. What is
# listed late is listed within seconds; a minute costs nothing but at a start beside a trimmed shard whose id deceives.
_DOUBT_S, _LOOK_AGAIN_S = 60.0, 10.0


@dataclass(slots=True, eq=False)
class Discovery:
    """The work of the holder of the stream's row."""

    flow: Flow
    ownership: Ownership
    _audit_at: float = float("-inf")
    _failures: int = 0
    _absent: dict[str, float] = field(default_factory=dict)
    """Parent that no listing showed to the monotonic time since when: it is young, so the listings may be wrong."""
    _asked: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Shard that awaits children to the number of times asked and when to ask again."""

    async def run(self, held: HeldLease) -> None:
        """Discover for as long as the stream's row is ours."""
        while held.valid and not self.flow.stopping.is_set():
            delay_s = await self._round(held)
            if await self.flow.pause(delay_s):
                return

    async def _round(self, held: HeldLease) -> float:
        """One look; the answer is the pause before the next."""
        clock = self.flow.around.clock
        try:
            # As of the last look for leases. It may be a moment old: whatever is written here is compared and set.
            rows = {row.shard_id: row for row in self.ownership.listed}
            if held.lease.state is LeaseState.AWAITING_CHILDREN:
                await self._first_start(held, rows)
                self.flow.nudge()
            elif clock.monotonic() >= self._audit_at:
                await self._audit(rows)
            await self.find_children(lineage.awaiting_children(rows.values()))
        except (SourceError, StoreError) as error:
            self._failures += 1
            delay_s = DISCOVERY_BACKOFF.delay_s(self._failures, self.flow.around.random)
            self._report_failure(error, delay_s)
            return delay_s
        except LeaseLostError:
            return 0.0
        self._failures = 0
        return min(1.0, self.flow.around.options.lease_duration_s / 3)

    async def _first_start(self, held: HeldLease, rows: Mapping[str, Lease]) -> None:
        """Store where every listed shard starts, and only then that the stream was started.

        A crash in between repeats this: rows that are there stay as they are.
        """
        started = self.flow.around.clock.monotonic()
        listed = await self.flow.source.shards()
        latest = self.flow.options.starting_position == "LATEST"
        leaves = lineage.leaves(listed)
        tips = await self._pin([listed[leaf] for leaf in sorted(leaves) if not listed[leaf].closed]) if latest else None
        doubted = self._doubted(listed, rows)
        await reach("discovery.listed")
        created = await self.ownership.create(
            lineage.lease_for(
                shard,
                pipeline=self.flow.name,
                start=lineage.bootstrap_position(shard, tips=tips),
                parents=lineage.living_parents(shard.parents, listed, rows, doubted),
                expects_children=self.flow.info.enabled and shard.shard_id in leaves,
            )
            for shard in lineage.unknown_shards(listed, rows)
        )
        await reach("discovery.rows_created")
        await held.write(Started())
        self._note_listing(listed, created, (), started)

    async def _pin(self, shards: Sequence[Shard]) -> dict[str, Position]:
        tips: dict[str, Position] = {}

        async def pin_one(shard: Shard) -> None:
            pin = await self.flow.source.pin(shard)
            tips[shard.shard_id] = pin.position
            self.flow.pins[shard.shard_id] = pin

        await side_by_side(pin_one, shards)
        return tips

    async def _audit(self, rows: Mapping[str, Lease]) -> None:
        started = self.flow.around.clock.monotonic()
        listed = await self.flow.source.shards()
        plan = lineage.plan(listed, rows, pipeline=self.flow.name, doubted=self._doubted(listed, rows))
        created = await self.ownership.create(plan.create)
        await reach("discovery.audited")
        for row in plan.unblock:
            await self.flow.around.store.update(row, expected_version=row.version)
        forgotten = [
            row.shard_id
            for row in plan.forget
            if await self.flow.around.store.delete(row.key, expected_version=row.version)
        ]
        self._note_listing(listed, created, forgotten, started)
        self.flow.nudge()

    def _doubted(self, listed: Mapping[str, Shard], rows: Mapping[str, Lease]) -> frozenset[str]:
        """Absent parents that are too young to be trimmed: they are looked for again for a while, and their children wait.

        What a clock says is but a hint, and so is the time in an id: neither keeps a child waiting for good.
        """
        around = self.flow.around
        now, wall_s = around.clock.monotonic(), around.clock.wall()
        self._absent = {
            parent: self._absent.get(parent, now)
            for parent in lineage.absent_parents(listed, rows)
            if not lineage.may_be_trimmed(parent, now_s=wall_s, retention_s=self.flow.info.retention_s)
        }
        return frozenset(parent for parent, since in self._absent.items() if now < since + _DOUBT_S)

    def _note_listing(
        self, listed: Mapping[str, Shard], created: Sequence[str], forgotten: Sequence[str], started: float
    ) -> None:
        clock = self.flow.around.clock
        now = clock.monotonic()
        doubted = any(now < since + _DOUBT_S for since in self._absent.values())
        self._audit_at = now + (_LOOK_AGAIN_S if doubted else self.flow.around.options.audit_interval_s)
        self.flow.around.emit(
            events.ShardsDiscovered(
                pipeline=self.flow.name,
                listed=len(listed),
                created=tuple(created),
                forgotten=tuple(forgotten),
                duration_s=clock.monotonic() - started,
            )
        )

    async def find_children(self, rows: Sequence[Lease]) -> None:
        """Ask again for the children of shards that ended without any, each at its own pace."""
        clock, store = self.flow.around.clock, self.flow.around.store
        self._asked = {row.shard_id: self._asked.get(row.shard_id, (0, 0.0)) for row in rows}
        for row in rows:
            times, ask_at = self._asked[row.shard_id]
            if clock.monotonic() < ask_at:
                continue
            delay_s = CHILDREN_BACKOFF.delay_s(times + 1, self.flow.around.random)
            self._asked[row.shard_id] = times + 1, clock.monotonic() + delay_s
            try:
                found = await look_up_children(self.flow, self.ownership, row)
            except SourceError as error:
                # One shard that cannot be asked about must not keep the others waiting.
                self._report_failure(error, delay_s)
                continue
            if found is not None:
                await store.update(steps.after(row, Ended(found)), expected_version=row.version)
                self.flow.nudge()

    def _report_failure(self, error: Exception, retry_after_s: float) -> None:
        self.flow.around.emit(
            events.DiscoveryFailed(
                pipeline=self.flow.name, code=error_code(error), message=str(error), retry_after_s=retry_after_s
            )
        )


async def look_up_children(flow: Flow, ownership: Ownership, row: Lease) -> tuple[str, ...] | None:
    """Find and store the children of a shard that is done; None while a live stream shows none.

    A stream that is disabled or gone will have no more: the answer is empty then.
    """
    shard = Shard(stream_arn=row.stream_arn, shard_id=row.shard_id, parents=row.parents, closed=True)
    children = await flow.source.children(shard)
    if not children and (await flow.source.describe()).enabled:
        return None
    await ownership.create(
        lineage.lease_for(child, pipeline=flow.name, start=TRIM_HORIZON)
        for child in sorted(children, key=lambda child: child.shard_id)
    )
    await reach("children.stored")
    return tuple(sorted(child.shard_id for child in children))


def stream_row(flow: Flow) -> Lease:
    """The stream's own row before the first start."""
    return Lease(
        pipeline=flow.name,
        stream_arn=flow.info.stream_arn,
        shard_id=STREAM_ROW,
        checkpoint=TRIM_HORIZON,
        state=LeaseState.AWAITING_CHILDREN,
    )
