"""`streamflow check`: every mistake of a pipeline file at once, or what would run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import click
from pydantic import BaseModel

from streamflow.cli import options
from streamflow.config.load import load_app
from streamflow.handlers.fitting import fitted, warnings
from streamflow.http_options import is_loopback
from streamflow.pipeline import DynamoDBStream, LambdaFunction
from streamflow.plugins import without_password
from streamflow.rules.pacing import IDLE_INTERVAL_MAX_S
from streamflow.rules.patterns.traps import explain_traps
from streamflow.sdk.declarations import SinkDeclaration
from streamflow.sdk.settings import AwsSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow.pipeline import App, AwsOptions, Pipeline


@click.command(short_help="Check a pipeline file and show what would run.")
@click.argument("target", required=False, metavar="FILE")
@click.option("--schema", is_flag=True, help="Print the JSON schema of pipeline files instead; needs no FILE.")
@click.option("--connect", is_flag=True, help="Open every sink as well, and close it: targets must be there.")
@options.as_json("Print what would run as one JSON object.")
@options.debug
def check(target: str | None, *, schema: bool, connect: bool, as_json: bool) -> None:
    """Check FILE, a pipeline file or module:app, and show what would run, with warnings about what it may lose or repeat.

    Modules that it names are imported; nothing is connected to unless you say so, and nothing is ever written.
    """
    if schema:
        from streamflow.config.reference import json_schema

        click.echo(json.dumps(json_schema(), indent=2))
        return
    if target is None:
        raise click.UsageError("Missing argument 'FILE'.")
    app = load_app(target)
    plan = planned(app)
    if connect:
        from streamflow.launch import open_handlers

        anyio.run(open_handlers, app)
    if as_json:
        click.echo(json.dumps({"target": target, "valid": True, **plan}))
    else:
        connected = ", and its sinks can be reached" if connect else ""
        click.echo("\n".join([f"{target} is valid{connected}", *_lines(plan)]))


def planned(app: App) -> dict[str, Any]:
    """What would run, ready for JSON."""
    return {
        "store": without_password(app.store),
        "worker_id": app.worker_id,
        "http": None if app.http is None else f"{app.http.host}:{app.http.port}",
        "pipelines": [_planned_pipeline(fitted(flow), app.aws) for flow in app.flows],
    }


def _planned_pipeline(pipeline: Pipeline, aws: AwsOptions) -> dict[str, Any]:
    return {
        "name": pipeline.name,
        "source": _source(pipeline.source, aws),
        "starting_position": pipeline.starting_position,
        "batch_size": pipeline.batch_size,
        "middleware": [code_name(layer) for layer in pipeline.middleware],
        "handler": code_name(pipeline.handler),
        "filters": len(pipeline.filters),
        "warnings": [
            f"filters.{place}: {trap}"
            for place, text in enumerate(pipeline.filters)
            for trap in explain_traps(text, extensions=pipeline.filter_extensions)
        ]
        + warnings(pipeline)
        + list(_polling_warnings(pipeline))
        + list(_endpoint_warnings(pipeline, aws)),
    }


def _polling_warnings(pipeline: Pipeline) -> Iterator[str]:
    """Options about polls that do nothing, or that let records wait for longer than they may live."""
    most, age_max_s = pipeline.idle_polls_per_s_max, pipeline.maximum_record_age_s
    if pipeline.idle_poll_interval_s is not None and pipeline.idle_poll_interval_s < pipeline.poll_interval_s:
        yield (
            f"idle_poll_interval_s = {pipeline.idle_poll_interval_s:g} does nothing: it is below poll_interval_s = "
            f"{pipeline.poll_interval_s:g}"
        )
    if age_max_s == -1:
        return
    longest_s = pipeline.pace.idle_pause_s(shards=1, phase=1.0)
    if longest_s > age_max_s:
        yield (
            f"a record may wait for {longest_s:g} s in an idle shard, and is given up before its first attempt: "
            f"maximum_record_age_s = {age_max_s}"
        )
    elif most is not None and age_max_s < IDLE_INTERVAL_MAX_S:
        yield (
            f"with more than {most * age_max_s:,.0f} shards idle_polls_per_s_max = {most:g} lets records wait until they are "
            f"given up before their first attempt: maximum_record_age_s = {age_max_s}"
        )


def _endpoint_warnings(pipeline: Pipeline, aws: AwsOptions) -> Iterator[str]:
    """Endpoints in place of AWS to which requests cross a network unencrypted."""
    for url in dict.fromkeys(settings.endpoint_url for settings in (aws, *_aws_settings(pipeline))):
        if url is not None and _in_the_clear(url):
            yield (
                f'endpoint_url = "{without_password(url)}" is neither https nor on this machine: who is on the way reads the '
                "records and the session token, and can change what is answered. Make it https://, with ca_bundle where the "
                "certificate is your own, or reach it over loopback"
            )


def _aws_settings(declared: object) -> Iterator[AwsSettings]:
    """All in a declaration, whatever holds them: its source, its sink, and the sinks of which that is made."""
    match declared:
        case AwsSettings():
            yield declared
        case SinkDeclaration():
            yield from _aws_settings(declared.settings)
        case BaseModel():
            for _, value in declared:
                yield from _aws_settings(value)
        case Mapping():
            for value in declared.values():
                yield from _aws_settings(value)
        case tuple() | list():
            for value in declared:
                yield from _aws_settings(value)


def _in_the_clear(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False  # who opens it says what is wrong with it
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def _source(source: object, aws: AwsOptions) -> str:
    if not isinstance(source, DynamoDBStream):
        return type(source).__name__
    aws = source.aws or aws
    place = ", ".join(part for part in (aws.region, aws.endpoint_url) if part)
    stream = f"table {source.table}" if source.table else f"stream {source.stream_arn}"
    return f"{stream} ({place})" if place else stream


def code_name(code: object) -> str:
    """What people call it: `module:function`; for what a factory made, the factory's name."""
    if isinstance(code, LambdaFunction):
        return f"lambda {code.target}"
    if isinstance(code, SinkDeclaration):
        return f"sink {code.name}"
    named: Any = code if hasattr(code, "__qualname__") else type(code)
    name = str(named.__qualname__).partition(".<locals>")[0]
    return name if named.__module__.startswith("streamflow.middleware") else f"{named.__module__}:{name}"


def _lines(plan: dict[str, Any]) -> list[str]:
    lines = [f"  store     {plan['store']}", f"  admin     {plan['http'] or 'none'}"]
    for pipeline in plan["pipelines"]:
        chain = " → ".join([*pipeline["middleware"], pipeline["handler"]])
        lines += [
            f"  pipeline  {pipeline['name']}",
            f"    source  {pipeline['source']}, from {pipeline['starting_position']} at the first run",
            f"    chain   {chain}, up to {pipeline['batch_size']} records at a time",
        ]
        if pipeline["filters"]:
            several = pipeline["filters"] > 1
            lines.append(f"    filters {pipeline['filters']}, records that match {'any' if several else 'it'} pass")
        lines += [f"    warning {warning}" for warning in pipeline["warnings"]]
    return lines
