"""How one invocation of a handler goes: what it writes, when it fails, and what it says of that.

However it fails, it keeps the contract of a sink: of one item, nothing is written behind a change that is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from streamflow.errors import PartialFailure, SinkBusyError
from streamflow.failures import RecordFailure, RecordsFailedError
from streamflow.records import Record

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from random import Random

    from streamflow.testing.simulation.draws import Address
    from streamflow.testing.simulation.faults import Faults

SLOW_S = (0.1, 20.0)
HANG_S = (60.0, 600.0)
_RETRY_AFTER_S = (0.0, 0.5, 5.0, 30.0)
_FOR_RECORDS_ONLY = frozenset({"sink.fails_from", "sink.fails_some", "sink.refuses", "sink.nonsense"})


class PoisonError(Exception):
    """A record that the handler can never take, and which it does not tell from the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Wait for `delay_s`, write `written`, then raise `error` or return `returned`.

    `counted` is false where the pipeline must not count the invocation as an attempt; `failures` are what the error says of
    single records, where that is no nonsense.
    """

    written: Sequence[Record] = ()
    delay_s: float = 0.0
    error: Exception | None = None
    returned: object = None
    counted: bool = True
    failures: Sequence[RecordFailure] = ()

    def numbers(self, kind: str) -> tuple[int, ...]:
        """Sequence numbers of the records that have failed in this way."""
        return tuple([int(failure.record.sequence_number) for failure in self.failures if failure.kind == kind])


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """Draws a plan for each invocation. `in_order`: nothing at all is written behind a record that is not."""

    faults: Faults
    in_order: bool = False

    def plan(self, records: Sequence[Record], *address: Address) -> Plan:
        """What becomes of these records; `address` names the invocation."""
        kind = self.faults.at("sink", *address)
        if kind is not None and (records or kind not in _FOR_RECORDS_ONLY):
            return self._failing(kind, records, self.faults.rng(kind, *address))
        delay_s = 0.0
        if self.faults.strikes("sink.slow", *address):
            delay_s = self.faults.rng("sink.slow", *address).uniform(*SLOW_S)
        return Plan(written=records, delay_s=delay_s)

    def _failing(self, kind: str, records: Sequence[Record], rng: Random) -> Plan:
        match kind:
            case "sink.hangs":
                return Plan(delay_s=rng.uniform(*HANG_S), error=TimeoutError("the sink did not answer at all"))
            case "sink.fails_before":
                return Plan(error=ConnectionError("the sink is not there"))
            case "sink.fails_after":
                return Plan(written=records, error=ConnectionError("the sink has gone"))
            case "sink.busy":
                error = SinkBusyError("too many requests", retry_after_s=rng.choice([*_RETRY_AFTER_S, math.nan]))
                return Plan(error=error, counted=False)
            case "sink.nonsense":
                return _nonsense(records, rng)
            case "sink.fails_from":
                first = rng.randrange(len(records))
                failed = [record.sequence_number for record in records[first:] if rng.random() < 0.5]
                failed.insert(rng.randint(0, len(failed)), records[first].sequence_number)
                return Plan(written=records[:first], error=PartialFailure(failed))
            case "sink.refuses":
                return self._without({rng.randrange(len(records))}, "refused", records, rng)
        some = rng.sample(range(len(records)), rng.randint(1, len(records)))
        return self._without(frozenset(some), "failed", records, rng)

    def _without(
        self, failed: Collection[int], kind: Literal["failed", "refused"], records: Sequence[Record], rng: Random
    ) -> Plan:
        """All but some records are written, and those that stand behind one of these."""
        written: list[Record] = []
        failures: list[RecordFailure] = []
        held_back: set[str] = set()
        for place, record in enumerate(records):
            key = "" if self.in_order else record.item_key
            if key in held_back:
                failures.append(RecordFailure(record, "waiting", "behind a record that was not written"))
            elif place in failed:
                failures.append(RecordFailure(record, kind, "as drawn"))
                held_back.add(key)
            else:
                written.append(record)
        rng.shuffle(failures)
        error = RecordsFailedError(failures, retry_after_s=rng.choice([None, *_RETRY_AFTER_S]))
        return Plan(written=written, error=error, failures=failures)


def _nonsense(records: Sequence[Record], rng: Random) -> Plan:
    """Nothing is written, and what the handler says is true of no record; or all is, and it returns what nobody asked for."""
    foreign = Record(records[0].json, records[0].shard)
    first = records[0].sequence_number
    error = rng.choice(
        [
            None,
            PartialFailure(()),
            PartialFailure(["no number"]),
            PartialFailure([first, first, "0"]),
            RecordsFailedError(()),
            RecordsFailedError([RecordFailure(foreign, "refused", "a record of another batch")]),
            ExceptionGroup("several things", [ValueError("one of them")]),
        ]
    )
    if error is None:
        return Plan(written=records, returned={"batchItemFailures": [{"itemIdentifier": first}]})
    return Plan(error=error)
