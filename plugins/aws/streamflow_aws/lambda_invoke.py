"""Lambda: each batch as a synchronous invocation, with the event that an event source mapping sends.

What the function answers means what it means to Lambda. Neither the event nor the answer is in any message.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from pydantic import Field

from streamflow.sdk import (
    Capabilities,
    LambdaFunctionError,
    PartialFailure,
    Permission,
    RecordFailure,
    RecordsFailedError,
    SinkPlugin,
    accept_response,
)
from streamflow_aws.clients import Target, open_client
from streamflow_aws.errors import AwsCallError
from streamflow_aws.settings import AwsSinkSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from streamflow.sdk import Batch, SinkContext, Writer
    from streamflow_aws.clients import Client

EVENT_BYTES_MAX = 6_291_456
"""Invoke takes 6 MB in a synchronous request."""

# The function is there and cannot be started now: it is being updated, or its network is.
_BUSY_CODES = frozenset(
    {
        "ENILimitReachedException",
        "ResourceConflictException",
        "ResourceNotReadyException",
        "SnapStartNotReadyException",
        "SubnetIPAddressLimitReachedException",
    }
)
# A class of Python, Java or JavaScript, or the runtime's own word, and no text that an author wrote.
_ERROR_TYPE = re.compile(r"[A-Za-z_][\w.$:]{0,99}", re.ASCII)


class LambdaInvokeSettings(AwsSinkSettings):
    function: Annotated[
        str,
        Field(
            examples=["orders-handler", "arn:aws:lambda:eu-west-1:123456789012:function:orders-handler"],
            pattern=r"^[A-Za-z0-9_:-]{1,140}$",
        ),
    ]
    """Name or ARN of the function."""
    qualifier: Annotated[str | None, Field(examples=["live"], pattern=r"^[A-Za-z0-9_$-]{1,128}$")] = None
    """Alias or version to invoke; by default what the name says, and that is `$LATEST` where it says nothing."""
    invocation_type: Literal["RequestResponse"] = "RequestResponse"
    """Synchronous: a batch is delivered when the function has returned, and not when Lambda has queued it."""
    report_batch_item_failures: bool = False
    """Whether the response tells failed records: `ReportBatchItemFailures` of an event source mapping."""
    timeout_s: Annotated[float, Field(ge=1, le=1000, examples=[960.0])] = 960.0
    """Seconds to wait for an answer: the function's own timeout, at most 900, and the time to start it."""


def invocations(batch: Batch, *, bytes_max: int = EVENT_BYTES_MAX) -> Iterator[Batch]:
    """The batch, or its parts in order where one event is not enough; a single record stays what it is."""
    if len(batch) < 2 or batch.lambda_event_bytes <= bytes_max:
        yield batch
        return
    middle = len(batch) // 2
    for half in (batch.records[:middle], batch.records[middle:]):
        yield from invocations(batch.select(half), bytes_max=bytes_max)


@dataclass(frozen=True, slots=True)
class _LambdaWriter:
    """Keeps `streamflow.sdk.Writer`: one invocation after the other for each batch."""

    client: Client
    settings: LambdaInvokeSettings

    async def write(self, batch: Batch, /) -> None:
        """See `SinkPlugin`.

        Raises:
            PartialFailure: of `report_batch_item_failures`, or a later part of a batch failed that is too large for one
                event.
            LambdaFunctionError: the function failed, or its response means so.
            RecordsFailedError: a single record is larger than an invocation takes.
        """
        done = 0
        for part in invocations(batch):
            try:
                await self._invoke(part, batch)
            except (PartialFailure, RecordsFailedError):
                raise
            except Exception as error:
                if not done:
                    raise
                raise PartialFailure([part.records[0].sequence_number]) from error
            done += len(part)

    async def _invoke(self, part: Batch, batch: Batch) -> None:
        event = part.lambda_event_json()
        if len(event) > EVENT_BYTES_MAX and part.records:
            raise _too_large(part, batch, f"its event has {len(event)} bytes, an invocation takes {EVENT_BYTES_MAX}")
        try:
            answer = await self.client.call("invoke", **_request(self.settings), Payload=event)
        except AwsCallError as error:
            if error.kind == "too_large" and len(part) == 1:
                raise _too_large(part, batch, str(error)) from error
            raise
        body = await _body(answer)
        if function_error := answer.get("FunctionError"):
            raise LambdaFunctionError(
                f"lambda function {self.settings.function} failed: {function_error}{_error_type(body)}",
                function_error=str(function_error),
            )
        try:
            accept_response(body, part, reporting=self.settings.report_batch_item_failures)
        except LambdaFunctionError as error:
            raise LambdaFunctionError(
                f"lambda function {self.settings.function}: {error}", function_error=error.function_error
            ) from None


