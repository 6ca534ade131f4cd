"""Where the admin server listens, and who may read there."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import Field, SecretStr, field_validator, model_validator

from streamflow.declaration import Declaration

# What RFC 6750 lets a bearer token be, and long enough that nobody guesses it.
HTTP_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,512}=*", re.ASCII)


class HttpOptions(Declaration):
    """The admin server: /metrics, /status, /livez, /readyz."""

    host: Annotated[str, Field(examples=["127.0.0.1"])] = "127.0.0.1"
    """Address to bind; beyond loopback only if you say so."""
    port: Annotated[int, Field(ge=0, le=65_535, examples=[9102])] = 0
    """Port; 0 picks a free one."""
    token: Annotated[SecretStr | None, Field(examples=["${STREAMFLOW_HTTP_TOKEN}"])] = None
    """What `/metrics` and `/status` ask for, as `Authorization: Bearer TOKEN`; at least 16 characters. Probes answer without
    it, and then give no reasons."""
    without_token: bool = False
    """Beyond loopback, let everybody read who reaches the port: the network decides who does."""

    @field_validator("token")
    @classmethod
    def _token_can_be_sent(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not HTTP_TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError(
                "a token is 16 to 512 letters, digits and any of ._~+/-, such as `openssl rand -hex 32` writes"
            )
        return value

    @model_validator(mode="after")
    def _a_door_has_a_lock(self) -> HttpOptions:
        if self.token is not None and self.without_token:
            raise ValueError("token and without_token exclude each other")
        if self.token is None and not self.without_token and not self.on_loopback:
            raise ValueError(
                "host is beyond loopback: set token (--http takes it from STREAMFLOW_HTTP_TOKEN), or "
                "without_token = true where the network decides who may connect"
            )
        return self

    @property
    def on_loopback(self) -> bool:
        """Whether nobody but this machine can connect."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether an address, or a name, is of this machine and of no network."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
