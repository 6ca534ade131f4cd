"""The tables of a pipeline file. Keys, ranges and descriptions are those of `streamflow.pipeline`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    create_model,
    field_validator,
)

from streamflow.config.code import HandlerTarget, LambdaTarget  # noqa: TC001 - pydantic reads annotations at run time
from streamflow.config.layers import BUILT_IN, Layer
from streamflow.config.sinks import SinkTable, destination_of, settings_keys
from streamflow.config.table import Table
from streamflow.delivery_options import DEAD_LETTERS, DeliveryOptions
from streamflow.errors import ConfigError
from streamflow.http_options import HttpOptions
from streamflow.pipeline import (
    App,
    AwsOptions,
    Branch,
    BranchName,
    DynamoDBStream,
    FanOut,
    LambdaFunction,
    Pipeline,
    PipelineOptions,
)
from streamflow.plugins import names
from streamflow.targets import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamflow.config.lines import KeyPath


class AwsTable(Table, AwsOptions):
    """How to reach AWS; what is left out comes from the environment and the shared files, as in every AWS SDK."""


class HttpTable(Table, HttpOptions):
    """The admin server: /metrics, /status, /livez, /readyz. Without this table there is none."""


class LambdaTable(Table, LambdaFunction):
    """An AWS Lambda function, unchanged; `lambda = "module:function"` is short for a table with only a target."""

    target: Annotated[LambdaTarget, Field(examples=["orders_function:handler"])]
    """`module:function`; a path to a `.py` file may stand for the module."""


def _listed(value: object) -> object:
    return [value] if isinstance(value, str | dict) else value


def _long_form(value: object) -> object:
    return {"target": value} if isinstance(value, str) else value


T = TypeVar("T")
_WRONG = object()


class DeliveryTable(Table):
    """What a pipeline and a branch have in common: who gets the records, and the layers around it."""

    model_config = ConfigDict(validate_default=True)

    handler: Annotated[HandlerTarget, Field(examples=["orders_handlers:deliver"])] = None
    """`module:name` of an async function of a batch, a plain function (run in a thread) or a `Sink`."""
    lambda_: Annotated[
        LambdaTable | None,
        Field(alias="lambda", examples=["orders_function:handler"]),
        BeforeValidator(_long_form, json_schema_input_type=LambdaTable | str | None),
    ] = None
    """`module:function` of an AWS Lambda function, or a table about it."""
    sink: SinkTable | None = None
    """A sink of a plugin: its name as `type`, and its settings beside it (`streamflow describe NAME`)."""
    on_failure: Annotated[
        tuple[Annotated[Any, BeforeValidator(destination_of)], ...],
        Field(examples=PipelineOptions.model_fields["on_failure"].examples),
        BeforeValidator(_listed, json_schema_input_type=list[str | dict[str, Any]] | str | dict[str, Any]),
    ] = (DEAD_LETTERS,)
    """Where records go that are given up, one or several of: `dead_letters` (whole, in the state store), the ARN of a
    standard SQS queue or SNS topic or of an S3 bucket, a table with the `type` of a destination that a plugin brings.
    `drop` alone loses them, as Lambda does."""
    middleware: tuple[Layer, ...] = ()
    """Layers around the handler, outermost first."""

    def _handler(self) -> Any:
        if self.lambda_ is not None:
            return LambdaFunction(**_given(self.lambda_))
        return self.handler if self.sink is None else self.sink


class BranchTable(DeliveryTable, DeliveryOptions):
    """One of several handlers, fed from the pipeline's one read; what is not set here is as the pipeline says."""

    @field_validator("sink")
    @classmethod
    def _one_handler(cls, value: object, info: ValidationInfo) -> object:
        return _only_one(value, info, "handler", "lambda", "sink")

    def build(self) -> Branch:
        return Branch(handler=self._handler(), **_options(self, DeliveryOptions))


