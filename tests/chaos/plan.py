"""What one run is to do; together with the seed, all there is to repeat it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Mode: TypeAlias = "Literal['faults', 'graceful', 'scale', 'calm']"

TABLE = PIPELINE = "chaos"
REGION = "us-east-1"
# Servers on loopback take any; there are none of this machine's that could reach AWS.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "chaos",
    "AWS_SECRET_ACCESS_KEY": "chaos",
    "AWS_CONFIG_FILE": "does-not-exist",
    "AWS_SHARED_CREDENTIALS_FILE": "does-not-exist",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`faults` kills and pauses workers; `graceful` restarts all of them one by one, as a rolling deploy does; `scale` starts
    with one, adds the others one by one and stops them again; `calm` leaves them alone.

    `failpoint_share` of the workers that replace a killed one die by their own hand, at a point of `streamflow.failpoints`.

    Records are written for most of `seconds`; whatever is left then has `drain_s_max` to arrive. Times are those of the
    harness: which worker, which shard and which item are drawn from the seed, the moment depends on the machine.
    """

    seed: int
    mode: Mode = "faults"
    store: str = "sqlite"
    seconds: float = 120.0
    records: int = 1_000_000
    shards: int = 64
    workers: int = 4
    lease_duration_s: float = 3.0
    checkpoint_interval_s: float = 1.0
    fault_interval_s: float = 2.0
    reshard_interval_s: float = 1.0
    look_interval_s: float = 0.2
    drain_s_max: float = 90.0
    failpoint_share: float = 0.0

    @property
    def keys(self) -> int:
        """Items that are changed: a hundred changes each, on average."""
        return max(200, self.records // 100)

    @property
    def clean(self) -> bool:
        """Whether nobody is hurt, so that nothing may come twice."""
        return self.mode != "faults"

    @property
    def workers_at_first(self) -> int:
        return 1 if self.mode == "scale" else self.workers

    @property
    def unowned_s_max(self) -> float:
        """How long a shard may be without a living owner."""
        return 1.0 if self.clean else self.lease_duration_s + 2.0

    @property
    def command(self) -> str:
        """What repeats the run, from the root of the repository."""
        options = {
            "store": self.store,
            "mode": self.mode,
            "seconds": f"{self.seconds:g}",
            "records": self.records,
            "shards": self.shards,
            "workers": self.workers,
            "lease-duration-s": f"{self.lease_duration_s:g}",
            "fault-interval-s": f"{self.fault_interval_s:g}",
            "failpoint-share": f"{self.failpoint_share:g}",
            "seed": self.seed,
        }
        return "PYTHONPATH=tests python -m chaos " + " ".join(f"--{name} {value}" for name, value in options.items())
