"""What a user of the sink chooses, and what follows from it for the engine."""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from streamflow.sdk import AwsSettings, Capabilities, Permission, Settings

Versioning: TypeAlias = Literal["compared", "scripted", "external", "ordered"]

TABLE = "{table}"

# What both products refuse in the name of an index.
_INDEX_REFUSED = re.compile(r'^[-_+]|[A-Z\\/*?"<>| ,#:{}]|^\.{1,2}$')
_INDEX_BYTES_MAX = 255
# `search-orders-` and an id, or `vpc-` for those inside a network.
_DOMAIN_HOST = re.compile(r"^(?:search|vpc)-([a-z0-9-]+)-[a-z0-9]+\.[a-z0-9-]+\.es\.amazonaws\.com")
_BASIC, _API_KEY, _SIGNED = "username and password", "api_key", "aws_service"


class OpenSearchSettings(Settings):
    """Where the documents go, and by what a newer one is known."""

    urls: Annotated[tuple[str, ...], Field(min_length=1, examples=[["https://search.example.com:9200"]])]
    """Nodes of one cluster, without credentials. They take turns, and one that cannot be reached is left out."""
    index: Annotated[str, Field(min_length=1, examples=["orders", "cdc-{table}"])]
    """Index or alias that takes the documents; `{table}` stands for the stream's table, in lower case."""
    index_must_exist: bool = True
    """Refuse to write to an index that is not there. Otherwise the server makes it, with guessed types."""
    versioning: Versioning = "compared"
    """How an older change is kept from replacing a newer one; see the README for what each costs and promises."""
    username: Annotated[str | None, Field(examples=["streamflow"])] = None
    """User for basic authentication."""
    password: SecretStr | None = None
    """Password of that user."""
    api_key: SecretStr | None = None
    """Encoded API key of Elasticsearch, sent as `Authorization: ApiKey …`."""
    aws_service: Literal["es", "aoss"] | None = None
    """Sign requests for Amazon OpenSearch Service (`es`) or OpenSearch Serverless (`aoss`)."""
    aws: AwsSettings | None = None
    """Identity and region to sign with; by default those of the pipeline."""
    ca_bundle: Annotated[str | None, Field(examples=["/etc/ssl/private-ca.pem"])] = None
    """Certificates to trust instead of the default ones. TLS is always verified."""
    request_bytes_max: Annotated[int, Field(ge=100_000, le=100_000_000)] = 10_000_000
    """The largest request. Small domains of Amazon OpenSearch Service take 10 MiB, others 100 MiB."""
    concurrency: Annotated[int, Field(ge=1, le=64)] = 4
    """Requests of one batch at the same time."""
    request_timeout_s: Annotated[float, Field(gt=0, le=600)] = 60.0
    """How long one request may take."""

    @field_validator("urls")
    @classmethod
    def _urls_are_plain(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError("should be http://host:port or https://host:port")
            if parts.username or parts.password or parts.query or parts.fragment:
                raise ValueError("should have no user, query or fragment: credentials have settings of their own")
        return tuple(url.rstrip("/") for url in urls)

    @field_validator("index")
    @classmethod
    def _index_can_exist(cls, index: str) -> str:
        name = index.replace(TABLE, "table")
        if _INDEX_REFUSED.search(name) or len(name.encode()) > _INDEX_BYTES_MAX:
            raise ValueError('should be the name of an index: lower case, none of \\ / * ? " < > | , # :, no space')
        return index

    @model_validator(mode="after")
    def _one_way_in(self) -> OpenSearchSettings:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        ways = {_BASIC: self.username, _API_KEY: self.api_key, _SIGNED: self.aws_service}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are different ways in: give one of them")
        if self.aws is not None and self.aws_service is None:
            raise ValueError("aws goes with aws_service")
        return self


def capabilities(settings: OpenSearchSettings) -> Capabilities:
    """`external` goes by a time of whole seconds, so that it cannot promise what a version promises."""
    exact = settings.versioning in {"compared", "scripted"}
    return Capabilities(
        order="key",
        idempotence="versioned" if exact else "none",
        idempotence_key="item key and sequence number" if exact else None,
        partial_failures=True,
        needs_images=True,
        batch_size=1_000,
        request_bytes_max=settings.request_bytes_max,
        record_bytes_max=settings.request_bytes_max,
    )


def permissions(settings: OpenSearchSettings) -> list[Permission]:
    """Of requests that are signed. The domain or the collection is what the name of its host says of it."""
    hosts = [str(urlsplit(url).hostname) for url in settings.urls]
    actions: tuple[str, ...]
    match settings.aws_service:
        case "es":
            actions = ("es:ESHttpHead", "es:ESHttpPost")
            targets = [f"arn:{{partition}}:es:{{region}}:{{account}}:domain/{_domain(host)}/*" for host in hosts]
        case "aoss":
            actions = ("aoss:APIAccessAll",)
            targets = [
                f"arn:{{partition}}:aoss:{{region}}:{{account}}:collection/{_collection(host)}" for host in hosts
            ]
        case None:
            return []
    resources = tuple(dict.fromkeys(targets))
    return [Permission(purpose=f"write documents to {settings.index}", actions=actions, resources=resources)]


def _domain(host: str) -> str:
    found = _DOMAIN_HOST.match(host)
    return "*" if found is None else found[1]


def _collection(host: str) -> str:
    return host.partition(".")[0] if host.endswith(".aoss.amazonaws.com") else "*"
