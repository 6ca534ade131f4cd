"""Whole workers in virtual time, from a seed: what a run did can be done again. The names are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamflow.testing.simulation.determinism import deterministic as deterministic
    from streamflow.testing.simulation.loop import SimulatedLoop as SimulatedLoop
    from streamflow.testing.simulation.rehearsal import Extent as Extent
    from streamflow.testing.simulation.rehearsal import rehearse as rehearse
    from streamflow.testing.simulation.running import Outcome as Outcome
    from streamflow.testing.simulation.running import simulate as simulate
    from streamflow.testing.simulation.running import sweep as sweep
    from streamflow.testing.simulation.scenario import Ending as Ending
    from streamflow.testing.simulation.scenario import Scenario as Scenario
    from streamflow.testing.simulation.scenario import outside as outside

_HOMES = {
    "Ending": "streamflow.testing.simulation.scenario",
    "Extent": "streamflow.testing.simulation.rehearsal",
    "Outcome": "streamflow.testing.simulation.running",
    "Scenario": "streamflow.testing.simulation.scenario",
    "SimulatedLoop": "streamflow.testing.simulation.loop",
    "deterministic": "streamflow.testing.simulation.determinism",
    "outside": "streamflow.testing.simulation.scenario",
    "rehearse": "streamflow.testing.simulation.rehearsal",
    "simulate": "streamflow.testing.simulation.running",
    "sweep": "streamflow.testing.simulation.running",
}

__all__ = [
    "Ending",
    "Extent",
    "Outcome",
    "Scenario",
    "SimulatedLoop",
    "deterministic",
    "outside",
    "rehearse",
    "simulate",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
