"""Requests that the service does not serve, for reasons of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamflow.aws.errors import classify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamflow.errors import SourceError
    from streamflow.testing.simulation.draws import Address
    from streamflow.testing.simulation.faults import Faults

# Kind of fault to the codes, with their HTTP status, that the service answers then.
REFUSALS: dict[str, Sequence[tuple[str, int]]] = {
    "refused.throttled": [
        ("LimitExceededException", 400),
        ("ProvisionedThroughputExceededException", 400),
        ("ThrottlingException", 400),
    ],
    "refused.server_error": [("InternalServerError", 500), ("ServiceUnavailable", 503), ("", 502)],
    "refused.validation": [("ValidationException", 400), ("SerializationException", 400)],
    "refused.access_denied": [("AccessDeniedException", 400), ("UnrecognizedClientException", 400)],
    "refused.token_expired": [("ExpiredTokenException", 400)],
    "refused.key": [("KMSAccessDeniedException", 400), ("KMSThrottlingException", 400)],
}
_RETRY_AFTER_S_MAX = 20


OUTAGE_S = (5.0, 60.0)


@dataclass(slots=True)
class Refusals:
    """`now` is the time of the service."""

    faults: Faults
    now: Callable[[], float]
    _away_until_s: float = -math.inf

    def draw(self, *address: Address) -> SourceError | None:
        """What the service says instead of an answer, as the wire reports it; None if it serves the request."""
        if self._is_away(*address):
            return classify("ServiceUnavailable", "as drawn", 503)
        kind = self.faults.at("refused", *address)
        if kind is None:
            return None
        rng = self.faults.rng(kind, *address)
        code, status = rng.choice(REFUSALS[kind])
        pause_s = float(rng.randrange(_RETRY_AFTER_S_MAX))
        return classify(code, "as drawn", status, retry_after_s=rng.choice([None, pause_s]))

    def _is_away(self, *address: Address) -> bool:
        if self.faults.strikes("outage.all", *address):
            self._away_until_s = self.now() + self.faults.rng("outage.all", *address).uniform(*OUTAGE_S)
        return self.now() < self._away_until_s and not self.faults.quiet
