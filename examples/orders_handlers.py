"""What `orders.toml` names: a handler and a predicate. Run it with `streamflow run examples/orders.toml`."""

from streamflow import Batch, Record


async def deliver(batch: Batch) -> None:
    """Print each change; raising instead would bring the whole batch again."""
    for record in batch:
        print(record.event_name, record.keys["id"], flush=True)


def is_deleted_by_ttl(record: Record) -> bool:
    """Deletes by time to live carry an identity; those of users carry none."""
    return record.user_identity is not None
