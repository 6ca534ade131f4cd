"""Mistakes that somebody could make in the protocol: each is a small edit of the product's own code.

A mutant that nobody notices is a hole in the simulation, so the list is of mistakes and not of what is known to be caught.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """In a module of `streamflow/`: this text, which stands there once, replaced by that."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    says: str
    edits: tuple[Edit, ...]


def _mutant(name: str, says: str, path: str, before: str, after: str) -> Mutant:
    return Mutant(name, says, (Edit(path, before, after),))


_STEPS, _BELIEF, _LINEAGE = "rules/steps.py", "rules/belief.py", "rules/lineage.py"
_OWNERSHIP, _HEARTBEATS = "engine/ownership.py", "engine/heartbeats.py"
_FRONTIER, _ATTEMPTS, _LANE = "rules/frontier.py", "rules/attempts.py", "engine/lane.py"
_SHARD, _CHECKPOINTS, _DISCOVERY = "engine/shard.py", "engine/checkpoints.py", "engine/discovery.py"

OWNERSHIP = (
    _mutant(
        "no epoch",
        "a new owner keeps the epoch of the one before it",
        _STEPS,
        "return replace(row, owner=by, claimant=None, epoch=row.epoch + 1)",
        "return replace(row, owner=by, claimant=None)",
    ),
    _mutant(
        "taken whoever has it",
        "a lease is taken although somebody else has taken it since it was listed",
        _OWNERSHIP,
        "if current is None or current.version != row.version:",
        "if current is None:",
    ),
    Mutant(
        "stale start",
        "a lease that moved on since it was listed is taken, and read from where the listing had it",
        (
            Edit(_OWNERSHIP, "if current is None or current.version != row.version:", "if current is None:"),
            Edit(
                _OWNERSHIP,
                "wanted = steps.after(current, Taken(self.liveness.worker_id))",
                "wanted = steps.after(replace(row, epoch=current.epoch), Taken(self.liveness.worker_id))",
            ),
            Edit(
                _OWNERSHIP,
                "from dataclasses import dataclass, field",
                "from dataclasses import dataclass, field, replace",
            ),
        ),
    ),
    _mutant(
        "belief beyond patience",
        "an owner believes in its leases for longer than others wait",
        _BELIEF,
        "_OWN_SHARE = 0.8",
        "_OWN_SHARE = 3.0",
    ),
    _mutant(
        "validity from the answer",
        "a lease counts as valid from when the store answered, not from when it was asked",
        _OWNERSHIP,
        "            stored = await self._update(step)\n",
        "            stored = await self._update(step)\n            sent_at = self.around.clock.lifetime()\n",
    ),
    _mutant(
        "heartbeat from the answer",
        "a worker counts its own silence from the answer to its last heartbeat",
        _HEARTBEATS,
        "                self._row, self._sent_at = stored, sent_at\n                return\n            silent_s",
        "                self._row, self._sent_at = stored, self.around.clock.lifetime()\n"
        "                return\n            silent_s",
    ),
    _mutant(
        "writes when its time is up",
        "a lease is written although its validity has run out",
        _OWNERSHIP,
        "            if not self.valid:\n",
        "            if self.lost.is_set():\n",
    ),
    _mutant(
        "impatient",
        "a worker is struck after a third of its lease duration",
        _BELIEF,
        "        return row.duration_s\n",
        "        return row.duration_s / 3\n",
    ),
    _mutant(
        "the living robbed",
        "leases are taken from workers that live",
        _BELIEF,
        "return row.owner is None or row.owner == me or row.owner not in living",
        "return True",
    ),
    _mutant(
        "lost answer is success",
        "a write without an answer counts as stored",
        _OWNERSHIP,
        "        except UnknownOutcomeError:\n            current = await store.get(wanted.key)\n        outcome",
        "        except UnknownOutcomeError:\n            return steps.replace(wanted, version=self.lease.version + 1)\n"
        "        outcome",
    ),
    _mutant(
        "another's write is ours",
        "whatever row stands there after a lost answer counts as our own write",
        _STEPS,
        "return Outcome.STORED if current == stored or was_asked(stored, current) else Outcome.LOST",
        "return Outcome.STORED",
    ),
    _mutant(
        "a conflict is a request",
        "a row that somebody else owns counts as ours with a request in it",
        _STEPS,
        "return current == replace(held, version=current.version, claimant=current.claimant)",
        "return True",
    ),
    _mutant(
        "passed on and believed",
        "a lease that is passed on does not say that its new owner has yet to take it",
        _STEPS,
        "return replace(row, owner=owner, claimant=owner)",
        "return replace(row, owner=owner, claimant=None)",
    ),
    _mutant(
        "let go in the middle",
        "a lease is let go while a handler still works on its records",
        _SHARD,
        "            if self._cut_off:\n",
        "            if self._cut_off and self.held.lost.is_set():\n",
    ),
    _mutant(
        "made anew as it was",
        "a row that was deleted and made again begins with the epoch and the version of the first",
        _STEPS,
        "return replace(row, epoch=at_ms, version=at_ms)",
        "return row",
    ),
)

