"""Event source mappings of AWS Lambda written as a pipeline file.

Every option of a mapping becomes a key with the same value; what a pipeline file cannot say becomes a comment that says
so. One thing is left to people: the function's code, as a target that Python can import.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from streamflow.config import writing
from streamflow.config.lambda_mapping import pipeline_names, problems
from streamflow.delivery_options import DEAD_LETTERS, DESTINATION_ARN, DROP
from streamflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streamflow.config.lambda_mapping import LiveMapping

TARGET_TO_FILL_IN = "module:function"

_PYTHON_HANDLER = re.compile(r"^(?P<module>\w[\w/.-]*)\.(?P<function>[A-Za-z_]\w*)$")

# Members of EventSourceMappingConfiguration, and the keys that mean the same.
_OPTIONS = {
    "StartingPosition": "starting_position",
    "BatchSize": "batch_size",
    "MaximumBatchingWindowInSeconds": "maximum_batching_window_s",
    "ParallelizationFactor": "parallelization_factor",
    "MaximumRetryAttempts": "maximum_retry_attempts",
    "MaximumRecordAgeInSeconds": "maximum_record_age_s",
    "BisectBatchOnFunctionError": "bisect_batch_on_function_error",
    "TumblingWindowInSeconds": "tumbling_window_s",
}
# Those that are written in a way of their own, and those that ask for nothing.
_KNOWN = {
    *_OPTIONS, "UUID", "EventSourceArn", "FunctionArn", "FilterCriteria", "DestinationConfig", "FunctionResponseTypes",
    "State", "StateTransitionReason", "LastProcessingResult", "LastModified", "EventSourceMappingArn",
    "ResponseMetadata", "Enabled", "FunctionName", "Qualifier",
}  # fmt: skip
_NOT_CARRIED_OVER = {
    "KMSKeyArn": "it encrypts the filters on AWS, here they stand in this file",
    "MetricsConfig": "streamflow always counts, see docs/metrics.md",
    "ScalingConfig": "it is for SQS only",
    "ProvisionedPollerConfig": "it is for Kafka and SQS only",
    "StartingPositionTimestamp": "a DynamoDB stream cannot be read from a time on",
}
_START = """\
Counts at the very first start only. Lambda does not tell how far it is, so there are two ways to take over:
"TRIM_HORIZON" reads all that the stream still holds, up to 24 hours. Nothing is missed; what Lambda delivered of it \
comes again.
"LATEST" reads what comes from the first start on. Nothing is missed if the mapping is disabled after it has delivered \
all records from before that start; what comes until then is delivered by both."""


def pipeline_file(mappings: Sequence[LiveMapping]) -> str:
    """The text of a pipeline file with one pipeline for each mapping; there is at least one.

    Raises:
        ConfigError: a mapping does not read a DynamoDB stream, or its filters are not known.
    """
    if found := [text for live in mappings for text in problems(live)]:
        raise ConfigError(found)
    region = mappings[0].region
    lines = [
        *writing.comment("Imported from AWS Lambda; docs/from-lambda.md tells how to move over, and what differs."),
        *writing.comment("streamflow check FILE"),
        f"store = {writing.string(f'sqlite:///{mappings[0].short_name}.db')} # checkpoints and dead letters",
        "",
        "[aws]",
        f"region = {writing.string(region)}",
        *_roles(mappings),
    ]
    for name, live in zip(pipeline_names(mappings), mappings, strict=True):
        lines += ["", *_pipeline(name, live, region)]
    return "\n".join(lines) + "\n"


def _roles(mappings: Sequence[LiveMapping]) -> Iterator[str]:
    for role in dict.fromkeys(str(live.function["Role"]) for live in mappings if live.function.get("Role")):
        yield from writing.comment(
            f"Lambda polls, and sends to on_failure, as {role}. Here the credentials of the environment do; role_arn names "
            "a role to assume."
        )


def _pipeline(name: str, live: LiveMapping, region: str) -> Iterator[str]:
    state, result = live.mapping.get("State", "unknown"), live.mapping.get("LastProcessingResult", "unknown")
    table = f"pipelines.{writing.key(name)}"
    yield from writing.comment(f"Mapping {live.uuid}; when it was imported: {state}, last result: {result}.")
    yield f"[{table}]"
    yield from writing.comment(f"table = {writing.string(live.table)} reads the latest stream of the table instead.")
    yield f"stream_arn = {writing.string(live.stream_arn)}"
    if live.region != region:
        yield f"aws.region = {writing.string(live.region)}"
    yield f"uuid = {writing.string(live.uuid)} # as before in the keys of objects that on_failure writes to S3"
    for member, key in _OPTIONS.items():
        if live.mapping.get(member) is not None:
            if member == "StartingPosition":
                yield from (line for text in _START.splitlines() for line in writing.comment(text))
            yield f"{key} = {writing.value(live.mapping[member])}"
    if live.filters:
        yield from ("filters = [", *(f"  {writing.string(str(each['Pattern']))}," for each in live.filters), "]")
    yield from _on_failure(live)
    yield from _left_out(live)
    yield ""
    yield from _function(table, live)


def _on_failure(live: LiveMapping) -> Iterator[str]:
    known = DESTINATION_ARN.match(live.destination)
    if not live.destination:
        said = (
            f'The mapping has no destination, and loses what it gives up, as "{DROP}" would; "{DEAD_LETTERS}" keeps it in '
            "the store."
        )
    elif not known:
        said = f"Not carried over: {live.destination} is no destination of streamflow's."
    elif ":s3:::" in live.destination:
        said = f'The whole batch goes there, as before; add "{DEAD_LETTERS}" to redrive it with streamflow dlq.'
    else:
        said = f'Only positions go there, as before; add "{DEAD_LETTERS}" to keep the records, too.'
    yield from writing.comment(said)
    yield f"on_failure = [{writing.string(live.destination if known else DEAD_LETTERS)}]"


def _left_out(live: LiveMapping) -> Iterator[str]:
    left_out = {member: found for member, found in live.mapping.items() if member not in _KNOWN}
    left_out["OnSuccess"] = (live.mapping.get("DestinationConfig") or {}).get("OnSuccess")
    for member, found in left_out.items():
        if found not in (None, "", [], {}):
            why = _NOT_CARRIED_OVER.get(member, "streamflow does not know it")
            yield from writing.comment(f"Not carried over: {member} = {json.dumps(found, default=str)[:200]}; {why}.")


# --- the function ----------------------------------------------------------------------------------------------------


def _function(table: str, live: LiveMapping) -> Iterator[str]:
    target, said = _target(live.function)
    yield f"[{table}.lambda]"
    yield from writing.comment(said)
    yield f"target = {writing.string(target)}"
    if live.function_name:
        yield f"function_name = {writing.string(live.function_name)}"
    if live.unread:
        yield from writing.comment(
            f"The function's timeout and memory could not be read ({live.unread}): set them here."
        )
        yield from ("# timeout_s = 3", "# memory_size_mb = 128")
    for member, key in (("Timeout", "timeout_s"), ("MemorySize", "memory_size_mb")):
        if member in live.function:
            yield f"{key} = {writing.value(live.function[member])}"
    yield from writing.comment(
        "On AWS each invocation has a process of its own, here they share one: raise it where the function bears that. "
        "Until then the shards and lanes take turns."
    )
    yield "concurrency = 1"
    types = live.mapping.get("FunctionResponseTypes") or []
    yield f"report_batch_item_failures = {writing.value('ReportBatchItemFailures' in types)}"
    if variables := (live.function.get("Environment") or {}).get("Variables"):
        names = ", ".join(sorted(variables))
        yield from writing.comment(f"Set these of the function's environment variables in streamflow's: {names}.")


def _target(function: Mapping[str, Any]) -> tuple[str, str]:
    """The target as far as it can be known, and what to do about it."""
    runtime, handler = str(function.get("Runtime") or ""), str(function.get("Handler") or "")
    if runtime and not runtime.startswith("python"):
        return TARGET_TO_FILL_IN, (
            f"FILL IN target. The function's runtime is {runtime}, and streamflow calls Python: name a function that does "
            "the same."
        )
    found = _PYTHON_HANDLER.match(handler)
    if found is None:
        return TARGET_TO_FILL_IN, (
            "FILL IN target, module:function or path/file.py:function: a mapping knows its function by ARN only."
        )
    return f"{found['module'].replace('/', '.')}:{found['function']}", (
        f"CHECK target: the function's handler is {handler}; its code has to be beside this file, or where Python looks."
    )
