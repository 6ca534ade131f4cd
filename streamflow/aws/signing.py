"""AWS Signature Version 4 for the one kind of request that the wire makes: a POST of JSON to the root path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from hmac import digest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Keys:
    """Credentials at one moment; no representation, so that none is ever printed."""

    access_key: str
    secret_key: str
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a signature is good for. `host` is as the Host header has it: with the port unless it is the default one."""

    region: str
    service: str
    host: str
    content_type: str


def signed_headers(scope: Scope, keys: Keys, *, target: str, body: bytes, at: datetime) -> dict[str, str]:
    """Every header of the request, signed. `at` is in UTC and, by the service's clock, not off by more than 5 min."""
    moment = at.strftime("%Y%m%dT%H%M%SZ")
    day = moment[:8]
    names = "content-type;host;x-amz-date;x-amz-target"
    token_line = ""
    if keys.token:
        names = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
        token_line = f"x-amz-security-token:{keys.token}\n"
    canonical = (
        f"POST\n/\n\ncontent-type:{scope.content_type}\nhost:{scope.host}\nx-amz-date:{moment}\n{token_line}"
        f"x-amz-target:{target}\n\n{names}\n{sha256(body).hexdigest()}"
    )
    within = f"{day}/{scope.region}/{scope.service}/aws4_request"
    to_sign = f"{_ALGORITHM}\n{moment}\n{within}\n{sha256(canonical.encode()).hexdigest()}"
    signature = digest(_day_key(keys.secret_key, day, scope.region, scope.service), to_sign.encode(), "sha256").hex()
    headers = {
        "Host": scope.host,
        "Content-Type": scope.content_type,
        "X-Amz-Date": moment,
        "X-Amz-Target": target,
        "Authorization": (
            f"{_ALGORITHM} Credential={keys.access_key}/{within}, SignedHeaders={names}, Signature={signature}"
        ),
    }
    if keys.token:
        headers["X-Amz-Security-Token"] = keys.token
    return headers


# Keys change with the day, with a refresh, and with the region; four hashes are saved for each request between.
@lru_cache(maxsize=16)
def _day_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = digest(key, part.encode(), "sha256")
    return key
