"""Which rows PostgreSQL cannot take: the run that holds one is halved until it stands alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamflow.sdk import BEHIND, BEHIND_IN_SHARD, RecordFailure
from streamflow_postgres.errors import is_data_error, refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from streamflow_postgres.rows import Row


@dataclass(slots=True, eq=False)
class Parted:
    """What became of some rows: how many were written in all, and what was not."""

    written: list[Row] = field(default_factory=list)
    failures: list[RecordFailure] = field(default_factory=list)


async def write_halved(
    rows: Sequence[Row], store: Callable[[Sequence[Row]], Awaitable[None]], *, stops_at_first: bool
) -> Parted:
    """Write what can be written, in the order given; `store` writes some rows or none of them.

    Behind a refused row wait the later changes of its item, or, with `stops_at_first`, all rows.
    Any error of `store` that is not about data ends it.
    """
    parted = Parted()
    refused: set[str] = set()
    pending = [rows]
    while pending:
        run = [row for row in pending[-1] if row.key not in refused]
        parted.failures += [RecordFailure(row.record, "waiting", BEHIND) for row in pending.pop() if row.key in refused]
        if not run:
            continue
        try:
            await store(run)
        except Exception as error:
            if not is_data_error(error):
                raise
            if len(run) > 1:
                pending += [run[len(run) // 2 :], run[: len(run) // 2]]
                continue
            parted.failures.append(RecordFailure(run[0].record, "refused", refusal(error)))
            refused.add(run[0].key)
            if stops_at_first:
                rest = [row for waiting in reversed(pending) for row in waiting]
                parted.failures += [RecordFailure(row.record, "waiting", BEHIND_IN_SHARD) for row in rest]
                break
        else:
            parted.written += run
    return parted
