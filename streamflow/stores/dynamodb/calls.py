"""Calls to DynamoDB: each with a limit of time, none ever repeated, and every error told with the next step.

A write whose answer did not come, or came as a failure of the service, may have happened; one that was refused, throttled
or never sent did not.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
from botocore import exceptions as botocore_errors

from streamflow.aws.errors import EXPIRED_CODES, translate
from streamflow.errors import AccessDeniedError, NotFoundError, StoreError, ThrottledError, UnknownOutcomeError
from streamflow.stores.dynamodb.permissions import ALL_ACTIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from streamflow.aws.session import Aws
    from streamflow.stores.dynamodb.notes import Item

CALL_TIMEOUT_S = 5.0
# As many as the client has connections: a call's time must not run while it waits for one.
_SIDE_BY_SIDE_MAX = 100
_BATCH_GET_MAX, _BATCH_WRITE_MAX = 100, 25
_ROUNDS_MAX = 8
_PAUSE_S = 0.05

_NEVER_SENT = (
    botocore_errors.ConnectTimeoutError,
    botocore_errors.CredentialRetrievalError,
    botocore_errors.NoAuthTokenError,
    botocore_errors.NoCredentialsError,
    botocore_errors.ParamValidationError,
    botocore_errors.PartialCredentialsError,
    botocore_errors.ProxyConnectionError,
    botocore_errors.SSLError,
    botocore_errors.SSOError,
    botocore_errors.TokenRetrievalError,
    botocore_errors.ValidationError,
)


class ConditionError(StoreError):
    """A condition does not hold: nothing was written."""


class TransactionCancelledError(StoreError):
    """Nothing was written. `reasons` has a code for each action, "None" for those that were not the reason."""

    def __init__(self, message: str, reasons: Sequence[str]) -> None:
        super().__init__(message)
        self.reasons = tuple(reasons)


class TableMissingError(StoreError):
    """There is no such table."""


class DynamoDBCalls:
    """A client of the service for the tables of one store. `optional` are tables whose absence is but emptiness."""

    def __init__(self, aws: Aws, client: Any, *, read_only: bool, optional: frozenset[str] = frozenset()) -> None:
        self._aws = aws
        self._client = client
        self._read_only = read_only
        self._optional = optional
        self._limiter = anyio.CapacityLimiter(_SIDE_BY_SIDE_MAX)

    @property
    def region(self) -> str:
        return self._aws.region

    async def read(self, operation: str, table: str, **parameters: Any) -> dict[str, Any]:
        """One call that changes nothing. Raises `StoreError`; `TableMissingError` where the table is not optional."""
        try:
            return await self._call(operation, table, writes=False, **parameters)
        except TableMissingError:
            if table in self._optional:
                return {}
            raise

    async def write(self, operation: str, table: str, **parameters: Any) -> dict[str, Any]:
        """One call that changes something.

        Raises:
            ConditionError, TransactionCancelledError, StoreError: it did not happen.
            UnknownOutcomeError: it may have happened.
        """
        if self._read_only:
            raise StoreError(f"{table}: this store only looks (mode=shadow in its URL): nothing was written")
        return await self._call(operation, table, writes=True, **parameters)

    # -- many items -----------------------------------------------------------------------------------------------------

    async def pages(self, operation: str, table: str, **parameters: Any) -> AsyncIterator[dict[str, Any]]:
        """Every page of a consistent Query or Scan."""
        start: dict[str, Any] = {}
        while True:
            page = await self.read(operation, table, TableName=table, ConsistentRead=True, **parameters, **start)
            yield page
            if not (last := page.get("LastEvaluatedKey")):
                return
            start = {"ExclusiveStartKey": last}

    async def items(self, table: str, keys: Iterable[Item], **parameters: Any) -> list[Item]:
        """Those of these items that are there, in no order."""
        wanted, found = list(keys), []
        for start in range(0, len(wanted), _BATCH_GET_MAX):
            left: Any = {table: {"Keys": wanted[start : start + _BATCH_GET_MAX], "ConsistentRead": True, **parameters}}
            for pause in _pauses():
                answer = await self.read("batch_get_item", table, RequestItems=left)
                found += answer.get("Responses", {}).get(table, [])
                if not (left := answer.get("UnprocessedKeys")):
                    break
                await anyio.sleep(pause)
            else:
                raise StoreError(f"{table}: the service left keys unread {_ROUNDS_MAX} times: it is too busy")
        return found

    async def write_items(self, table: str, requests: Iterable[Mapping[str, Any]]) -> None:
        """Put or delete items without a condition, in requests as BatchWriteItem has them; may be repeated."""
        wanted = list(requests)
        for start in range(0, len(wanted), _BATCH_WRITE_MAX):
            left: Any = {table: wanted[start : start + _BATCH_WRITE_MAX]}
            for pause in _pauses():
                if not (
                    left := (await self.write("batch_write_item", table, RequestItems=left)).get("UnprocessedItems")
                ):
                    break
                await anyio.sleep(pause)
            else:
                raise StoreError(f"{table}: the service left items unwritten {_ROUNDS_MAX} times: it is too busy")

    # -- one call -------------------------------------------------------------------------------------------------------

    async def _call(self, operation: str, table: str, *, writes: bool, **parameters: Any) -> dict[str, Any]:
        async with self._limiter:
            with anyio.move_on_after(CALL_TIMEOUT_S):
                try:
                    return await self._send(operation, parameters)
                except Exception as error:
                    raise self._told(error, operation, table, writes=writes) from error
        text = f"{_place(operation, table, self.region)}: no answer within {CALL_TIMEOUT_S:g} s"
        raise UnknownOutcomeError(f"{text}; it may have been written") if writes else StoreError(text)

    async def _send(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = await getattr(self._client, operation)(**parameters)
        except botocore_errors.ClientError as error:
            if _code(error) not in EXPIRED_CODES:
                raise
            # A client keeps the keys it was made with; the session may have others by now. Nothing has happened yet.
            await self._aws.renew()
            async with self._aws.client("dynamodb", attempts_max=1, read_timeout_s=CALL_TIMEOUT_S) as renewed:
                answer = await getattr(renewed, operation)(**parameters)
        return answer

    def _told(self, error: Exception, operation: str, table: str, *, writes: bool) -> StoreError:
        place = _place(operation, table, self.region)
        if isinstance(error, botocore_errors.ClientError):
            match _code(error):
                case "ConditionalCheckFailedException":
                    return ConditionError(f"{place}: the item is not what it was")
                case "TransactionCanceledException":
                    reasons = [
                        str(reason.get("Code", "None")) for reason in error.response.get("CancellationReasons", [])
                    ]
                    told = (
                        ", ".join(sorted({reason for reason in reasons if reason != "None"})) or "for no reason it gave"
                    )
                    return TransactionCancelledError(f"{place}: the transaction was cancelled: {told}", reasons)
        found = translate(error)
        text = f"{place}: {found}"
        match found:
            case NotFoundError():
                return TableMissingError(f"{text}; make the table, or allow dynamodb:CreateTable")
            case AccessDeniedError() if "AccessDenied" in str(found.code):
                return StoreError(
                    f"{text}; {_permission(operation)} is needed on the table {table}. A store needs {', '.join(ALL_ACTIONS)}: "
                    "`streamflow iam-policy` prints which of them on which table"
                )
            case ThrottledError():
                return StoreError(f"{text}; the table is too busy: raise its capacity, or use PAY_PER_REQUEST")
        if writes and may_have_happened(error):
            return UnknownOutcomeError(f"{text}; it may have been written")
        return StoreError(text)


def may_have_happened(error: Exception) -> bool:
    """Whether a write that failed so may have been carried out."""
    match error:
        case botocore_errors.ClientError():
            return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= 500
        case botocore_errors.EndpointConnectionError():
            # The SDK says so too where a connection ended that was there.
            return not isinstance(error.kwargs.get("error"), aiohttp.ClientConnectorError | socket.gaierror)
    return not isinstance(error, _NEVER_SENT)


def _code(error: botocore_errors.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _place(operation: str, table: str, region: str) -> str:
    return f"DynamoDB table {table} in {region}: {_action(operation)}"


def _action(operation: str) -> str:
    return "".join(part.capitalize() for part in operation.split("_"))


def _permission(operation: str) -> str:
    if operation == "transact_write_items":
        return "dynamodb:PutItem, UpdateItem, DeleteItem and ConditionCheckItem"
    return f"dynamodb:{_action(operation)}"


def _pauses() -> list[float]:
    return [_PAUSE_S * 2**number for number in range(_ROUNDS_MAX)]
