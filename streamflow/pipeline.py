"""What the user declares. It validates itself and runs nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from streamflow.attributes import Numbers
from streamflow.declaration import Declaration
from streamflow.delivery_options import DeliveryOptions
from streamflow.errors import ConfigError
from streamflow.http_options import HttpOptions
from streamflow.rules.pacing import IDLE_INTERVAL_MAX_S, Polling, PollPace
from streamflow.sdk.declarations import SinkDeclaration
from streamflow.sdk.settings import AwsSettings

STREAM_ARN = re.compile(r"^arn:[\w-]+:dynamodb:[\w-]+:\d{12}:table/[\w.-]{3,255}/stream/.+$")
TABLE_NAME = re.compile(r"^[A-Za-z0-9_.-]{3,255}$")
# Stores are plugins: what stands behind the scheme is theirs to read.
STORE_URL = re.compile(r"^[a-z][a-z0-9_]{0,39}:.*$")


class AwsOptions(Declaration, AwsSettings):
    """How to reach AWS; what is left out comes from the environment and the shared files, as in every AWS SDK."""


class DynamoDBStream(Declaration):
    """The stream of a DynamoDB table: the table's latest one, or one by ARN."""

    table: Annotated[str | None, Field(examples=["orders"], pattern=TABLE_NAME.pattern)] = None
    """Table name; its latest stream is read."""
    stream_arn: Annotated[
        str | None,
        Field(examples=["arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"]),
    ] = None
    """Stream ARN, where it must be exactly this one."""
    aws: AwsOptions | None = None
    """How to reach AWS for this stream; by default as the app says."""

    @model_validator(mode="after")
    def _exactly_one(self) -> DynamoDBStream:
        if (self.table is None) == (self.stream_arn is None):
            raise ValueError("give either table or stream_arn")
        if self.stream_arn is not None and not STREAM_ARN.match(self.stream_arn):
            raise ValueError(
                "stream_arn is no stream of a table: it looks like arn:aws:dynamodb:REGION:ACCOUNT:table/NAME/stream/LABEL"
            )
        return self


class LambdaFunction(Declaration):
    """An AWS Lambda function, unchanged, called in this process with the exact event and a context."""

    target: Annotated[str, Field(examples=["app:handler"], pattern=r"^[\w./-]+:[\w.]+$")]
    """`module:function`; a path to a `.py` file may stand for the module."""
    function_name: Annotated[str | None, Field(examples=["orders"])] = None
    """Name that the context shows; by default the function's."""
    timeout_s: Annotated[float, Field(gt=0, le=900)] = 3.0
    """Time for one invocation, as Lambda's own setting; running out of it is a function error."""
    memory_size_mb: Annotated[int, Field(ge=128, le=10_240)] = 128
    """Memory that the context shows; not enforced."""
    concurrency: Annotated[int, Field(ge=1, le=100)] = 1
    """Invocations at the same time in this process. They share the module's globals, where Lambda has an environment for
    each: more than 1 is for functions that bear that."""
    report_batch_item_failures: bool = False
    """Read `batchItemFailures` in the response (`FunctionResponseTypes: [ReportBatchItemFailures]`)."""


HandlerLike: TypeAlias = Any
"""An async function, a plain function (run in a thread), a sink (of a plugin or of one's own), or a `LambdaFunction`."""


class PipelineOptions(DeliveryOptions):
    """The options of an event source mapping in snake case with units, and ours."""

    starting_position: Literal["TRIM_HORIZON", "LATEST"] = "LATEST"
    """Where to start at the very first run: what the stream still holds, or what comes from now on."""
    poll_interval_s: Annotated[float, Field(ge=0.01, le=60)] = 0.25
    """How often a shard is polled that has nothing new, each in its own place of the interval (Lambda: four times a second)."""
    polling: Polling = "latency"
    """When a shard is idle, and polled less often: `latency` after a minute without records, once a second; `cost` after
    two seconds, every ten."""
    idle_poll_interval_s: Annotated[float | None, Field(ge=0.01, le=IDLE_INTERVAL_MAX_S, examples=[20.0])] = None
    """Pause between polls of an idle shard, in place of that of `polling`: so long may its next record wait."""
    idle_polls_per_s_max: Annotated[float | None, Field(ge=0.01, le=100_000, examples=[50.0])] = None
    """Most polls of idle shards in a second, by all workers together: with more shards each of them is polled less often,
    down to once in five minutes."""
    buffer_bytes_max: Annotated[int, Field(ge=65_536, le=1_073_741_824)] = 8_388_608
    """Most bytes read ahead for one shard."""
    on_trimmed: Literal["fail", "continue"] = "fail"
    """When retention took records before they were read: stop the pipeline, or record the gap and go on."""
    numbers: Numbers = "decimal"
    """DynamoDB numbers as exact `Decimal`, or as `int` and `float`."""

    @property
    def pace(self) -> PollPace:
        """The options about polls."""
        return PollPace(
            interval_s=self.poll_interval_s,
            polling=self.polling,
            idle_interval_s=self.idle_poll_interval_s,
            idle_polls_per_s_max=self.idle_polls_per_s_max,
        )


