"""What AWS and the way to it say went wrong, to what streamflow does about it. Texts hold no item data and no secrets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import msgspec
from botocore import exceptions as botocore_errors

from streamflow.errors import (
    AccessDeniedError,
    IteratorExpiredError,
    NotFoundError,
    RequestRefusedError,
    SourceError,
    ThrottledError,
    TrimmedError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an error code asks for: a class of error and, for people, the next step."""

    error: type[SourceError]
    next_step: str = ""

    @property
    def throttled(self) -> bool:
        return self.error is ThrottledError


_TRANSIENT = Meaning(SourceError)
_THROTTLED = Meaning(ThrottledError)
_REFUSED = Meaning(RequestRefusedError)
_DENIED = Meaning(AccessDeniedError, "allow it in the policy of the role or user")
_UNKNOWN_KEY = Meaning(AccessDeniedError, "check the access key, its secret and its session token")
_EXPIRED = Meaning(AccessDeniedError, "renew the credentials")
_CLOCK = Meaning(AccessDeniedError, "check this machine's clock")

# An unknown code, of whatever status, is transient with an unknown outcome.
_MEANINGS: Mapping[str, Meaning] = {
    # the shard, the stream, the table
    "ExpiredIteratorException": Meaning(IteratorExpiredError),
    "TrimmedDataAccessException": Meaning(TrimmedError),
    "ResourceNotFoundException": Meaning(NotFoundError),
    "TableNotFoundException": Meaning(NotFoundError),
    # a pause is asked for
    "BandwidthLimitExceeded": _THROTTLED,
    "EC2ThrottledException": _THROTTLED,
    "KMSThrottlingException": _THROTTLED,
    "LimitExceededException": _THROTTLED,
    "ProvisionedThroughputExceededException": _THROTTLED,
    "RequestLimitExceeded": _THROTTLED,
    "RequestThrottled": _THROTTLED,
    "RequestThrottledException": _THROTTLED,
    "SlowDown": _THROTTLED,
    "ThrottledException": _THROTTLED,
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "TooManyRequestsException": _THROTTLED,
    # who we are, and what we may do
    "AccessDenied": _DENIED,
    "AccessDeniedException": _DENIED,
    "KMSAccessDeniedException": _DENIED,
    "NotAuthorized": _DENIED,
    "UnauthorizedOperation": _DENIED,
    "OptInRequired": Meaning(AccessDeniedError, "enable the region for this account"),
    "AuthFailure": _UNKNOWN_KEY,
    "IncompleteSignature": _UNKNOWN_KEY,
    "IncompleteSignatureException": _UNKNOWN_KEY,
    "InvalidAccessKeyId": _UNKNOWN_KEY,
    "InvalidClientTokenId": _UNKNOWN_KEY,
    "InvalidSignatureException": _UNKNOWN_KEY,
    "MissingAuthenticationToken": _UNKNOWN_KEY,
    "MissingAuthenticationTokenException": _UNKNOWN_KEY,
    "SignatureDoesNotMatch": _UNKNOWN_KEY,
    "UnrecognizedClientException": _UNKNOWN_KEY,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestExpired": _CLOCK,
    "RequestInTheFuture": _CLOCK,
    "RequestTimeTooSkewed": _CLOCK,
    # the request itself
    "InvalidAction": _REFUSED,
    "InvalidArgumentException": _REFUSED,
    "InvalidParameterValue": _REFUSED,
    "SerializationException": _REFUSED,
    "UnknownOperationException": _REFUSED,
    "ValidationError": _REFUSED,
    "ValidationException": _REFUSED,
    # the service itself
    "InternalFailure": _TRANSIENT,
    "InternalServerError": _TRANSIENT,
    "PriorRequestNotComplete": _TRANSIENT,
    "RequestTimeout": _TRANSIENT,
    "RequestTimeoutException": _TRANSIENT,
    "ServiceUnavailable": _TRANSIENT,
    "ServiceUnavailableException": _TRANSIENT,
}

