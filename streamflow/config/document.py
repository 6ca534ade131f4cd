"""The tables of a pipeline file. Keys, ranges and descriptions are those of `streamflow.pipeline`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, create_model, field_validator

from streamflow.config.code import HandlerTarget, LambdaTarget  # noqa: TC001 - pydantic reads annotations at run time
from streamflow.config.layers import BUILT_IN, Layer
from streamflow.config.table import Table
from streamflow.errors import ConfigError
from streamflow.pipeline import (
    DEAD_LETTERS,
    App,
    AwsOptions,
    DynamoDBStream,
    HttpOptions,
    LambdaFunction,
    Pipeline,
    PipelineOptions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamflow.config.lines import KeyPath


class AwsTable(Table, AwsOptions):
    """How to reach AWS; what is left out comes from the environment and the shared files, as in every AWS SDK."""


class HttpTable(Table, HttpOptions):
    """The admin server: /metrics, /livez, /readyz. Without this table there is none."""


class LambdaTable(Table, LambdaFunction):
    """An AWS Lambda function, unchanged; `lambda = "module:function"` is short for a table with only a target."""

    target: Annotated[LambdaTarget, Field(examples=["orders_function:handler"])]
    """`module:function`; a path to a `.py` file may stand for the module."""


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _long_form(value: object) -> object:
    return {"target": value} if isinstance(value, str) else value


class PipelineTable(Table, PipelineOptions):
    """One stream, through middleware, to one handler. The table's name names the checkpoints: another name starts anew."""

    model_config = ConfigDict(validate_default=True)

    table: Annotated[
        str | None, Field(examples=["orders"], pattern=DynamoDBStream.model_fields["table"].metadata[0].pattern)
    ] = None
    """Table name; its latest stream is read. Either this or `stream_arn`."""
    stream_arn: Annotated[str | None, Field(examples=DynamoDBStream.model_fields["stream_arn"].examples)] = None
    """Stream ARN, where it must be exactly this one."""
    aws: AwsTable | None = None
    """How to reach AWS for this stream; by default as the file's own `[aws]` says."""
    handler: Annotated[HandlerTarget, Field(examples=["orders_handlers:deliver"])] = None
    """`module:name` of an async function of a batch, a plain function (run in a thread) or a `Sink`. Or give `lambda`."""
    lambda_: Annotated[
        LambdaTable | None,
        Field(alias="lambda", examples=["orders_function:handler"]),
        BeforeValidator(_long_form, json_schema_input_type=LambdaTable | str | None),
    ] = None
    """`module:function` of an AWS Lambda function, or a table about it."""
    on_failure: Annotated[
        tuple[Any, ...],
        Field(examples=PipelineOptions.model_fields["on_failure"].examples),
        BeforeValidator(_listed, json_schema_input_type=list[str] | str),
    ] = (DEAD_LETTERS,)
    """Where records go that are given up, one or several of: `dead_letters` (whole, in the state store), the ARN of a
    standard SQS queue or SNS topic or of an S3 bucket. `drop` alone loses them, as Lambda does."""
    middleware: tuple[Layer, ...] = ()
    """Layers around the handler, outermost first."""

    @field_validator("stream_arn")
    @classmethod
    def _one_stream(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "table" in info.data:
            try:
                DynamoDBStream(table=info.data["table"], stream_arn=value)
            except ConfigError as error:
                raise ValueError(error.problems[0].removeprefix("DynamoDBStream: declaration: ")) from None
        return value

    @field_validator("lambda_")
    @classmethod
    def _one_handler(cls, value: LambdaTable | None, info: ValidationInfo) -> LambdaTable | None:
        if "handler" in info.data and (value is None) == (info.data["handler"] is None):
            raise ValueError("give either handler or lambda")
        return value

    def build(self, name: str) -> Pipeline:
        return Pipeline(
            name=name,
            source=DynamoDBStream(
                table=self.table,
                stream_arn=self.stream_arn,
                aws=None if self.aws is None else AwsOptions(**_given(self.aws)),
            ),
            handler=self.handler if self.lambda_ is None else LambdaFunction(**_given(self.lambda_)),
            middleware=tuple(layer.build() for layer in self.middleware),
            **{key: value for key, value in _given(self).items() if key in PipelineOptions.model_fields},
        )


PipelineName = Annotated[str, Field(pattern=Pipeline.model_fields["name"].metadata[0].pattern)]


class _Tables(Table):
    aws: AwsTable = AwsTable()
    """How to reach AWS."""
    http: HttpTable | None = None
    """The admin server; without this table there is none."""
    pipelines: Annotated[dict[PipelineName, PipelineTable], Field(min_length=1)]
    """What to run, by name."""

    def build(self) -> App:
        options = {key: value for key, value in _given(self).items() if key not in _Tables.model_fields}
        return App(
            pipelines=tuple(table.build(name) for name, table in self.pipelines.items()),
            aws=AwsOptions(**_given(self.aws)),
            http=None if self.http is None else HttpOptions(**_given(self.http)),
            **options,
        )


_APP_KEYS: dict[str, Any] = {
    key: (field.annotation, field) for key, field in App.model_fields.items() if key not in _Tables.model_fields
}
Document = create_model("Document", __base__=_Tables, __doc__="A pipeline file: what one worker runs.", **_APP_KEYS)


def _given(table: Table) -> dict[str, Any]:
    return {key: getattr(table, key) for key in table.model_fields_set}


def known_keys(table: KeyPath) -> Iterable[str]:
    """The keys that the table at `table` may have; empty where they are free or the table is none of ours."""
    match table:
        case ():
            return _keys(Document)
        case ("aws",) | ("pipelines", _, "aws"):
            return _keys(AwsTable)
        case ("http",):
            return _keys(HttpTable)
        case ("pipelines", _):
            return _keys(PipelineTable)
        case ("pipelines", _, "lambda"):
            return _keys(LambdaTable)
        case ("pipelines", _, "middleware", int(), str(kind)) if kind in BUILT_IN:
            return _keys(BUILT_IN[kind])
    return ()


def _keys(model: type[Table]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
