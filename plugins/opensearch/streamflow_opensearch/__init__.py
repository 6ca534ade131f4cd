"""The sink `opensearch`. What talks to a server is imported when a sink is opened, not before."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from streamflow.sdk import SinkPlugin
from streamflow_opensearch.settings import OpenSearchSettings, capabilities, permissions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.sdk import SinkContext, Writer

__all__ = ["OpenSearchSettings", "opensearch"]


@asynccontextmanager
async def _open(settings: OpenSearchSettings, context: SinkContext) -> AsyncIterator[Writer]:
    from streamflow_opensearch.sink import open_opensearch

    async with open_opensearch(settings, context) as writer:
        yield writer


opensearch = SinkPlugin(
    name="opensearch",
    api_version="1.0",
    summary="A document of OpenSearch or Elasticsearch for each item; an older change never replaces a newer one.",
    settings=OpenSearchSettings,
    examples={
        "a local server": {"urls": ["http://127.0.0.1:9200"], "index": "orders"},
        "two nodes with a password": {
            "urls": ["https://node-1.example.com:9200", "https://node-2.example.com:9200"],
            "index": "orders",
            "username": "streamflow",
            "password": "${OPENSEARCH_PASSWORD}",
            "ca_bundle": "/etc/ssl/private-ca.pem",
        },
        "Amazon OpenSearch Service": {
            "urls": ["https://search-orders-abc123.eu-west-1.es.amazonaws.com"],
            "index": "cdc-{table}",
            "aws_service": "es",
        },
    },
    open=_open,
    capabilities=capabilities,
    permissions=permissions,
)
