"""A handler that adds up amounts at another service, simulated under faults: the naive one adds some of them twice.

Run `streamflow simulate examples/simulated_totals.py:naive --hours 0.1`: it fails, and says by which command to see that again.
`fixed` in place of `naive` passes. docs/simulation.md goes through it.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import streamflow
from streamflow.testing.simulation import Ending, Scenario, outside

if TYPE_CHECKING:
    from collections.abc import Callable


class Bank:
    """Stands in for the service that keeps the totals."""

    def __init__(self) -> None:
        self.totals: Counter[str] = Counter()
        self._known: set[str] = set()

    def add(self, record: streamflow.Record) -> None:
        if record.new_image is not None:
            self.totals[str(record.keys["id"])] += int(str(record.new_image["amount"]))

    def add_once(self, record: streamflow.Record) -> None:
        """What was added is remembered in the same step, as a database does in one transaction."""
        if record.event_id not in self._known:
            self._known.add(record.event_id)
            self.add(record)


def scenario(bank: Bank, add: Callable[[streamflow.Record], None]) -> Scenario:
    async def handle(batch: streamflow.Batch) -> None:
        for record in batch:
            await outside("bank", partial(add, record))

    def check(ending: Ending) -> None:
        expected = Bank()
        for record in ending.delivered:
            expected.add(record)
        wrong = [
            f"{key} is {bank.totals[key]}, not {total}"
            for key, total in expected.totals.items()
            if bank.totals[key] != total
        ]
        assert not wrong, "; ".join(wrong)

    source = streamflow.DynamoDBStream(table="orders")
    totals = streamflow.Pipeline(name="totals", source=source, handler=handle, starting_position="TRIM_HORIZON")
    return Scenario(app=totals, check=check)


def naive() -> Scenario:
    bank = Bank()
    return scenario(bank, bank.add)


def fixed() -> Scenario:
    bank = Bank()
    return scenario(bank, bank.add_once)
