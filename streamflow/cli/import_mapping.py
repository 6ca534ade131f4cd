"""`streamflow import-mapping`: a live event source mapping of AWS Lambda, read and written as a pipeline file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from streamflow.cli import options
from streamflow.config.lambda_file import pipeline_file
from streamflow.config.lambda_mapping import LiveMapping, refusal
from streamflow.delivery_options import UUID
from streamflow.errors import AccessDeniedError, ConfigError, NotFoundError
from streamflow.pipeline import AwsOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streamflow.aws.session import Aws


@click.command(short_help="Write the pipeline file of a Lambda event source mapping.")
@click.argument("uuid", required=False, metavar="[UUID]")
@click.option("--function", metavar="NAME", help="All mappings of this function instead; NAME:ALIAS for an alias.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write there instead of to stdout.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@click.option("--profile", metavar="NAME", help="Profile of the shared AWS configuration files.")
@click.option("--role-arn", metavar="ARN", help="Role to assume for reading the mapping.")
@options.endpoint_url
@options.region
@options.debug
def import_mapping(
    uuid: str | None,
    *,
    function: str | None,
    output: Path | None,
    force: bool,
    profile: str | None,
    role_arn: str | None,
    endpoint_url: str | None,
    region: str | None,
) -> None:
    """Read the event source mapping UUID from AWS Lambda and write it as a pipeline file. Nothing is changed on AWS.

    Needs lambda:GetEventSourceMapping, with --function also lambda:ListEventSourceMappings, and uses
    lambda:GetFunctionConfiguration where it is allowed.
    """
    if (uuid is None) == (function is None):
        raise click.UsageError("Give either UUID or --function.")
    if uuid is not None and not UUID.match(uuid.lower()):
        raise ConfigError(f"{uuid!r} is no UUID of a mapping: `aws lambda list-event-source-mappings` shows them")
    if output is not None and output.exists() and not force:
        raise ConfigError(f"--output: {output} exists already; --force overwrites it")
    given = {"profile": profile, "role_arn": role_arn, "endpoint_url": endpoint_url, "region": region}
    mappings = anyio.run(_read, options.changed(AwsOptions(), given), uuid, function)
    text = pipeline_file(_portable(mappings))
    if output is None:
        click.echo(text, nl=False)
    else:
        _write(output, text, force=force)
        click.echo(f"{output} is written: see to each target in it, then `streamflow check {output}`", err=True)


def _portable(mappings: Sequence[LiveMapping]) -> list[LiveMapping]:
    """Those that can become pipelines; the others are told, and are an error where there is no other."""
    refusals = [text for live in mappings if (text := refusal(live)) is not None]
    if len(refusals) == len(mappings):
        raise ConfigError(refusals)
    for text in refusals:
        click.echo(f"left out: {text}", err=True)
    return [live for live in mappings if refusal(live) is None]


def _write(file: Path, text: str, *, force: bool) -> None:
    try:
        with file.open("w" if force else "x", encoding="utf-8", newline="\n") as opened:
            opened.write(text)
    except OSError as error:
        raise ConfigError(f"--output: {file} cannot be written: {error.strerror}") from error


# --- reading ---------------------------------------------------------------------------------------------------------


async def _read(aws_options: AwsOptions, uuid: str | None, function: str | None) -> list[LiveMapping]:
    from streamflow.aws.session import open_aws

    async with open_aws(aws_options) as aws, aws.client("lambda") as client:
        uuids = [uuid] if uuid is not None else await _uuids(aws, client, str(function))
        mappings = [await _mapping(aws, client, each) for each in uuids]
        return [await _with_function(client, mapping) for mapping in mappings]


async def _uuids(aws: Aws, client: Any, function: str) -> list[str]:
    """Of all mappings of the function, page by page. The list itself may lack members that the single answer has."""
    from streamflow.aws.errors import translate

    found: list[str] = []
    try:
        pages = client.get_paginator("list_event_source_mappings").paginate(FunctionName=function)
        async for page in pages:
            found += [str(mapping["UUID"]) for mapping in page["EventSourceMappings"]]
    except Exception as error:
        raise _unknown(translate(error), f"the function {function!r}", aws.region) from error
    if not found:
        raise NotFoundError(
            f"the function {function!r} has no event source mapping in {aws.region}; those of a version or an alias are "
            "listed as NAME:VERSION or NAME:ALIAS only"
        )
    return found


async def _mapping(aws: Aws, client: Any, uuid: str) -> Mapping[str, Any]:
    from streamflow.aws.errors import translate

    try:
        mapping: Mapping[str, Any] = await client.get_event_source_mapping(UUID=uuid.lower())
    except Exception as error:
        raise _unknown(translate(error), f"the mapping {uuid}", aws.region) from error
    return mapping


def _unknown(error: Exception, what: str, region: str) -> Exception:
    if not isinstance(error, NotFoundError):
        return error
    return NotFoundError(
        f"{error} ({what} in {region}: is it another region, --region, or another account, --profile? "
        "`aws lambda list-event-source-mappings` shows what there is)"
    )


async def _with_function(client: Any, mapping: Mapping[str, Any]) -> LiveMapping:
    """With the configuration of its function; who may not read that, or deleted it, gets a comment instead."""
    from streamflow.aws.errors import translate

    alone = LiveMapping(mapping=mapping)
    arn = mapping.get("FunctionArn")
    if not arn or refusal(alone) is not None:
        return alone
    try:
        return LiveMapping(mapping=mapping, function=await client.get_function_configuration(FunctionName=arn))
    except Exception as error:
        found = translate(error)
        if isinstance(found, AccessDeniedError | NotFoundError):
            return LiveMapping(mapping=mapping, unread=str(found.code))
        raise found from error
