"""What AWS and the way to it say went wrong, as the contract of sinks has it. Texts hold no item data and no secrets.

Services quote what they were sent when they refuse it, and so does botocore: their words are shown only where the error is
about the caller or the target.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from botocore import exceptions as botocore_errors

from streamflow.sdk import ConfigError, SinkBusyError, StreamflowError

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind: TypeAlias = Literal["expired", "denied", "missing", "too_large", "invalid", "failed"]
"""`invalid` is a request that cannot succeed as it is; `failed` is everything that a repetition may mend."""

PAUSE_S = 1.0
"""After a throttle that names no pause itself."""
_PAUSE_MAX_S = 60.0

THROTTLED_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "KMS.ThrottlingException",
        "KMSThrottling",
        "KMSThrottlingException",
        "KmsThrottled",
        "LimitExceededException",
        "OverLimit",
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "ReplicatedWriteThrottled",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttled",
        "ThrottledException",
        "Throttling",
        "ThrottlingError",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_DENIED_CODES = frozenset(
    {
        "403",  # an answer to HEAD has a status, and no code
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "AuthorizationError",
        "AuthorizationErrorException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
_MISSING_CODES = frozenset(
    {
        "404",
        "AWS.SimpleQueueService.NonExistentQueue",
        "NoSuchBucket",
        "NotFound",
        "NotFoundException",
        "QueueDoesNotExist",
        "ResourceNotFound",
        "ResourceNotFoundException",
        "TableNotFoundException",
    }
)
_TOO_LARGE_CODES = frozenset(
    {
        "AWS.SimpleQueueService.BatchRequestTooLong",
        "BatchRequestTooLong",
        "EntityTooLarge",
        "MaxMessageLengthExceeded",
        "RequestEntityTooLarge",
        "RequestEntityTooLargeException",
        "RequestTooLargeException",
    }
)
_INVALID_CODES = frozenset(
    {
        "InvalidArgument",
        "InvalidArgumentException",
        "InvalidParameter",
        "InvalidParameterException",
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "InvalidRequestContentException",
        "SerializationException",
        "ValidationError",
        "ValidationException",
    }
)
# EventBridge and Kinesis have no code of their own for it.
_TOO_LARGE = re.compile(
    r"over the limit|too (large|long)|exceed\w* (the )?(max|limit|size)|must be (less|smaller)", re.IGNORECASE
)

_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(_EXPIRED_CODES, "expired"),
    **dict.fromkeys(_DENIED_CODES, "denied"),
    **dict.fromkeys(_MISSING_CODES, "missing"),
    **dict.fromkeys(_TOO_LARGE_CODES, "too_large"),
    **dict.fromkeys(_INVALID_CODES, "invalid"),
}
_SHOWN: frozenset[Kind] = frozenset({"expired", "denied", "missing"})
_MESSAGE_CHARACTERS_MAX = 400


class AwsCallError(StreamflowError):
    """A call failed, and no pause was asked for.

    `code` is the service's own, or the class of what went wrong on the way there. `response` is what botocore made of the
    answer; it may hold item data, and is for code, never for a message.
    """

    def __init__(self, text: str, *, kind: Kind, code: str, response: Mapping[str, Any] | None = None) -> None:
        self.kind = kind
        self.code = code
        self.response = response or {}
        super().__init__(text)


def translated(error: Exception, operation: str, *, busy_codes: frozenset[str] = frozenset()) -> StreamflowError:
    """`SinkBusyError` or `AwsCallError` for what a client raised. `busy_codes` are throttles of this service alone."""
    if isinstance(error, StreamflowError):
        return error
    if isinstance(error, botocore_errors.ClientError):
        return _answered(error.response, operation, busy_codes)
    return AwsCallError(
        f"{operation}: {_on_the_way(error)}",
        kind=_kind_on_the_way(error),
        code=type(error).__name__,
    )


def kind_of(code: str, message: str = "", status: int = 0) -> Kind:
    """What a code asks for that is no throttle; an unknown one is transient with an unknown outcome."""
    if status == 413:
        return "too_large"
    if code.upper().startswith("KMS"):
        return "denied"  # the key is missing, disabled, or not for us
    kind = _KINDS.get(code, "failed")
    return "too_large" if kind == "invalid" and _TOO_LARGE.search(message) else kind


def config_error(error: AwsCallError, *, target: str, permission: str, creation: str) -> ConfigError:
    """What the user has to mend before the sink can be opened: `permission` is needed, and `creation` makes the target."""
    match error.kind:
        case "missing":
            step = f"make it: {creation}; or name its region in aws.region"
        case "denied":
            step = f"opening takes {permission} on it, and right credentials for the right account"
        case "expired":
            step = "renew the credentials"
        case _:
            step = "check region, endpoint_url and the network"
    return ConfigError(f"{target} cannot be used: {error}; {step}")


def _answered(response: Mapping[str, Any], operation: str, busy_codes: frozenset[str]) -> StreamflowError:
    answer, metadata = response.get("Error", {}), response.get("ResponseMetadata", {})
    code, status = str(answer.get("Code") or ""), int(metadata.get("HTTPStatusCode") or 0)
    name = code or f"HTTP {status}"
    message = str(answer.get("Message") or "")
    if code in THROTTLED_CODES | busy_codes or status == 429:
        return SinkBusyError(f"{operation}: {name}", retry_after_s=_pause_s(metadata.get("HTTPHeaders", {})))
    kind = kind_of(code, message, status)
    text = f"{operation}: {name}"
    if kind in _SHOWN and (first_line := message.strip().partition("\n")[0][:_MESSAGE_CHARACTERS_MAX]):
        # The lines behind the first repeat the signed request after a wrong signature, session token included.
        text += f": {first_line}"
    return AwsCallError(text, kind=kind, code=name, response=response)


def _pause_s(headers: Mapping[str, str]) -> float:
    """Of the header Retry-After, where it is a number of seconds."""
    asked = headers.get("retry-after", "")
    return min(float(asked), _PAUSE_MAX_S) if asked.isascii() and asked.isdigit() else PAUSE_S


def _kind_on_the_way(error: Exception) -> Kind:
    match error:
        case (
            botocore_errors.NoCredentialsError()
            | botocore_errors.PartialCredentialsError()
            | botocore_errors.CredentialRetrievalError()
            | botocore_errors.NoAuthTokenError()
            | botocore_errors.TokenRetrievalError()
            | botocore_errors.SSOError()
        ):
            return "denied"
        case botocore_errors.ParamValidationError() | botocore_errors.ValidationError():
            return "invalid"
        case _:
            return "failed"


def _on_the_way(error: Exception) -> str:
    """What went wrong before there was an answer that could be understood."""
    match error:
        case botocore_errors.ParamValidationError() | botocore_errors.ValidationError():
            return "the SDK refused the request"  # its text quotes the values
        case botocore_errors.BotoCoreError() | OSError():
            return f"cannot reach the service: {str(error) or type(error).__name__}"
        case _:
            return f"unexpected {type(error).__name__}"