EXPIRED_CODES = frozenset(code for code, meaning in _MEANINGS.items() if meaning is _EXPIRED)
# Refusals that a wrong clock may explain; whether it does, the service's own clock says.
CLOCK_CODES = frozenset(code for code, meaning in _MEANINGS.items() if meaning is _CLOCK) | {
    "AuthFailure", "InvalidSignatureException", "SignatureDoesNotMatch",
}  # fmt: skip

_MESSAGE_CHARACTERS_MAX = 400


def meaning(code: str, status: int) -> Meaning:
    """What a code asks for; the HTTP status decides only where there is no known code."""
    return _MEANINGS.get(code) or (_THROTTLED if status == 429 else _TRANSIENT)


def classify(code: str, message: str, status: int, *, retry_after_s: float | None = None) -> SourceError:
    """The error for an answer that is not 200. Of `message` only the first line is shown.

    The lines behind it repeat the signed request after a wrong signature, session token included.
    """
    found = meaning(code, status)
    first_line = message.strip().partition("\n")[0][:_MESSAGE_CHARACTERS_MAX]
    text = f"{code or f'HTTP {status}'}: {first_line or 'no reason given'}"
    if found.next_step:
        text = f"{text} ({found.next_step})"
    error = ThrottledError(text, retry_after_s=retry_after_s) if found.throttled else found.error(text)
    return with_code(error, code or f"HTTP{status}")


def with_code(error: SourceError, code: str) -> SourceError:
    error.code = code
    return error


def translate(error: Exception) -> SourceError:
    """The error for whatever botocore, aiohttp, the socket or a decoder raised; a `SourceError` stays what it is."""
    if isinstance(error, SourceError):
        return error
    if isinstance(error, botocore_errors.ClientError):
        answer = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return classify(str(answer.get("Code", "")), str(answer.get("Message", "")), status)
    if isinstance(error, UnicodeDecodeError | msgspec.DecodeError | aiohttp.ClientPayloadError):
        return corrupt_answer("that is truncated or corrupt")
    return with_code(_on_the_way(error), type(error).__name__)


def corrupt_answer(how: str) -> SourceError:
    """The error for a 200 whose body cannot be what the service sent; `how` completes "an answer …"."""
    return with_code(SourceError(f"the service sent an answer {how}"), "CorruptAnswer")


def _on_the_way(error: Exception) -> SourceError:
    """What went wrong before there was an answer that could be understood."""
    match error:
        case (
            botocore_errors.NoCredentialsError()
            | botocore_errors.PartialCredentialsError()
            | botocore_errors.CredentialRetrievalError()
            | botocore_errors.NoAuthTokenError()
            | botocore_errors.TokenRetrievalError()
            | botocore_errors.SSOError()
        ):
            return AccessDeniedError(f"no usable AWS credentials: {error}")
        case botocore_errors.ParamValidationError() | botocore_errors.ValidationError():
            return RequestRefusedError(f"the SDK refused the request: {error}")
        case aiohttp.ClientSSLError() | botocore_errors.SSLError():
            return SourceError(
                f"TLS failed: {error} (for a private certificate authority name its certificates in ca_bundle)"
            )
        case aiohttp.ClientHttpProxyError():
            return SourceError(f"the proxy refused: HTTP {error.status} {error.message}")
        case aiohttp.ClientProxyConnectionError():
            return SourceError(f"cannot reach the proxy: {error} (see HTTPS_PROXY, HTTP_PROXY and NO_PROXY)")
        case (
            aiohttp.ClientResponseError()
            | botocore_errors.HTTPClientError(kwargs={"error": aiohttp.ClientResponseError()})
        ):
            return SourceError("the service sent an answer that is no HTTP")  # its text quotes what was sent
        case asyncio.TimeoutError():
            return SourceError("no answer in time")
        case botocore_errors.BotoCoreError() | aiohttp.ClientError() | OSError():
            return SourceError(f"cannot reach the service: {str(error) or type(error).__name__}")
        case _:
            return SourceError(f"unexpected {type(error).__name__}")
