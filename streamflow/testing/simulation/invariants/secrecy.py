"""V16: what is in records stays in records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from streamflow.testing.simulation.facts import Told, Wrote
from streamflow.testing.simulation.oracle import OfFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.testing.simulation.facts import Fact
    from streamflow.testing.simulation.oracle import Bounds
    from streamflow.testing.simulation.truth import Truth


@dataclass(slots=True, eq=False)
class NothingLeaks(OfFacts):
    """V16: no canary in a line of a log, nor in the texts of events."""

    bounds: Bounds
    name = "V16"
    hears: ClassVar[Sequence[type]] = (Told, Wrote)

    def broken_by(self, fact: Fact, truth: Truth, /) -> str | None:  # noqa: ARG002 - a text says it all
        if isinstance(fact, Wrote):
            texts = [fact.text]
        else:
            assert isinstance(fact, Told)
            error, message = getattr(fact.event, "error", None), getattr(fact.event, "message", None)
            if error is None and message is None:
                return None
            texts = [f"{error!r} {error}", f"{message}"]
        for text in texts:
            for canary in self.bounds.canaries:
                if canary in text:
                    place = text.index(canary)
                    return f"{fact.node} told {text[max(0, place - 60) : place]}…"
        return None
