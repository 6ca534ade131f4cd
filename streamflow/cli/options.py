"""Options that several commands share, each declared once, and what they change in a declaration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamflow.declaration import Declaration
    from streamflow.pipeline import AwsOptions, DynamoDBStream

F = TypeVar("F", bound="Callable[..., Any]")
D = TypeVar("D", bound="Declaration")


def endpoint_url(command: F) -> F:
    return click.option("--endpoint-url", metavar="URL", help="Endpoint instead of those of AWS, for local servers.")(
        command
    )


def region(command: F) -> F:
    return click.option("--region", metavar="REGION", help="AWS region; by default as the AWS configuration says.")(
        command
    )


def as_json(help: str) -> Callable[[F], F]:  # noqa: A002 - named as click names it
    return click.option("--json", "as_json", is_flag=True, help=help)


def debug(command: F) -> F:
    """Shows tracebacks on the way out, as STREAMFLOW_DEBUG=1 does for every command."""

    def remember(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value and context.obj is not None:
            context.obj.debug = True

    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=remember,
        help="Show tracebacks of failures.",
    )(command)


def changed(declaration: D, changes: Mapping[str, object]) -> D:
    """`declaration` with the values of `changes` that are not None.

    Raises:
        ConfigError: a value does not fit, told by the option's name.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    if not given:
        return declaration
    try:
        return type(declaration)(**{**dict(declaration), **given})
    except ConfigError as error:
        raise ConfigError([_of_option(problem) for problem in error.problems]) from None


def _of_option(problem: str) -> str:
    place, _, text = problem.partition(": ")[2].partition(": ")
    return f"--{place.replace('_', '-')}: {text}"


def aws_options(endpoint_url: str | None, region: str | None) -> AwsOptions:
    """Raises `ConfigError` as `changed` does."""
    from streamflow.pipeline import AwsOptions

    return changed(AwsOptions(), {"endpoint_url": endpoint_url, "region": region})


def stream(table_or_arn: str) -> DynamoDBStream:
    """The stream of a table by the table's name, or one by its ARN.

    Raises:
        ConfigError: it is neither.
    """
    from streamflow.pipeline import DynamoDBStream

    try:
        if table_or_arn.startswith("arn:"):
            return DynamoDBStream(stream_arn=table_or_arn)
        return DynamoDBStream(table=table_or_arn)
    except ConfigError:
        raise ConfigError(
            f"{table_or_arn!r} is neither the name of a table (3 to 255 of A-Z a-z 0-9 _ . -) nor the ARN of its stream "
            "(arn:aws:dynamodb:REGION:ACCOUNT:table/NAME/stream/LABEL)"
        ) from None
