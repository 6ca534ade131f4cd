"""Changes of items into a table of PostgreSQL, and a store in it."""

from streamflow.sdk import SinkPlugin, nothing_at_aws
from streamflow_postgres.settings import PostgresSettings, capabilities
from streamflow_postgres.sink import open_postgres
from streamflow_postgres.store import postgresql

__all__ = ["PostgresSettings", "postgres", "postgresql"]

postgres = SinkPlugin(
    name="postgres",
    api_version="1.0",
    summary="Write items to a table of PostgreSQL: their latest state, or one row per change.",
    settings=PostgresSettings,
    examples={
        "latest state": {"dsn": "postgresql://streamflow@db.example.com/shop", "table": "orders"},
        "state and checkpoint in one transaction": {
            "dsn": "postgresql://streamflow@db.example.com/shop",
            "table": "shop.orders",
            "transactional": True,
            "columns": {"total": "total", "placedAt": "placed_at"},
        },
        "every change": {
            "dsn": "postgresql://streamflow@db.example.com/shop",
            "table": "order_changes",
            "mode": "append",
            "create_table": True,
        },
    },
    open=open_postgres,
    capabilities=capabilities,
    permissions=nothing_at_aws,
)
