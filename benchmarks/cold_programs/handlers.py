"""The handler of the pipeline file that `streamflow run` is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.cold_programs.marking import mark

if TYPE_CHECKING:
    from streamflow.batches import Batch


async def deliver(batch: Batch) -> None:
    assert len(batch)
    mark()