class PipelineTable(DeliveryTable, PipelineOptions):
    """One stream, through middleware, to one handler. The table's name names the checkpoints: another name starts anew."""

    table: Annotated[
        str | None, Field(examples=["orders"], pattern=DynamoDBStream.model_fields["table"].metadata[0].pattern)
    ] = None
    """Table name; its latest stream is read. Either this or `stream_arn`."""
    stream_arn: Annotated[str | None, Field(examples=DynamoDBStream.model_fields["stream_arn"].examples)] = None
    """Stream ARN, where it must be exactly this one."""
    aws: AwsTable | None = None
    """How to reach AWS for this stream; by default as the file's own `[aws]` says."""
    fan_out: Annotated[dict[BranchName, BranchTable], Field(min_length=2, max_length=16)] | None = None
    """Several handlers by name, each with a position, retries and dead letters of its own, fed from one read."""

    @field_validator("stream_arn")
    @classmethod
    def _one_stream(cls, value: str | None, info: ValidationInfo) -> str | None:
        if "table" in info.data:
            try:
                DynamoDBStream(table=info.data["table"], stream_arn=value)
            except ConfigError as error:
                raise ValueError(error.problems[0].removeprefix("DynamoDBStream: declaration: ")) from None
        return value

    @field_validator("fan_out")
    @classmethod
    def _one_handler(
        cls, value: dict[BranchName, BranchTable] | None, info: ValidationInfo
    ) -> dict[BranchName, BranchTable] | None:
        return _only_one(value, info, "handler", "lambda", "sink", "fan_out")

    def build(self, name: str) -> Pipeline:
        handler = self._handler()
        if self.fan_out is not None:
            handler = FanOut(branches={branch: table.build() for branch, table in self.fan_out.items()})
        return Pipeline(
            name=name,
            source=DynamoDBStream(
                table=self.table,
                stream_arn=self.stream_arn,
                aws=None if self.aws is None else AwsOptions(**_given(self.aws)),
            ),
            handler=handler,
            **_options(self, PipelineOptions),
        )


def _only_one(value: T, info: ValidationInfo, *keys: str) -> T:
    """`value`, of the last of the keys, if exactly one of them is given; one that is wrong by itself was told already."""
    others = [info.data.get("lambda_" if key == "lambda" else key, _WRONG) for key in keys[:-1]]
    if _WRONG not in others and sum(each is not None for each in (*others, value)) != 1:
        raise ValueError(f"give either {', '.join(keys[:-1])} or {keys[-1]}")
    return value


def _options(table: DeliveryTable, options: type[DeliveryOptions]) -> dict[str, Any]:
    given = {key: value for key, value in _given(table).items() if key in options.model_fields}
    return {"middleware": tuple(layer.build() for layer in table.middleware), **given}


PipelineName = Annotated[str, Field(pattern=Pipeline.model_fields["name"].metadata[0].pattern)]


class _Tables(Table):
    aws: AwsTable = AwsTable()
    """How to reach AWS."""
    http: HttpTable | None = None
    """The admin server; without this table there is none."""
    pipelines: Annotated[dict[PipelineName, PipelineTable], Field(min_length=1)]
    """What to run, by name."""

    @field_validator("store", check_fields=False)
    @classmethod
    def _store_is_installed(cls, value: str) -> str:
        scheme = value.partition(":")[0]
        known = names("stores")
        if scheme not in known:
            raise ValueError(
                f"no store is called {scheme!r}{did_you_mean(scheme, known)}; there are {', '.join(known)}"
            )
        return value

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


def known_keys(path: KeyPath, table: object) -> Iterable[str]:
    """The keys that the table at `path` may have; empty where they are free or the table is none of ours."""
    match path:
        case ():
            return _keys(Document)
        case ("aws",) | ("pipelines", _, "aws"):
            return _keys(AwsTable)
        case ("http",):
            return _keys(HttpTable)
        case ("pipelines", _):
            return _keys(PipelineTable)
        case ("pipelines", _, "fan_out", _):
            return _keys(BranchTable)
        case ("pipelines", _, "lambda") | ("pipelines", _, "fan_out", _, "lambda"):
            return _keys(LambdaTable)
        case (*_, "middleware", int(), str(kind)) if kind in BUILT_IN:
            return _keys(BUILT_IN[kind])
    return settings_keys(table)


def _keys(model: type[Table]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
