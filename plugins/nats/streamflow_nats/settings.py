"""What users may choose."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, SecretStr, field_validator, model_validator

from streamflow.sdk import PayloadForm, Settings

_SUBJECT = re.compile(r"^(?:[^\s.*>{}]|\{table\}|\{key_hash\})+(?:\.(?:[^\s.*>{}]|\{table\}|\{key_hash\})+)*$")


class NatsSettings(Settings):
    servers: Annotated[str, Field(examples=["nats://localhost:4222"], min_length=1)]
    """Servers of one cluster, with commas between them."""
    stream: Annotated[str, Field(examples=["CDC"], pattern=r"^[^\s.*>/\\]+$")]
    """Stream of JetStream that stores the subjects. It must exist."""
    subject: Annotated[str, Field(examples=["orders", "cdc.{table}.{key_hash}"])] = "cdc.{table}.{key_hash}"
    """Subject to publish to; `{table}` stands for the name of the stream's table, and `{key_hash}` for 16 hexadecimal
    digits that are the same for all changes of an item."""
    payload: Annotated[PayloadForm, Field(examples=["image"])] = "lambda"
    """What a message is: the record of a Lambda event, the new image, or before and after."""
    duplicate_window_s: Annotated[float, Field(gt=0, examples=[120])] = 120.0
    """For how long the stream recognises a message that it has; its own duplicate window must not be shorter."""
    record_bytes_max: Annotated[int, Field(ge=1_000, le=64_000_000, examples=[1_000_000])] = 1_000_000
    """A message with more bytes in payload and headers is refused; so is one that server or stream do not take."""
    connect_timeout_s: Annotated[float, Field(gt=0, le=300, examples=[5])] = 5.0
    """How long connecting may take."""
    ack_timeout_s: Annotated[float, Field(gt=0, le=300, examples=[10])] = 10.0
    """How long the stream may take to acknowledge a message; past it, the connection is given up."""
    username: Annotated[str | None, Field(examples=["streamflow"])] = None
    """User to log in as."""
    password: Annotated[SecretStr | None, Field(examples=["${NATS_PASSWORD}"])] = None
    """Password of `username`."""
    token: Annotated[SecretStr | None, Field(examples=["${NATS_TOKEN}"])] = None
    """Token to log in with, instead of a user."""
    credentials_file: Annotated[str | None, Field(examples=["/etc/nats/streamflow.creds"])] = None
    """File with a JWT and its seed, instead of a user; it takes `pip install nats-py[nkeys]`."""
    ca_file: Annotated[str | None, Field(examples=["/etc/ssl/nats-ca.pem"])] = None
    """Certificates to trust instead of those of the system. TLS is used where it is set, and for `tls://` servers."""
    certificate_file: Annotated[str | None, Field(examples=["/etc/ssl/streamflow.pem"])] = None
    """Certificate to show to the servers."""
    key_file: Annotated[str | None, Field(examples=["/etc/ssl/streamflow.key"])] = None
    """Private key of `certificate_file`."""

    @field_validator("servers")
    @classmethod
    def _no_secrets_in_servers(cls, servers: str) -> str:
        if "@" in servers:
            raise ValueError("give user and password by the settings of these names: they are kept secret")
        return servers

    @field_validator("subject")
    @classmethod
    def _subject_can_be(cls, subject: str) -> str:
        if not _SUBJECT.match(subject):
            raise ValueError("a subject is names with dots between them, without spaces and wildcards")
        return subject

    @model_validator(mode="after")
    def _go_together(self) -> NatsSettings:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if sum(way is not None for way in (self.username, self.token, self.credentials_file)) > 1:
            raise ValueError("username, token and credentials_file are three ways to log in: choose one")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        return self
