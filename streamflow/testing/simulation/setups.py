"""Which world a seed makes: how large it is, and with which options its pipelines, workers and store are run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from streamflow.leases import LeaseLayout
from streamflow.rules.pacing import PollPace
from streamflow.testing.simulation.facts import Terms
from streamflow.testing.simulation.oracle import Bounds
from streamflow.testing.simulation.rows import PROFILES, Profile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from streamflow.testing.simulation.draws import Draws
    from streamflow.testing.simulation.sinks import Kind as SinkKind

PIPELINE = "p"
CANARY = "canary-7f3c"
"""In each item, and never to be seen outside."""
KINDS_OF_ITEM = ("wanted", "unwanted")
_FILTER = '{"dynamodb": {"NewImage": {"kind": {"S": ["wanted"]}}}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large a world is, and for how long faults strike in it, between two times in seconds."""

    name: str
    workers: int
    shards: int
    keys: int
    lasts_s: tuple[float, float]
    calm: float = 0.0
    """How many of the worlds are calm ones, which last for hours."""


SMALL = Scale(name="small", workers=2, shards=2, keys=12, lasts_s=(120.0, 400.0))
STANDARD = Scale(name="standard", workers=3, shards=8, keys=60, lasts_s=(600.0, 1_800.0), calm=0.6)
SCALES = {scale.name: scale for scale in (SMALL, STANDARD)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything about a world that does not change. `versions` are the configurations that workers come with."""

    scale: Scale
    lasts_s: float
    layout: LeaseLayout
    profile: Profile
    sink: SinkKind
    versions: tuple[dict[str, Any], ...]
    """Options of `Pipeline`."""
    pipeline: str = PIPELINE
    branches: tuple[str, ...] = ()
    lease_duration_s: float = 10.0
    drain_timeout_s: float = 25.0
    audit_interval_s: float = 600.0
    look_interval_s: float = 0.0
    stall_s: float = 60.0
    tick_s: float = 10.0
    """How often the faults that come by themselves are drawn."""
    worker_buffer_bytes_max: int = 1 << 28
    tables: dict[str, Any] = field(default_factory=dict)
    """Options of the service."""
    writes_per_s: float = 0.5
    gives_up_to: Literal["letters", "elsewhere", "both"] = "letters"

    @property
    def pipelines(self) -> tuple[str, ...]:
        return tuple(f"{self.pipeline}/{branch}" for branch in self.branches) or (self.pipeline,)

    @property
    def filtered(self) -> bool:
        return bool(self.versions[0].get("filters"))

    def terms(self, version: Mapping[str, Any]) -> Terms:
        """What a worker of this version promises."""
        blocks, parks = version["on_poison"] == "block", version["on_poison"] == "park_key"
        age_max_s = version["maximum_record_age_s"]
        return Terms(
            retries_max=-1 if blocks else version["maximum_retry_attempts"],
            halves=_halves(version),
            refusals=not blocks,
            parks_max=version.get("parked_keys_max", 1_000) if parks else 0,
            age_max_s=None if age_max_s == -1 else age_max_s,
            lanes=version["parallelization_factor"],
            buffer_bytes_max=version["buffer_bytes_max"],
        )

    def bounds(self) -> Bounds:
        """What the oracle may hold workers of any version to."""
        versions = self.versions
        paces = [_pace(version) for version in versions]
        return Bounds(
            lanes=max(version["parallelization_factor"] for version in versions),
            bisect=all(_halves(version) for version in versions),
            steals=self.layout is LeaseLayout.KCL_SHARED,
            lease_duration_s=self.lease_duration_s,
            drain_timeout_s=self.drain_timeout_s,
            checkpoint_interval_s=max(version["checkpoint_interval_s"] for version in versions),
            idle_poll_s=max(pace.idle_pause_s(shards=4 * self.scale.shards, phase=1.0) for pace in paces),
            poll_interval_s=min(pace.interval_s for pace in paces),
            buffer_bytes_max=self.worker_buffer_bytes_max,
            canaries=(CANARY,),
        )


def _halves(version: Mapping[str, Any]) -> bool:
    return bool(version["bisect_batch_on_function_error"]) or version["on_poison"] == "park_key"


def _pace(version: dict[str, Any]) -> PollPace:
    return PollPace(
        interval_s=version["poll_interval_s"],
        polling=version["polling"],
        idle_interval_s=version["idle_poll_interval_s"],
    )


def drawn(scale: Scale, draws: Draws) -> Setup:
    """The world of a seed. The common is drawn more often than the odd."""
    rng = draws.rng("setup")
    first = _version(rng)
    # Another version may change what does not change the meaning of what is stored.
    second = {**_version(rng), **{name: first[name] for name in ("filters", "tumbling_window_s", "starting_position")}}
    if second["tumbling_window_s"]:
        second |= {"parallelization_factor": 1, "on_poison": "dead_letter"}
    layout = rng.choice([LeaseLayout.NATIVE, LeaseLayout.NATIVE, LeaseLayout.KCL, LeaseLayout.KCL_SHARED])
    sink: SinkKind = rng.choice(["plain", "plain", "fenced", "transactional"])
    if sink == "transactional":
        # It keeps one position for each shard: see `handlers/fitting`.
        first, second = ({**version, "parallelization_factor": 1} for version in (first, second))
    setup = Setup(
        scale=scale,
        lasts_s=rng.uniform(*scale.lasts_s),
        layout=layout,
        profile=rng.choice(PROFILES),
        sink=sink,
        versions=(first, second),
        branches=rng.choice([(), (), (), ("a", "b")]),
        lease_duration_s=rng.choice([10.0, 10.0, 4.0, 30.0]),
        drain_timeout_s=rng.choice([25.0, 5.0, 1.0]),
        audit_interval_s=rng.choice([600.0, 60.0]),
        worker_buffer_bytes_max=rng.choice([1 << 28, 1 << 20, 4_000]),
        tables={
            "children_delay_s": rng.choice([0.0, 0.0, 2.0, 15.0]),
            "page_size": rng.choice([2, 100, 100]),
            "page_bytes_max": rng.choice([1 << 20, 2_000]),
            "shard_filter": rng.choice([True, True, False]),
        },
        gives_up_to=rng.choice(["letters", "letters", "elsewhere", "both"]),
        writes_per_s=rng.choice([0.02, 0.1, 0.5, 0.5, 2.0]),
    )
    return _calm(setup, rng) if rng.random() < scale.calm else setup


def _calm(setup: Setup, rng: Random) -> Setup:
    """The same world with everything that is periodic as seldom as options allow, and so for hours instead of minutes.

    What a worker does does not depend on how often it looks around while nothing happens, and that is what takes the time.
    """
    lease_duration_s = rng.choice([120.0, 300.0, 600.0])
    seldom = {"poll_interval_s": 1.0, "polling": "cost", "idle_poll_interval_s": rng.choice([60.0, 300.0])}
    return replace(
        setup,
        versions=tuple({**version, **seldom} for version in setup.versions),
        lasts_s=rng.uniform(6.0, 24.0) * 3_600.0,
        lease_duration_s=lease_duration_s,
        look_interval_s=lease_duration_s / 3,
        stall_s=lease_duration_s,
        tick_s=2 * lease_duration_s,
        audit_interval_s=3_600.0,
        writes_per_s=rng.choice([0.002, 0.005, 0.01]),
    )


def _version(rng: Random) -> dict[str, Any]:
    version: dict[str, Any] = {
        "batch_size": rng.choice([1, 3, 10, 100, 100]),
        "maximum_batching_window_s": rng.choice([0, 0, 0, 1, 20]),
        "parallelization_factor": rng.choice([1, 1, 2, 4]),
        "maximum_retry_attempts": rng.choice([-1, 0, 1, 2, 4]),
        "maximum_record_age_s": rng.choice([-1, -1, -1, 60, 600]),
        "bisect_batch_on_function_error": rng.choice([False, True]),
        "tumbling_window_s": rng.choice([0, 0, 0, 5, 20]),
        "filters": rng.choice([(), (), (_FILTER,)]),
        "on_poison": rng.choice(["dead_letter", "dead_letter", "park_key", "block"]),
        "parked_keys_max": rng.choice([1_000, 1_000, 2]),
        "handler_timeout_s": rng.choice([None, None, 5.0, 60.0]),
        "checkpoint_interval_s": rng.choice([0, 1, 1, 10]),
        "starting_position": rng.choice(["TRIM_HORIZON", "TRIM_HORIZON", "LATEST"]),
        "poll_interval_s": rng.choice([0.25, 0.25, 1.0]),
        "polling": rng.choice(["latency", "cost", "cost"]),
        "idle_poll_interval_s": rng.choice([None, None, 20.0]),
        "buffer_bytes_max": rng.choice([8_388_608, 65_536]),
        "on_trimmed": "continue",
    }
    if version["tumbling_window_s"]:
        version |= {"parallelization_factor": 1, "filters": (), "on_poison": "dead_letter"}
    if version["on_poison"] == "park_key" and version["maximum_retry_attempts"] == -1:
        version["maximum_retry_attempts"] = 2
    return version
