"""What the user declares. It validates itself and runs nothing."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from streamflow.attributes import Numbers
from streamflow.declaration import Declaration
from streamflow.errors import ConfigError, PatternError
from streamflow.rules.pacing import IDLE_INTERVAL_MAX_S, Polling, PollPace
from streamflow.rules.patterns.compiling import compile_pattern
from streamflow.sdk.declarations import DestinationDeclaration, SinkDeclaration
from streamflow.sdk.settings import AwsSettings

STREAM_ARN = re.compile(r"^arn:[\w-]+:dynamodb:[\w-]+:\d{12}:table/[\w.-]{3,255}/stream/.+$")
TABLE_NAME = re.compile(r"^[A-Za-z0-9_.-]{3,255}$")
UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
DESTINATION_ARN = re.compile(
    r"^arn:[\w-]+:(sqs:[\w-]+:\d{12}:[\w-]{1,80}|sns:[\w-]+:\d{12}:[\w-]{1,256}|s3:::[\w.-]{3,63})$"
)
# Stores are plugins: what stands behind the scheme is theirs to read.
STORE_URL = re.compile(r"^[a-z][a-z0-9_]{0,39}:.*$")
FIFO_ARN = re.compile(r"^arn:[\w-]+:(sqs|sns):.*\.fifo$")
DEAD_LETTERS, DROP = "dead_letters", "drop"
# What RFC 6750 lets a bearer token be, and long enough that nobody guesses it.
HTTP_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,512}=*", re.ASCII)


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


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str | DestinationDeclaration) or hasattr(value, "send") else value


def _check_destination(value: object) -> None:
    if isinstance(value, DestinationDeclaration):
        return
    if not isinstance(value, str):
        if not (hasattr(value, "send") and hasattr(value, "name")):
            raise ValueError("a destination is a name, an ARN, or an object with name and send(discarded)")
    elif FIFO_ARN.match(value):
        kind, name = ("queue", "SQS FIFO") if ":sqs:" in value else ("topic", "SNS FIFO")
        raise ValueError(f"{name} is not a supported destination: name a standard {kind}")
    elif value not in {DEAD_LETTERS, DROP} and not DESTINATION_ARN.match(value):
        raise ValueError(
            f"{value[:80]!r} is none of {DEAD_LETTERS}, {DROP}, the ARN of a standard SQS queue or SNS topic, the ARN of "
            "an S3 bucket"
        )


HandlerLike: TypeAlias = Any
"""An async function, a plain function (run in a thread), a sink (of a plugin or of one's own), or a `LambdaFunction`."""


class DeliveryOptions(Declaration):
    """How records are filtered, batched and delivered, and what happens to those that fail."""

    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Most records for one invocation."""
    maximum_batching_window_s: Annotated[float, Field(ge=0, le=300)] = 0.0
    """Longest wait for a batch to fill, in seconds; 0 delivers what a poll returned at once."""
    batch_bytes_max: Annotated[int, Field(ge=1_000, le=6_291_456)] = 6_291_456
    """Most bytes of the encoded event (Lambda takes 6 MB). A single larger record goes alone; to a Lambda function it
    cannot go at all, and uses up its retries."""
    parallelization_factor: Annotated[int, Field(ge=1, le=10)] = 1
    """Batches of one shard at the same time. Changes of one item keep their order; `batch_size` is for each of them."""
    maximum_retry_attempts: Annotated[int, Field(ge=-1, le=10_000)] = -1
    """How often a failed batch is tried again before it is given up; -1 never gives up."""
    maximum_record_age_s: Annotated[int, Field(ge=-1, le=604_800)] = -1
    """Age in seconds (60 to 604,800) at which a record is given up instead of delivered; -1 is for ever."""
    bisect_batch_on_function_error: bool = False
    """Halve a batch that failed, so that the record that fails ends up alone; a split costs no retry."""
    tumbling_window_s: Annotated[int, Field(ge=0, le=900)] = 0
    """Length of tumbling windows in whole seconds: invocations of one window hand on a state; 0 is off."""
    filters: Annotated[tuple[str, ...], Field(max_length=10, examples=[('{"eventName": ["INSERT"]}',)])] = ()
    """Patterns as JSON text, as in `FilterCriteria`: a record that matches none of them is left out. Empty lets all pass."""
    filter_extensions: bool = False
    """Let patterns do what Lambda's cannot: `numeric` on `N` attributes, and `changed`."""
    on_failure: Annotated[
        tuple[Any, ...],
        Field(examples=[("arn:aws:sqs:eu-west-1:123456789012:orders-failed",)]),
        BeforeValidator(_listed),
    ] = (DEAD_LETTERS,)
    """Where records go that are given up, each of: `dead_letters` (whole, in the state store), the ARN of a standard SQS
    queue or SNS topic or of an S3 bucket, or from Python a `Destination`. `drop` alone loses them, as Lambda does."""
    on_poison: Literal["dead_letter", "park_key", "block"] = "dead_letter"
    """When retries are used up: give the batch up to `on_failure`; or set aside the failing item with all its later
    changes, and go on with the others; or keep trying, and hold the shard."""
    parked_keys_max: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """Most items of a stream that `park_key` sets aside: with more of them the fault is not in the items, and it blocks."""
    uuid: Annotated[str | None, Field(pattern=UUID.pattern, examples=["14e0db71-5d35-4eb5-b481-8945cf9d10c2"])] = None
    """Identity in the S3 keys of `on_failure`, to continue those of a Lambda mapping; by default made from the name."""
    handler_timeout_s: Annotated[float | None, Field(gt=0, le=86_400, examples=[30.0])] = None
    """Time for one invocation of chain and handler; None waits for ever."""
    checkpoint_interval_s: Annotated[float, Field(ge=0, le=300)] = 1.0
    """Least time between two stored checkpoints of a shard; what a crash may repeat. A clean stop repeats nothing."""

    @field_validator("maximum_record_age_s")
    @classmethod
    def _age_is_minutes_or_for_ever(cls, value: int) -> int:
        if value != -1 and value < 60:
            raise ValueError(
                "MaximumRecordAgeInSeconds must be either -1 (forever) or between 60 and 604800 (inclusive)"
            )
        return value

    @field_validator("on_failure")
    @classmethod
    def _destinations_are_known(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value or (DROP in value and len(value) > 1):
            raise ValueError(f'name at least one destination, or "{DROP}" alone to lose what is given up')
        for each in value:
            _check_destination(each)
        return value

    @model_validator(mode="after")
    def _options_fit(self) -> DeliveryOptions:
        if self.tumbling_window_s and self.parallelization_factor > 1:
            raise ValueError(
                "Parallelization factor must be equal to 1 when tumbling window period is configured "
                "(parallelization_factor, tumbling_window_s)"
            )
        if self.tumbling_window_s and self.filters:
            raise ValueError("filters cannot be combined with a tumbling window (filters, tumbling_window_s)")
        if self.tumbling_window_s and self.on_poison == "park_key":
            raise ValueError(
                "park_key cannot be combined with a tumbling window: its state would miss the parked changes "
                "(on_poison, tumbling_window_s)"
            )
        if self.on_poison == "park_key" and self.maximum_retry_attempts == -1:
            raise ValueError(
                "park_key sets an item aside when its retries are used up: maximum_retry_attempts = -1 never uses them up, "
                "give it a number"
            )
        for place, text in enumerate(self.filters):
            try:
                compile_pattern(text, extensions=self.filter_extensions)
            except PatternError as error:
                raise ValueError(f"filters.{place}: {error}") from None
        return self


class PipelineOptions(DeliveryOptions):
    """The options of an event source mapping in snake case with units, and ours."""

    starting_position: Literal["TRIM_HORIZON", "LATEST"] = "LATEST"
    """Where to start at the very first run: what the stream still holds, or what comes from now on."""
    poll_interval_s: Annotated[float, Field(ge=0.01, le=60)] = 0.25
    """Pause between polls of a shard that has nothing new (Lambda polls four times a second)."""
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


class HttpOptions(Declaration):
    """The admin server: /metrics, /status, /livez, /readyz."""

    host: Annotated[str, Field(examples=["127.0.0.1"])] = "127.0.0.1"
    """Address to bind; beyond loopback only if you say so."""
    port: Annotated[int, Field(ge=0, le=65_535, examples=[9102])] = 0
    """Port; 0 picks a free one."""
    token: Annotated[SecretStr | None, Field(examples=["${STREAMFLOW_HTTP_TOKEN}"])] = None
    """What `/metrics` and `/status` ask for, as `Authorization: Bearer TOKEN`; at least 16 characters. Probes answer without
    it, and then give no reasons."""
    without_token: bool = False
    """Beyond loopback, let everybody read who reaches the port: the network decides who does."""

    @field_validator("token")
    @classmethod
    def _token_can_be_sent(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not HTTP_TOKEN.fullmatch(value.get_secret_value()):
            raise ValueError(
                "a token is 16 to 512 letters, digits and any of ._~+/-, such as `openssl rand -hex 32` writes"
            )
        return value

    @model_validator(mode="after")
    def _a_door_has_a_lock(self) -> HttpOptions:
        if self.token is not None and self.without_token:
            raise ValueError("token and without_token exclude each other")
        if self.token is None and not self.without_token and not self.on_loopback:
            raise ValueError(
                "host is beyond loopback: set token (--http takes it from STREAMFLOW_HTTP_TOKEN), or "
                "without_token = true where the network decides who may connect"
            )
        return self

    @property
    def on_loopback(self) -> bool:
        """Whether nobody but this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


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
