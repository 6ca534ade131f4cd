"""`streamflow iam-policy`: the least that a pipeline file needs to be allowed, as a policy."""

from __future__ import annotations

import json
import re

import click

from streamflow.cli import options
from streamflow.cli.policy import ACCOUNT, REGION, account_of, grants_of, placeholders, policy
from streamflow.cli.serving import say
from streamflow.config.load import load_app
from streamflow.errors import ConfigError
from streamflow.targets import did_you_mean

_ACCOUNT = re.compile(r"\d{12}", re.ASCII)
_OPTION = {REGION: "--region", ACCOUNT: "--account"}


@click.command(short_help="Print the least IAM policy that a pipeline file needs.")
@click.argument("target", metavar="FILE")
@click.option("--role", metavar="ARN", help="Of this execution role, instead of the identity that the process has.")
@click.option("--account", metavar="ID", help="Account of what is named without one.")
@click.option("--region", metavar="REGION", help="Region of what is declared without one.")
@click.option("--partition", metavar="NAME", help="aws, aws-cn or aws-us-gov; by default that of the region.")
@options.debug
def iam_policy(
    target: str, *, role: str | None, account: str | None, region: str | None, partition: str | None
) -> None:
    """Print an IAM policy that lets FILE's pipelines do what they do, and nothing else.

    FILE is a pipeline file or module:app. Nothing is connected to. What nobody has written down is told on stderr: the code
    of handlers, and plugins that do not say what they call.
    """
    if account is not None and not _ACCOUNT.fullmatch(account):
        raise ConfigError(f"--account: {account!r} is no account: 12 digits")
    found = grants_of(load_app(target))
    if role is not None and role not in found.roles:
        raise ConfigError(f"--role: {target} assumes no role {role!r}{did_you_mean(role, found.roles)}")
    grants = found.of(role)
    document = policy(grants, partition=partition, region=region, account=account or account_of(grants))
    for place in placeholders(document):
        say(f"note: replace {place}, or say {_OPTION[place]}")
    for other in found.roles if role is None else ():
        say(f"note: {other} needs a policy of its own: --role {other}")
    for each in dict.fromkeys(found.unknown):
        say(f"note: not in this policy: {each}")
    click.echo(json.dumps(document, indent=2))
