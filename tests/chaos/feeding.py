"""The stream, in a process of its own: a local server whose table is written and whose shards split and roll over.

Speaks JSON lines: says where it listens when the backlog is written, writes the rest after the first line on standard
input, says how many versions of each item there are, and serves until standard input ends.
"""

from __future__ import annotations

import sys
import threading
from random import Random
from typing import TYPE_CHECKING

import msgspec

from chaos.plan import REGION, TABLE, Plan
from streamflow.clock import thread_monotonic
from streamflow.testing import LocalStreams

if TYPE_CHECKING:
    from streamflow.testing.controls import Controls

_BACKLOG_SHARE = 0.2
# Of the run, so that the last changes meet faults, too.
_WRITING_SHARE = 0.9
_STEP_S = 0.01
_CHILDREN_DELAYS_S = (0.0, 0.0, 0.5)


class Feeder:
    """Writes versions 1, 2, 3 … of items; some items change much more often than others."""

    def __init__(self, streams: Controls, plan: Plan) -> None:
        self._streams, self._plan = streams, plan
        self._items, self._shards = Random(f"{plan.seed}/items"), Random(f"{plan.seed}/shards")
        self.versions = [0] * plan.keys
        self.written = 0

    def write(self, count: int) -> None:
        for _ in range(count):
            key = int(self._plan.keys * self._items.random() ** 2)
            self.versions[key] += 1
            self._streams.put(TABLE, {"id": {"S": str(key)}, "version": {"N": str(self.versions[key])}})
        self.written += count

    def write_live(self) -> None:
        """The rest, evenly; a shard ends now and then, and once all of them do, as on AWS about every 4 hours."""
        plan, started_at = self._plan, thread_monotonic()
        writing_s, backlog = plan.seconds * _WRITING_SHARE, self.written
        next_reshard_s, rolled = plan.reshard_interval_s, plan.clean
        pause = threading.Event()
        while self.written < plan.records:
            elapsed_s = thread_monotonic() - started_at
            due = backlog + int((plan.records - backlog) * min(1.0, elapsed_s / writing_s))
            self.write(due - self.written)
            if elapsed_s >= next_reshard_s:
                next_reshard_s += plan.reshard_interval_s
                self._reshard()
            if not rolled and elapsed_s >= writing_s / 2:
                rolled = True
                self._streams.rollover(TABLE)
            pause.wait(_STEP_S)

    def _reshard(self) -> None:
        shard_ids = self._streams.shard_ids(TABLE, open_only=True)
        delay_s = self._shards.choice(_CHILDREN_DELAYS_S)
        reshard = self._streams.split if self._shards.random() < 0.5 else self._streams.rollover
        reshard(TABLE, self._shards.choice(shard_ids), children_delay_s=delay_s)


def _say(line: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def main(plan: Plan) -> None:
    with LocalStreams(shards=plan.shards, region=REGION).in_thread() as streams:
        stream_arn = streams.create_table(TABLE, view_type="NEW_IMAGE")
        feeder = Feeder(streams, plan)
        feeder.write(int(plan.records * _BACKLOG_SHARE))
        _say({"endpoint_url": streams.endpoint_url, "stream_arn": stream_arn})
        if not sys.stdin.readline():
            return
        feeder.write_live()
        shards = len(streams.shard_ids(TABLE))
        _say({"versions": feeder.versions, "shards": shards})
        sys.stdin.read()


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Plan))