def _too_large(part: Batch, batch: Batch, reason: str) -> RecordsFailedError:
    """The record of `part` is refused, and what is behind it in the batch waits."""
    refused = part.records[0]
    place = next(place for place, record in enumerate(batch) if record is refused)
    behind = [
        RecordFailure(record, "waiting", "behind a record that was refused") for record in batch.records[place + 1 :]
    ]
    return RecordsFailedError([RecordFailure(refused, "refused", reason), *behind])


async def _body(answer: Mapping[str, Any]) -> bytes:
    """The response of the function, whole.

    Raises:
        AwsCallError: it broke off.
    """
    try:
        body: bytes = await answer["Payload"].read()
    except Exception as error:  # noqa: BLE001 - botocore, aiohttp and the socket raise what they like
        raise AwsCallError(
            f"invoke: the answer broke off ({type(error).__name__})", kind="failed", code=type(error).__name__
        ) from None
    return body


def _error_type(body: bytes) -> str:
    """The class of the error, where the answer names one: never its message."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    found = answer.get("errorType") if isinstance(answer, dict) else None
    return f" {found}" if isinstance(found, str) and _ERROR_TYPE.fullmatch(found) else ""


def _request(settings: LambdaInvokeSettings) -> dict[str, Any]:
    request: dict[str, Any] = {"FunctionName": settings.function, "InvocationType": settings.invocation_type}
    return request if settings.qualifier is None else request | {"Qualifier": settings.qualifier}


@asynccontextmanager
async def _open(settings: LambdaInvokeSettings, context: SinkContext) -> AsyncIterator[Writer]:
    async with open_client(
        context, "lambda", aws=settings.aws, busy_codes=_BUSY_CODES, read_timeout_s=settings.timeout_s
    ) as client:
        # A dry run looks whether the function is there and may be invoked, and does not invoke it.
        await client.look("invoke", _target(settings), **_request(settings) | {"InvocationType": "DryRun"})
        yield _LambdaWriter(client, settings)


def _target(settings: LambdaInvokeSettings) -> Target:
    qualifier = f" with the qualifier {settings.qualifier}" if settings.qualifier else ""
    return Target(
        name=f"lambda_invoke: the function {settings.function}{qualifier}",
        permission="lambda:InvokeFunction",
        creation=f"aws lambda create-function --function-name {settings.function}",
    )


def _permissions(settings: LambdaInvokeSettings) -> list[Permission]:
    """The function may be named by its name, by a part of its ARN, or by all of it."""
    match settings.function.split(":"):
        case ["arn", *_]:
            target = settings.function
        case [account, "function", *rest]:
            target = f"arn:{{partition}}:lambda:{{region}}:{account}:function:{':'.join(rest)}"
        case _:
            target = f"arn:{{partition}}:lambda:{{region}}:{{account}}:function:{settings.function}"
    if settings.qualifier is not None:
        target = f"{target}:{settings.qualifier}"
    name = target.partition(":function:")[2]
    return [Permission(purpose=f"invoke {name}", actions=("lambda:InvokeFunction",), resources=(target,))]


_CAPABILITIES = Capabilities(
    order="shard",
    idempotence="none",
    windows=True,
    batch_size=100,
    bytes_max=EVENT_BYTES_MAX,
    record_bytes_max=EVENT_BYTES_MAX,
)


lambda_invoke = SinkPlugin(
    name="lambda_invoke",
    api_version="1.0",
    summary="Invokes a Lambda function with each batch, as an event source mapping does.",
    settings=LambdaInvokeSettings,
    examples={
        "plain": {"function": "orders-handler"},
        "partial failures": {
            "function": "arn:aws:lambda:eu-west-1:123456789012:function:orders-handler",
            "qualifier": "live",
            "report_batch_item_failures": True,
        },
    },
    open=_open,
    capabilities=_CAPABILITIES,
    permissions=_permissions,
)
