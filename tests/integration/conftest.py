"""Real servers that the suite starts, each on loopback and once for each process of the test run."""

from __future__ import annotations

from servers.ministack import dynamodb, dynamodbstreams, ministack, ministack_server

__all__ = ["dynamodb", "dynamodbstreams", "ministack", "ministack_server"]
