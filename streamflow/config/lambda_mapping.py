"""Event source mappings of AWS Lambda as its API tells them, and whether they can become pipelines."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streamflow.pipeline import STREAM_ARN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_FUNCTION_ARN = re.compile(r"^arn:[\w-]+:lambda:[\w-]+:\d{12}:function:(?P<name>[\w-]+)(:(?P<qualifier>[\w$-]+))?$")
_NAME_MAX = 64  # characters of a pipeline's name
_SOURCES = {
    "kinesis": "a Kinesis stream",
    "sqs": "an SQS queue",
    "kafka": "a Kafka cluster",
    "mq": "a message broker",
    "rds": "a DocumentDB cluster",
    "docdb-elastic": "a DocumentDB cluster",
    "dynamodb": "a table, not the stream of one",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveMapping:
    """The answer of GetEventSourceMapping and that of GetFunctionConfiguration; `unread` says why there is no second."""

    mapping: Mapping[str, Any]
    function: Mapping[str, Any] = field(default_factory=dict)
    unread: str = ""

    @property
    def uuid(self) -> str:
        return str(self.mapping.get("UUID", ""))

    @property
    def stream_arn(self) -> str:
        return str(self.mapping.get("EventSourceArn", ""))

    @property
    def region(self) -> str:
        """Of a mapping that is not refused."""
        return self.stream_arn.split(":")[3]

    @property
    def table(self) -> str:
        """Of a mapping that is not refused."""
        return self.stream_arn.split("/")[1]

    @property
    def function_name(self) -> str:
        """The name in the function's ARN; empty where there is none."""
        found = self._function_arn()
        return found["name"] if found else ""

    @property
    def short_name(self) -> str:
        """A name for a pipeline: the function's, with its version or alias."""
        found = self._function_arn()
        qualifier = found["qualifier"] if found else None
        name = self.function_name if qualifier in {None, "$LATEST"} else f"{self.function_name}-{qualifier}"
        return re.sub(r"^[^A-Za-z0-9]+", "", name)[:_NAME_MAX] or "imported"

    @property
    def filters(self) -> list[Mapping[str, Any]]:
        return list((self.mapping.get("FilterCriteria") or {}).get("Filters") or [])

    @property
    def destination(self) -> str:
        """The ARN for what is given up; empty where there is none."""
        config = self.mapping.get("DestinationConfig") or {}
        return str((config.get("OnFailure") or {}).get("Destination") or "")

    def _function_arn(self) -> re.Match[str] | None:
        return _FUNCTION_ARN.match(str(self.mapping.get("FunctionArn", "")))


def refusal(live: LiveMapping) -> str | None:
    """Why this mapping cannot become a pipeline; None where its source is the stream of a table."""
    if STREAM_ARN.match(live.stream_arn):
        return None
    service = (live.stream_arn.split(":") + [""] * 3)[2]
    kind = _SOURCES.get(service, "an unknown source")
    if live.mapping.get("SelfManagedEventSource"):
        kind = "a self-managed Kafka cluster"
    which = f" ({live.stream_arn})" if live.stream_arn else ""
    return (
        f"mapping {live.uuid or '?'} reads {kind}{which}: streamflow reads the streams of DynamoDB tables, and the shards, "
        "positions and records of others are not those"
    )


def problems(live: LiveMapping) -> Iterator[str]:
    """Everything for which a pipeline would not do what the mapping does."""
    if refused := refusal(live):
        yield refused
    if error := live.mapping.get("FilterCriteriaError"):
        yield (
            f"mapping {live.uuid}: its filters cannot be read, {error.get('ErrorCode')}: {error.get('Message')}; without "
            f"them other records would come. Allow kms:Decrypt with {live.mapping.get('KMSKeyArn', 'the key')} to whoever "
            "imports"
        )
    elif not all(each.get("Pattern") for each in live.filters):
        yield f"mapping {live.uuid}: one of its filters has no pattern"


def pipeline_names(mappings: Sequence[LiveMapping]) -> list[str]:
    """The short names; all with their tables, or all with their UUIDs, where two would be the same."""
    names = [live.short_name for live in mappings]
    longer = [f"{live.short_name}-{live.table}" for live in mappings]
    for candidates in (names, longer):
        if len({*candidates}) == len(candidates) and max(map(len, candidates)) <= _NAME_MAX:
            return candidates
    return [f"{live.short_name[:27]}-{live.uuid}" for live in mappings]
