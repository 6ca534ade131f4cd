"""How the service says no: error code, HTTP status, text, and the name that AWS puts before the code."""

from __future__ import annotations

from streamflow.errors import StreamflowError

# Every other code comes from DynamoDB itself, as AWS sends them in `__type`.
_NAMESPACES = {
    "ValidationException": "com.amazon.coral.validate",
    "SerializationException": "com.amazon.coral.service",
    "UnknownOperationException": "com.amazon.coral.service",
    "MissingAuthenticationTokenException": "com.amazon.coral.service",
    "UnrecognizedClientException": "com.amazon.coral.service",
    "AccessDeniedException": "com.amazon.coral.service",
    "ThrottlingException": "com.amazon.coral.availability",
}
_SERVER_FAULTS = {"InternalServerError": 500, "InternalFailure": 500, "ServiceUnavailable": 503}


class RefusedError(StreamflowError):
    """A request that gets an error answer; `code` is AWS's, for instance `ResourceNotFoundException`."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return _SERVER_FAULTS.get(self.code, 400)

    @property
    def wire_type(self) -> str:
        """The value of `__type` in the answer's body."""
        return f"{_NAMESPACES.get(self.code, 'com.amazonaws.dynamodb.v20120810')}#{self.code}"


def invalid(message: str) -> RefusedError:
    return RefusedError("ValidationException", message)


def not_found(message: str) -> RefusedError:
    return RefusedError("ResourceNotFoundException", message)