class Branch(DeliveryOptions):
    """One of several handlers that a pipeline feeds from one read, with a position, retries and dead letters of its own.

    What is not set here is as the pipeline says.
    """

    handler: HandlerLike
    """As that of a pipeline."""
    middleware: tuple[Callable[..., Any], ...] = ()
    """Layers around the handler, outermost first, inside those of the pipeline."""

    @model_validator(mode="after")
    def _handler_fits(self) -> Branch:
        _check_handler(self.handler)
        return self


BranchName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$")]


class FanOut(Declaration):
    """Several handlers of one pipeline: see `fan_out`."""

    branches: Annotated[dict[BranchName, Branch], Field(min_length=2, max_length=16)]
    """What they are called, and what they are."""


def fan_out(**branches: HandlerLike | Branch) -> FanOut:
    """Feed several handlers from one read of the stream, because a DynamoDB shard bears only two readers.

    Each branch is a flow of its own, named `pipeline/branch` in metrics, logs, checkpoints and dead letters: a branch that
    fails or is slow does not hold up the others. Two branches never share one decoded record.

    Raises:
        ConfigError: fewer than two branches, or one that is wrong.
    """
    return FanOut(
        branches={
            name: branch if isinstance(branch, Branch) else Branch(handler=branch) for name, branch in branches.items()
        }
    )


class Pipeline(PipelineOptions):
    """One stream, through middleware, to one handler."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$", examples=["orders"])]
    """Names the checkpoints: another name starts anew."""
    source: Any
    """A `DynamoDBStream`, or anything that keeps the `Source` contract."""
    handler: HandlerLike
    """An async function of a batch, a plain function (run in a thread), a sink, a `LambdaFunction`, or a `fan_out`."""
    middleware: tuple[Callable[..., Any], ...] = ()
    """Layers around the handler, outermost first."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Pipeline:
        if not isinstance(self.source, DynamoDBStream) and not hasattr(self.source, "open"):
            raise ValueError("source is neither a DynamoDBStream nor an object with the Source contract")
        if not isinstance(self.handler, FanOut):
            _check_handler(self.handler)
        return self

    @property
    def flows(self) -> tuple[Pipeline, ...]:
        """Itself, or what its branches are as pipelines: each has a position of its own.

        Raises:
            ConfigError: the options of a branch do not fit those of the pipeline.
        """
        if not isinstance(self.handler, FanOut):
            return (self,)
        own = {name: getattr(self, name) for name in self.model_fields_set}
        return tuple(_flow_of(own, name, branch) for name, branch in self.handler.branches.items())


class _BranchPipeline(Pipeline):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}/[A-Za-z0-9_.-]{1,32}$")]
    """Pipeline and branch."""


def _flow_of(own: dict[str, Any], name: str, branch: Branch) -> Pipeline:
    set_here = {option: getattr(branch, option) for option in branch.model_fields_set}
    layers = (*own.get("middleware", ()), *branch.middleware)
    return _BranchPipeline(**{**own, **set_here, "name": f"{own['name']}/{name}", "middleware": layers})


def _check_handler(value: object) -> None:
    declared = isinstance(value, LambdaFunction | SinkDeclaration)
    if not callable(value) and not declared and not _is_sink(value):
        raise ValueError("handler is none of: async function, function, sink, LambdaFunction")


def _is_sink(value: object) -> bool:
    return hasattr(value, "__aenter__") and hasattr(value, "__aexit__")


class App(Declaration):
    """Pipelines and their surroundings: what one worker runs."""

    pipelines: Annotated[tuple[Pipeline, ...], Field(min_length=1)]
    """What to run; names are unique."""
    store: Annotated[str, Field(examples=["sqlite:///orders.db", "memory:"], pattern=STORE_URL.pattern)] = (
        "sqlite:///streamflow.db"
    )
    """Where leases and checkpoints are kept: `sqlite:///PATH` (three slashes for a relative path), `memory:` for tests, or
    the URL of a store that a plugin brings."""
    aws: AwsOptions = AwsOptions()
    """How to reach AWS."""
    http: HttpOptions | None = None
    """The admin server; None starts none."""
    worker_id: Annotated[str | None, Field(pattern=r"^[\w.:@/-]{1,128}$", examples=["orders-0"])] = None
    """Owner of the leases. A restart under the same id continues at once; by default every process has its own."""
    lease_duration_s: Annotated[float, Field(ge=1, le=600)] = 10.0
    """How long a silent worker keeps its shards."""
    drain_timeout_s: Annotated[float, Field(ge=0, le=3_600)] = 25.0
    """Time for in-flight batches to finish at shutdown (Kubernetes kills after 30 s)."""
    buffer_bytes_max: Annotated[int, Field(ge=1_048_576)] = 268_435_456
    """Most bytes read ahead by the whole worker, and one page per shard beyond that."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> App:
        names = [pipeline.name for pipeline in self.pipelines]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"two pipelines are named {', '.join(repeated)}: they would share checkpoints")
        try:
            len(self.flows)
        except ConfigError as error:
            raise ValueError(" · ".join(error.problems)) from None
        return self

    @property
    def flows(self) -> tuple[Pipeline, ...]:
        """What has a position of its own: the pipelines, and the branches of those that fan out."""
        return tuple(flow for pipeline in self.pipelines for flow in pipeline.flows)
