"""Any call of any service of AWS, once for each record."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
from pydantic import Field, field_validator

from streamflow.sdk import Capabilities, ConfigError, PayloadForm, Rejection, SinkPlugin, write_in_requests
from streamflow_aws.call_permissions import permission
from streamflow_aws.clients import open_client
from streamflow_aws.errors import AwsCallError
from streamflow_aws.parameters import check_templates, compiled, filled, unknown
from streamflow_aws.record_values import text, value
from streamflow_aws.settings import AwsSinkSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from streamflow.sdk import Batch, Record, SinkContext, Writer
    from streamflow_aws.clients import Client
    from streamflow_aws.parameters import Compiled

# Members by which answers of different services say that they did not do it, although the call succeeded.
_NOT_DONE: Mapping[str, Rejection] = {
    # CloudWatch Logs: the event is too old or too new, or has expired.
    "rejectedLogEventsInfo": Rejection("refused", "the answer has rejectedLogEventsInfo"),
    **{
        name: Rejection("failed", f"the answer has {name}")
        for name in (
            "Errors", "Failed", "FailedEntries", "FailedEntryCount", "FailedPutCount", "FailedRecordCount",
            "UnprocessedItems", "UnprocessedKeys",
        )
    },
}  # fmt: skip


class AwsCallSettings(AwsSinkSettings):
    service: Annotated[str, Field(examples=["stepfunctions", "logs"], pattern=r"^[a-z0-9-]{2,60}$")]
    """The service, named as the AWS command line and boto3 name it."""
    operation: Annotated[str, Field(examples=["StartExecution", "PutLogEvents"], pattern=r"^[A-Z][A-Za-z0-9]{1,80}$")]
    """The operation, named as the API reference names it."""
    parameters: Annotated[dict[str, Any], Field(examples=[{"name": "${event_id}", "input": "${payload}"}])]
    """The request, as the API reference has it, with `${name}` in texts; write `$${name}` in a pipeline file. A text that is
    one `${name}` stands for the value itself where the operation takes no text."""
    payload: PayloadForm = "lambda"
    """What `${payload}` is: a record of a Lambda event, the new image, or the change with both images."""
    refused_codes: Annotated[frozenset[str], Field(examples=[["InvalidExecutionInput"]])] = frozenset()
    """Error codes that no repetition mends, beside those that say that a request is not valid or too large."""
    throttled_codes: Annotated[frozenset[str], Field(examples=[["ExecutionLimitExceeded"]])] = frozenset()
    """Error codes that ask for a pause, beside the ones that all services have for throttling."""
    done_codes: Annotated[frozenset[str], Field(examples=[["ExecutionAlreadyExists"]])] = frozenset()
    """Error codes that say that the same call was made before: the record counts as written."""
    concurrency: Annotated[int, Field(ge=1, le=100)] = 8
    """Calls for one batch at the same time."""

    @field_validator("parameters")
    @classmethod
    def _templates_can_be_read(cls, found: dict[str, Any]) -> dict[str, Any]:
        check_templates(found)
        return found


def encode(
    record: Record, parameters: Mapping[str, Compiled], *, pipeline: str, form: PayloadForm
) -> tuple[dict[str, Any], int]:
    """The request for a record. Its size is not known here: the service says what is too large."""
    arguments: dict[str, Any] = filled(
        dict(parameters),
        partial(text, record, pipeline=pipeline, form=form),
        partial(value, record, pipeline=pipeline, form=form),
    )
    return arguments, len(record.raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class _CallWriter:
    """Keeps `streamflow.sdk.Writer`."""

    client: Client
    method: str
    settings: AwsCallSettings
    encode: Callable[[Record], tuple[dict[str, Any], int]]
    note_suppressed: Callable[[int], None]

    async def write(self, batch: Batch, /) -> None:
        await write_in_requests(
            batch,
            encode=self.encode,
            send=self._send,
            capabilities=_CAPABILITIES,
            concurrency=self.settings.concurrency,
        )

    async def _send(self, requests: Sequence[dict[str, Any]]) -> list[Rejection | None]:
        (arguments,) = requests
        try:
            answer = await self.client.call(self.method, **arguments)
        except AwsCallError as error:
            if error.code in self.settings.done_codes:
                self.note_suppressed(1)
                return [None]
            if error.code in self.settings.refused_codes or error.kind in {"invalid", "too_large"}:
                return [Rejection("refused", str(error))]
            raise
        return [next((rejection for name, rejection in _NOT_DONE.items() if answer.get(name)), None)]


@asynccontextmanager
async def _open(settings: AwsCallSettings, context: SinkContext) -> AsyncIterator[Writer]:
    method, parameters = await anyio.to_thread.run_sync(_compiled, settings)
    async with open_client(context, settings.service, aws=settings.aws, busy_codes=settings.throttled_codes) as client:
        yield _CallWriter(
            client=client,
            method=method,
            settings=settings,
            encode=partial(encode, parameters=parameters, pipeline=context.pipeline, form=settings.payload),
            note_suppressed=context.note_suppressed,
        )


def _compiled(settings: AwsCallSettings) -> tuple[str, dict[str, Compiled]]:
    """The client's name for the operation, and its parameters. Reads the service's model from the disk.

    Raises:
        ConfigError: there is no such service or operation, or it takes other parameters.
    """
    from botocore import xform_name
    from botocore.session import Session

    session = Session()
    services = session.get_available_services()
    if settings.service not in services:
        raise ConfigError(f"sink aws_call: {unknown('service', settings.service, services)}")
    model: Any = session.get_service_model(settings.service)
    if settings.operation not in model.operation_names:
        raise ConfigError(
            f"sink aws_call: {settings.service}: {unknown('operation', settings.operation, model.operation_names)}"
        )
    try:
        parameters = compiled(settings.parameters, model.operation_model(settings.operation).input_shape)
    except ValueError as error:
        where = f"sink aws_call: {settings.service} {settings.operation}"
        raise ConfigError([f"{where}: {problem}" for problem in str(error).splitlines()]) from None
    return xform_name(settings.operation), parameters


_CAPABILITIES = Capabilities(order="key", idempotence="none", partial_failures=True, request_records_max=1)


aws_call = SinkPlugin(
    name="aws_call",
    api_version="1.0",
    summary="Makes any call of any AWS service for each record, with parameters filled from the record.",
    settings=AwsCallSettings,
    examples={
        "Step Functions": {
            "service": "stepfunctions",
            "operation": "StartExecution",
            "parameters": {
                "stateMachineArn": "arn:aws:states:eu-west-1:123456789012:stateMachine:orders",
                "name": "${event_id}",
                "input": "${payload}",
            },
            "refused_codes": ["InvalidExecutionInput", "InvalidName"],
            "throttled_codes": ["ExecutionLimitExceeded"],
            "done_codes": ["ExecutionAlreadyExists"],
        },
        "CloudWatch Logs": {
            "service": "logs",
            "operation": "PutLogEvents",
            "parameters": {
                "logGroupName": "orders",
                "logStreamName": "changes",
                "logEvents": [{"timestamp": "${created_at_ms}", "message": "${payload}"}],
            },
        },
    },
    open=_open,
    capabilities=_CAPABILITIES,
    permissions=lambda settings: [permission(settings.service, settings.operation, settings.parameters)],
)
