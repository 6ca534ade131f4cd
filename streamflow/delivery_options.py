"""How a pipeline or a branch of it delivers: an event source mapping's options, and what becomes of what fails."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from streamflow.declaration import Declaration
from streamflow.errors import PatternError
from streamflow.rules.patterns.compiling import compile_pattern
from streamflow.sdk.declarations import DestinationDeclaration

UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
DESTINATION_ARN = re.compile(
    r"^arn:[\w-]+:(sqs:[\w-]+:\d{12}:[\w-]{1,80}|sns:[\w-]+:\d{12}:[\w-]{1,256}|s3:::[\w.-]{3,63})$"
)
FIFO_ARN = re.compile(r"^arn:[\w-]+:(sqs|sns):.*\.fifo$")
DEAD_LETTERS, DROP = "dead_letters", "drop"


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str | DestinationDeclaration) or hasattr(value, "send") else value


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
