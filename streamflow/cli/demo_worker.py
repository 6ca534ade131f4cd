"""The worker that `streamflow demo` starts, kills and starts again: one pipeline that writes down what it was given.

Configured by environment variables, because it is its own process. Each delivered record becomes one line of the
journal, written before the handler returns: what a SIGKILL leaves is exactly what was delivered. One order is poison to
the handler, until somebody mends it: then the file that stands for that exists.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from streamflow.clock import SystemClock
from streamflow.middleware.log_batches import log_batches
from streamflow.middleware.timeout import timeout
from streamflow.pipeline import App, AwsOptions, DynamoDBStream, Pipeline

if TYPE_CHECKING:
    from streamflow.batches import Batch

POISON = "order-poison"

_clock = SystemClock()
_mended = Path(os.environ["STREAMFLOW_DEMO_MENDED"])
_journal = os.open(os.environ["STREAMFLOW_DEMO_JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _refuse_poison(batch: Batch) -> None:
    if any(record.keys["id"] == POISON for record in batch) and not _mended.exists():
        raise ValueError("there is an order that this handler cannot bear")


async def write_down(batch: Batch) -> None:
    """One line per record: order, version, time written, time delivered."""
    _refuse_poison(batch)
    now_s = _clock.wall()
    lines = []
    for record in batch:
        order = record.new_image or {}
        lines.append(f"{order['id']!s} {order['version']!s} {order['written_at']!s} {now_s:.6f}\n")
    os.write(_journal, "".join(lines).encode())


app = App(
    pipelines=(
        Pipeline(
            name="demo",
            source=DynamoDBStream(table="orders"),
            handler=write_down,
            middleware=(log_batches(), timeout(30)),
            starting_position="TRIM_HORIZON",
            maximum_retry_attempts=2,
            bisect_batch_on_function_error=True,
        ),
    ),
    store=os.environ["STREAMFLOW_DEMO_STORE"],
    aws=AwsOptions(endpoint_url=os.environ["STREAMFLOW_DEMO_ENDPOINT"], region="eu-west-1"),
    # The same name after a restart: the leases of the killed worker are its own, nobody waits for them to run out.
    worker_id="demo-worker",
)
