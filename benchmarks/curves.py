"""`python -m benchmarks.curves`: the curves of docs/performance.md, how cost grows with shards, as PNG files.

What polls cost is computed by the formulas of `streamflow cost`, which simulations confirm; what records cost over many shards
is measured, one process for each point, with the contenders of `shards_scale`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import shards_scale
from benchmarks.claims import Contender
from benchmarks.harness import Cores, contend
from benchmarks.open_shards import live_server
from benchmarks.replay_stream import Shape
from streamflow.leases import LeaseLayout
from streamflow.rules import cost
from streamflow.rules.pacing import PollPace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
_SHARDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
_PACES = {
    "Lambda's pace: four times a second": PollPace(interval_s=0.25, idle_interval_s=0.25),
    'polling = "latency"': PollPace(interval_s=0.25),
    'polling = "cost"': PollPace(interval_s=0.25, polling="cost"),
    "… and idle_polls_per_s_max = 50": PollPace(interval_s=0.25, polling="cost", idle_polls_per_s_max=50),
}
_MEASURED_SHARDS = (1, 10, 100, 500, 1_000, 2_000)
_PAGES = 2_000
_WIDTH_INCHES, _HEIGHT_INCHES = 8.0, 3.6


def polls_per_s(pace: PollPace, shards: int) -> float:
    """Of all shards of a fleet, while nothing happens to them."""
    return cost.calls(_fleet(pace, shards)).polls


def usd_per_month(pace: PollPace, shards: int) -> float:
    """What these polls cost by list prices."""
    fleet = _fleet(pace, shards)
    return cost.cost(fleet, cost.calls(fleet)).polls


def _fleet(pace: PollPace, shards: int) -> cost.Fleet:
    return cost.Fleet(
        shards=shards,
        workers=1,
        lease_rows=cost.lease_rows(shards),
        busy_share=0.0,
        pace=pace,
        checkpoint_interval_s=1.0,
        lease_duration_s=10.0,
        layout=LeaseLayout.NATIVE,
    )


def cpu_us_per_record() -> dict[int, float]:
    """Number of open shards to what a record costs, the same records each time."""
    cores, found = Cores.available(), {}
    with live_server("filled", cores.server) as target:
        for shards in _MEASURED_SHARDS:
            contender = Contender(name=f"{shards} shards", work=shards_scale.over_its_shards, pages=_PAGES // shards)
            shape = Shape(shards, _PAGES // shards)
            measurement = contend(contender, shape, "http://127.0.0.1", cores, target, expected=shape.records)
            found[shards] = shards_scale.cpu_us(measurement)
            print(f"{shards} shards: {found[shards]:.2f} µs of CPU per record", file=sys.stderr, flush=True)
    return found


def draw(measured: Mapping[int, float]) -> None:
    """Write the files, those of before are overwritten."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    IMAGES.mkdir(exist_ok=True)
    figure, (calls, dollars) = plt.subplots(1, 2, figsize=(_WIDTH_INCHES, _HEIGHT_INCHES), layout="constrained")
    for name, pace in _PACES.items():
        _line(calls, _SHARDS, [polls_per_s(pace, shards) for shards in _SHARDS], name)
        _line(dollars, _SHARDS, [usd_per_month(pace, shards) for shards in _SHARDS], name)
    _label(calls, "open shards, all idle", "GetRecords calls a second")
    _label(dollars, "open shards, all idle", "US dollars a month")
    dollars.set_ylim(bottom=0.1)
    calls.legend(fontsize="x-small")
    figure.savefig(IMAGES / "polling.png", dpi=110)

    figure, cpu = plt.subplots(figsize=(_WIDTH_INCHES / 2, _HEIGHT_INCHES), layout="constrained")
    _line(cpu, list(measured), list(measured.values()), "streamflow")
    cpu.set_xscale("log")
    cpu.set_ylim(bottom=0)
    cpu.set_xlabel("open shards, the same two million records")
    cpu.set_ylabel("µs of CPU per record")
    cpu.grid(alpha=0.3)
    figure.savefig(IMAGES / "shards.png", dpi=110)


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], name: str) -> None:
    axes.plot(x, y, marker=".", linewidth=1.2, label=name)


def _label(axes: Axes, x: str, y: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    draw(cpu_us_per_record())
