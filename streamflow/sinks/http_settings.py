"""What a user may choose about a webhook, and what follows from it."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from streamflow.payloads import PayloadForm
from streamflow.sdk.capabilities import Capabilities
from streamflow.sdk.settings import Settings
from streamflow.sinks.http_requests import Body, secret_bytes

# What is beyond the contents of the records in a body.
_AROUND_BYTES_MAX = 16
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = frozenset({"content-length", "host", "idempotency-key", "transfer-encoding", "connection"})


class HttpSettings(Settings):
    url: Annotated[str, Field(examples=["https://hooks.example.com/orders"])]
    """Where to. It is shown in listings: a token belongs into `headers`."""
    method: Literal["POST", "PUT"] = "POST"
    """The method of each request."""
    payload: Annotated[PayloadForm, Field(examples=["change"])] = "lambda"
    """What is sent of a record: the record as Lambda has it, the new image, or key, before and after."""
    body: Annotated[Body, Field(examples=["single"])] = "array"
    """`array`: a JSON array. `ndjson`: lines. `event`: what a Lambda function gets. `single`: a request for each record."""
    headers: Annotated[
        dict[str, SecretStr], Field(examples=[{"Authorization": "Bearer ${TOKEN}"}], default_factory=dict)
    ]
    """Headers of each request; their values are shown nowhere."""
    signing_secrets: Annotated[tuple[SecretStr, ...], Field(max_length=8, examples=[["${WEBHOOK_SECRET}"]])] = ()
    """Secrets of Standard Webhooks (`whsec_…`); with several, for a change of secret, a request carries a signature of each."""
    request_records_max: Annotated[int, Field(ge=1, le=10_000, examples=[25])] = 100
    """Most records in a request."""
    request_bytes_max: Annotated[int, Field(ge=1_024, le=104_857_600, examples=[262_144])] = 1_048_576
    """Most bytes in a request, but for a single record; a record that is larger goes alone."""
    concurrency: Annotated[int, Field(ge=1, le=256, examples=[2])] = 8
    """Most requests, and connections, at the same time. Changes of one item are never in two of them."""
    timeout_s: Annotated[float, Field(gt=0, le=900, examples=[10.0])] = 30.0
    """Time for one request, from connecting to the end of the answer."""
    response_bytes_max: Annotated[int, Field(ge=1_024, le=67_108_864, examples=[65_536])] = 1_048_576
    """A longer answer is not read to its end, and the request has failed: what it says of the records is not known."""
    private_addresses: bool = True
    """Reach loopback and private networks. Link-local and cloud metadata addresses are never reached."""
    ca_bundle: Annotated[str | None, Field(examples=["/etc/ssl/private-ca.pem"])] = None
    """Certificates to trust instead of the default ones. TLS is always verified."""

    @field_validator("url")
    @classmethod
    def _url_is_of_the_web(cls, value: str) -> str:
        parts = urlsplit(value)  # ValueError where it is none
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
            raise ValueError("a URL is http:// or https://, and a host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("credentials belong into headers")
        if parts.fragment or not value.isascii() or any(sign <= " " for sign in value):
            raise ValueError("it has characters that a URL has not, or a fragment")
        return value

    @field_validator("headers")
    @classmethod
    def _headers_can_be_sent(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, content in value.items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS or name.lower().startswith("webhook-"):
                raise ValueError(f"{name!r} is no header that can be set")
            text = content.get_secret_value()
            if not text.isascii() or not text.isprintable():
                raise ValueError(f"the value of {name!r} has characters that a header has not")
        return value

    @field_validator("signing_secrets")
    @classmethod
    def _secrets_are_keys(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in value:
            secret_bytes(secret.get_secret_value())
        return value

    @model_validator(mode="after")
    def _events_hold_records(self) -> HttpSettings:
        if self.body == "event" and self.payload != "lambda":
            raise ValueError('body = "event" goes with payload = "lambda"')
        return self


def capabilities(settings: HttpSettings) -> Capabilities:
    return Capabilities(
        order="key",
        idempotence="none",
        partial_failures=True,
        needs_images=settings.payload == "image",
        request_records_max=1 if settings.body == "single" else settings.request_records_max,
        request_bytes_max=settings.request_bytes_max - _AROUND_BYTES_MAX,
    )
