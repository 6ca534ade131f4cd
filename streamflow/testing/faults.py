"""Faults to come, as data: the plan decides which request gets which, the layer above performs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

ANY_OPERATION = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """Answer with an error; nothing happens to the tables."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class LoseRequest:
    """Cut the connection; nothing happens to the tables."""


@dataclass(frozen=True, slots=True)
class LoseResponse:
    """Do what the request asks, then cut the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncateBody:
    """Answer 200 with the first `keep_bytes` of the body (None: half of it), as a broken proxy does."""

    keep_bytes: int | None


@dataclass(frozen=True, slots=True)
class CorruptBody:
    """Answer 200 with a body that is no UTF-8."""


@dataclass(frozen=True, slots=True)
class EmptyPage:
    """GetRecords returns no record and an iterator at the same place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOut:
    """DescribeStream does not show these shards."""

    shard_ids: frozenset[str]


Fault: TypeAlias = Refuse | LoseRequest | LoseResponse | TruncateBody | CorruptBody | EmptyPage | LeaveOut


@dataclass(slots=True, kw_only=True, eq=False)
class _Planned:
    fault: Fault
    operation: str
    shard_id: str | None
    times: int


class FaultPlan:
    """Faults in the order they were added; a request gets the first one that fits it, and uses one of its times up."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []
        self._latency_s: dict[str, float] = {}

    def add(self, fault: Fault, *, operation: str, times: int = 1, shard_id: str | None = None) -> None:
        """Plan a fault for the next `times` requests of an operation (`*`: of any), of one shard or of all."""
        self._planned.append(_Planned(fault=fault, operation=operation, shard_id=shard_id, times=times))

    def take(self, operation: str, shard_id: str | None = None) -> Fault | None:
        """The fault for this request, if any."""
        for planned in self._planned:
            if planned.operation in {operation, ANY_OPERATION} and planned.shard_id in {None, shard_id}:
                planned.times -= 1
                if planned.times <= 0:
                    self._planned.remove(planned)
                return planned.fault
        return None

    def slow(self, operation: str, latency_s: float) -> None:
        """Delay every answer of an operation (`*`: of those without a delay of their own) from now on; 0 ends it."""
        self._latency_s[operation] = latency_s

    def latency_s(self, operation: str) -> float:
        return self._latency_s.get(operation, self._latency_s.get(ANY_OPERATION, 0.0))

    def clear(self) -> None:
        """Forget every planned fault and delay."""
        self._planned.clear()
        self._latency_s.clear()
