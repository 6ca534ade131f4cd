"""What is done to workers, and which one is next. Pure: times are passed in, monotonic seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

FaultKind: TypeAlias = Literal["kill", "pause"]

_KILL_SHARE = 0.6
_RESTART_DELAY_S_MAX = 1.5
# Of the lease duration: always long enough to lose everything.
_PAUSE_SHARE_MIN, _PAUSE_SHARE_MAX = 1.2, 1.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`began_s` is just before the signal was sent; `ended_s` just after the one that ended a pause, infinite until then.

    A kill ends when the process is dead: until then it may go on. `failpoint` names the point at which a worker killed itself:
    that began when it was last seen alive. `outage`: nobody could write the store in the meantime.
    """

    kind: FaultKind
    life: int
    began_s: float
    ended_s: float = math.inf
    outage: bool = False
    failpoint: str = ""


def calm_s(faults: Sequence[Fault], began_s: float, ended_s: float) -> float:
    """The longest part of a time without an outage; of all of it where there was none."""
    longest_s, since_s = 0.0, began_s
    for fault in sorted(faults, key=lambda fault: fault.began_s):
        if fault.outage and fault.ended_s > since_s and fault.began_s < ended_s:
            longest_s = max(longest_s, fault.began_s - since_s)
            since_s = fault.ended_s
    return max(longest_s, ended_s - since_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A worker that has not ended.

    `seasoned`: at work for so long that it can have noticed the silence of another one by now. `fragile`: it is only
    starting, and so was the one before it when it was killed; on a busy machine nobody would ever get going otherwise.
    """

    life: int
    paused: bool = False
    seasoned: bool = True
    fragile: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What to do next: `pause_s` for a pause, `restart_after_s` for a kill."""

    kind: FaultKind
    life: int
    pause_s: float = 0.0
    restart_after_s: float = 0.0


def choose(random: Random, candidates: Sequence[Candidate], lease_duration_s: float) -> Choice | None:
    """The next fault; None where nobody may be hit.

    One seasoned worker is always left: without it, no store and no protocol could give shards a new owner in time.
    A worker that is paused already can only be killed.
    """
    seasoned = [each for each in candidates if each.seasoned and not each.paused]
    spared = seasoned[0].life if len(seasoned) == 1 else None
    possible = [each for each in candidates if each.life != spared and not each.fragile]
    if not possible:
        return None
    # Drawn even where they are not used, so that one decision does not shift all later ones.
    victim, kind = random.choice(possible), random.random()
    pause_share, restart_share = random.uniform(_PAUSE_SHARE_MIN, _PAUSE_SHARE_MAX), random.random()
    if victim.paused or kind < _KILL_SHARE:
        # One half at once, as a supervisor does; the others take their time, as a machine does.
        delay_s = max(0.0, 2 * restart_share - 1) * _RESTART_DELAY_S_MAX
        return Choice(kind="kill", life=victim.life, restart_after_s=delay_s)
    return Choice(kind="pause", life=victim.life, pause_s=pause_share * lease_duration_s)