PROGRESS = (
    _mutant(
        "checkpoint ahead",
        "the frontier passes what is not settled",
        _FRONTIER,
        "        self.unsettled_from = min(\n",
        "        self.unsettled_from = max(\n",
    ),
    _mutant(
        "frontier off by one",
        "the frontier moves one record too far",
        _FRONTIER,
        "(passed := self.unsettled_from - self._pages[0].start) > 0",
        "(passed := self.unsettled_from - self._pages[0].start + 1) > 1",
    ),
    _mutant(
        "settled out of order",
        "records count as settled although an older one of their batch is not",
        _FRONTIER,
        "                    break\n                self._done.remove(id(record))",
        "                    continue\n                self._done.remove(id(record))",
    ),
    _mutant(
        "window left behind",
        "a checkpoint is stored without the state of its window",
        _CHECKPOINTS,
        "await self.held.write(Checkpointed(frontier, window))",
        "await self.held.write(Checkpointed(frontier, self.held.lease.window))",
    ),
    _mutant(
        "nothing stored at the end",
        "a shard is let go without its last checkpoint",
        _SHARD,
        "                await checkpoints.store_last()\n",
        "                pass\n",
    ),
    _mutant(
        "failure taken for success",
        "a batch whose handler raised is settled",
        _LANE,
        "        attempts.invoked(self._outcome(batch, error))\n",
        "        attempts.invoked(Succeeded())\n",
    ),
    _mutant(
        "partial failure one late",
        "the first failed record of a partial failure counts as done",
        _ATTEMPTS,
        "                self._jobs[-1] = _Job(job.records[first:])\n"
        "                self._actions.append(Settle(job.records[:first]))\n",
        "                self._jobs[-1] = _Job(job.records[first + 1 :])\n"
        "                self._actions.append(Settle(job.records[: first + 1]))\n",
    ),
    _mutant(
        "halves turned round",
        "of a bisected batch the newer half comes first",
        _ATTEMPTS,
        "[_Job(job.records[middle:]), _Job(job.records[:middle])]",
        "[_Job(job.records[:middle]), _Job(job.records[middle:])]",
    ),
    _mutant(
        "one retry more",
        "a batch is tried once more than its retries allow",
        _ATTEMPTS,
        "return self._rules.retries_max != -1 and job.invoked > self._rules.retries_max",
        "return self._rules.retries_max != -1 and job.invoked > self._rules.retries_max + 1",
    ),
    _mutant(
        "given up too early",
        "a batch is given up one attempt before its retries are used up",
        _ATTEMPTS,
        "return self._rules.retries_max != -1 and job.invoked > self._rules.retries_max",
        "return self._rules.retries_max != -1 and job.invoked >= self._rules.retries_max",
    ),
    _mutant(
        "too old by a minute",
        "records are given up for their age a minute before they are that old",
        _ATTEMPTS,
        "self._expire(job, now_s - self._rules.age_max_s)",
        "self._expire(job, now_s - self._rules.age_max_s + 60)",
    ),
    _mutant(
        "dead letters forgotten",
        "a batch that is given up is settled without being sent anywhere",
        _LANE,
        "        if not await send(shared.flow, discarded):\n",
        "        if not shared.flow.destinations:\n",
    ),
    _mutant(
        "a destination skipped after an error",
        "a destination that failed once counts as done",
        "engine/giving_up.py",
        "            if await flow.pause(delay_s):  # noqa: ASYNC102 - nobody cancels us where we come to it\n"
        "                return False\n",
        "            return True\n",
    ),
    _mutant(
        "followers let through",
        "later changes of a parked item are delivered",
        _LANE,
        "        parked = await self.shared.parked.hold_back(records) if self.shared.parked.keys else ()\n",
        "        parked: Sequence[Record] | None = ()\n",
    ),
    _mutant(
        "lanes by chance",
        "two changes of one item may go to different lanes",
        "rules/lanes.py",
        "crc32(dumps(glimpse.dynamodb.Keys, option=OPT_SORT_KEYS)) % count",
        "place % count",
    ),
    _mutant(
        "a newer owner overlooked",
        "an owner goes on although the sink has seen a newer one",
        _LANE,
        "        if isinstance(error, FencedError):\n",
        "        if isinstance(error, FencedError) and not shared.held.valid:\n",
    ),
    _mutant(
        "read-ahead without end",
        "pages are read whatever is buffered",
        "engine/buffer.py",
        "        while self.bytes and (self.bytes >= self.bytes_max or self.read_ahead.bytes >= self.read_ahead.bytes_max):\n",
        "        while self.bytes < 0:\n",
    ),
    _mutant(
        "polls without a pause",
        "a shard that is caught up is polled again at once",
        "engine/reader.py",
        "        await anyio.sleep(delay_s)\n",
        "        await anyio.sleep(delay_s / 100)\n",
    ),
)

