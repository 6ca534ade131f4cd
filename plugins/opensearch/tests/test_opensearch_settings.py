"""Settings: what is refused, and with which words."""

from __future__ import annotations

from typing import Any

import pytest

from streamflow.sdk import ConfigError
from streamflow_opensearch import opensearch

GIVEN: dict[str, Any] = {"urls": ["http://127.0.0.1:9200"], "index": "orders"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"urls": []}, "urls"),
        ({"urls": ["127.0.0.1:9200"]}, "http://host:port"),
        ({"urls": ["https://user:hidden@example.com"]}, "credentials have settings"),
        ({"index": "Orders"}, "lower case"),
        ({"index": "_orders"}, "name of an index"),
        ({"index": "a" * 256}, "name of an index"),
        ({"index": "orders-{shard}"}, "name of an index"),
        ({"username": "u"}, "username and password go together"),
        ({"api_key": "k", "aws_service": "es"}, "api_key and aws_service are different ways in"),
        ({"username": "u", "password": "p", "api_key": "k"}, "different ways in"),
        ({"aws": {"region": "eu-west-1"}}, "aws goes with aws_service"),
        ({"versioning": "exact"}, "versioning"),
        ({"request_bytes_max": 1}, "request_bytes_max"),
    ],
)
def test_mistakes_are_told(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        opensearch(**GIVEN | settings)
    assert "hidden" not in str(refused.value)


def test_secrets_are_not_shown() -> None:
    declared = opensearch(**GIVEN, username="u", password="hidden")
    assert "hidden" not in repr(declared) + declared.settings.model_dump_json()


@pytest.mark.parametrize(
    ("versioning", "idempotence"),
    [("compared", "versioned"), ("scripted", "versioned"), ("external", "none"), ("ordered", "none")],
)
def test_only_what_compares_sequence_numbers_promises_versions(versioning: str, idempotence: str) -> None:
    assert opensearch(**GIVEN, versioning=versioning).capabilities.idempotence == idempotence


def test_the_default_is_one_that_is_exact() -> None:
    assert opensearch(**GIVEN).capabilities.idempotence == "versioned"


@pytest.mark.parametrize(
    ("service", "host", "actions", "resource"),
    [
        (
            "es",
            "search-orders-copy-abc123.eu-west-1.es.amazonaws.com",
            ("es:ESHttpHead", "es:ESHttpPost"),
            "arn:{partition}:es:{region}:{account}:domain/orders-copy/*",
        ),
        (
            "es",
            "search.example.com",
            ("es:ESHttpHead", "es:ESHttpPost"),
            "arn:{partition}:es:{region}:{account}:domain/*/*",
        ),
        (
            "aoss",
            "abc123.eu-west-1.aoss.amazonaws.com",
            ("aoss:APIAccessAll",),
            "arn:{partition}:aoss:{region}:{account}:collection/abc123",
        ),
    ],
)
def test_signed_requests_are_permitted_on_the_domain(
    service: str, host: str, actions: tuple[str, ...], resource: str
) -> None:
    settings = opensearch.configured({"urls": [f"https://{host}"], "index": "orders", "aws_service": service})
    assert opensearch.permissions is not None
    (needed,) = opensearch.permissions(settings)
    assert (needed.actions, needed.resources) == (actions, (resource,))


def test_requests_that_are_not_signed_need_no_permission() -> None:
    assert opensearch.permissions is not None
    assert opensearch.permissions(opensearch.configured(GIVEN)) == []
