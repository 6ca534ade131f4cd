"""Where each worker stands, and whether all of them together are alive and ready. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from streamflow.observe.health import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

SILENT_S = 60.0
"""A worker reports every second; one that has not for so long is stuck, and does not get over it by itself."""

State = Literal["waiting", "starting", "open", "over"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One worker. `waiting` is between two of its processes, `ending` says how the last one ended.

    `live` and `ready` are from its last report, which is `silent_s` old; they are None unless it is open.
    """

    worker_id: str
    state: State
    ending: str = ""
    silent_s: float = 0.0
    live: Verdict | None = None
    ready: Verdict | None = None


def live(standings: Sequence[Standing]) -> Verdict:
    """Alive means that this answers, and that no worker that runs is stuck or says that a restart may help.

    A worker that waits to be started again is being taken care of.
    """
    return _verdict([reason for each in standings if each.state == "open" for reason in _reasons(each, each.live)])


def ready(standings: Sequence[Standing]) -> Verdict:
    """Ready means that every worker is: a rollout must not go on over one that does not start.

    One whose streams have ended counts as ready, as in a single worker.
    """
    reasons: list[str] = []
    for each in standings:
        match each.state:
            case "starting":
                reasons.append(f"{each.worker_id}: starting")
            case "waiting":
                reasons.append(f"{each.worker_id}: ended with {each.ending}, waiting to be started again")
            case "open":
                reasons += _reasons(each, each.ready)
            case "over":
                pass
    return _verdict(reasons)


def _reasons(standing: Standing, verdict: Verdict | None) -> list[str]:
    if standing.silent_s > SILENT_S:
        return [f"{standing.worker_id}: has not been heard of for {standing.silent_s:.0f} s"]
    return [] if verdict is None else [f"{standing.worker_id}: {reason}" for reason in verdict.reasons]


def _verdict(reasons: list[str]) -> Verdict:
    return Verdict(ok=not reasons, reasons=tuple(reasons))