LINEAGE = (
    _mutant(
        "child before its parents",
        "a shard is read although a parent is not done",
        _LINEAGE,
        "all(parent in rows and rows[parent].state is not LeaseState.ACTIVE for parent in lease.parents)",
        "all(parent in rows for parent in lease.parents)",
    ),
    _mutant(
        "unknown parents do not count",
        "a shard is read although its parent has no row yet",
        _LINEAGE,
        "all(parent in rows and rows[parent].state is not LeaseState.ACTIVE for parent in lease.parents)",
        "all(parent not in rows or rows[parent].state is not LeaseState.ACTIVE for parent in lease.parents)",
    ),
    _mutant(
        "tip of the tail forgotten",
        "a shard is over as soon as its last page was read, whatever is buffered",
        _LANE,
        "            records = self._later or batcher.take(now, ended=buffer.ended or buffer.held_up or stopping)\n",
        "            if buffer.ended and not stopping and self.windows is None:\n                return None\n"
        "            records = self._later or batcher.take(now, ended=buffer.ended or buffer.held_up or stopping)\n",
    ),
    _mutant(
        "born at the end",
        "a shard that is found later counts as done",
        _LINEAGE,
        "lease_for(shard, pipeline=pipeline, start=TRIM_HORIZON, parents=living(shard.parents))",
        "lease_for(shard, pipeline=pipeline, start=SHARD_END, parents=living(shard.parents))",
    ),
    _mutant(
        "children born at the end",
        "a child that its parent's end has shown counts as done",
        _DISCOVERY,
        "        lineage.lease_for(child, pipeline=flow.name, start=TRIM_HORIZON)\n",
        "        lineage.lease_for(child, pipeline=flow.name, start=lineage.SHARD_END)\n",
    ),
    _mutant(
        "tombstones cleared away",
        "the row of a shard that is done is forgotten while the stream still lists it",
        _LINEAGE,
        "        if lease.state is LeaseState.ENDED and shard_id not in listed and shard_id not in needed\n",
        "        if lease.state is LeaseState.ENDED\n",
    ),
    _mutant(
        "no children, no more",
        "a shard whose children are not shown yet counts as one without any",
        _SHARD,
        "        await self._write(Ended(children))\n",
        "        await self._write(Ended(children or ()))\n",
    ),
    _mutant(
        "started before it is stored",
        "the stream counts as started before the positions of its shards are stored",
        _DISCOVERY,
        '        await reach("discovery.listed")\n',
        '        await held.write(Started())\n        await reach("discovery.listed")\n',
    ),
    _mutant(
        "a gap passed over",
        "trimmed records are gone without a note",
        _SHARD,
        "        flow.around.emit(\n            events.RecordsTrimmed("
        "pipeline=flow.name, shard_id=held.shard_id, lost_from=lost_from, cause=cause)\n        )\n",
        "",
    ),
    _mutant(
        "no deadline for the drain",
        "a stop waits for as long as the handlers take",
        "engine/flow_work.py",
        "            shards.cancel_scope.deadline = flow.around.clock.monotonic() + flow.around.options.drain_timeout_s\n",
        "            pass\n",
    ),
)

MUTANTS = (*OWNERSHIP, *PROGRESS, *LINEAGE)
