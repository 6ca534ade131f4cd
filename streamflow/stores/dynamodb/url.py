"""The URL of a store in DynamoDB, read and checked; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias
from urllib.parse import parse_qsl

from pydantic import Field, ValidationError

from streamflow.errors import ConfigError
from streamflow.pipeline import AwsOptions
from streamflow.sdk.problems import problem
from streamflow.sdk.settings import AwsSettings

Mode: TypeAlias = Literal["takeover", "coexist-2x", "shadow"]

PLACEHOLDER = "{pipeline}"
_SCHEME = "dynamodb://"
# 255, less what the names of the tables beside it are longer.
_TABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{3,238}")
# Of the companion; nothing in it belongs to one pipeline's table alone.
_FOR_ALL, _SUFFIX = "pipelines", "-streamflow"


class DynamoDBOptions(AwsSettings):
    """What may stand behind the question mark."""

    mode: Mode = "takeover"
    """`takeover`: the fleet of the KCL is stopped, we go on with its table. `coexist-2x`: beside workers of the KCL 2.x, by
    their rules. `shadow`: only look."""
    failover_s: Annotated[float, Field(ge=1, le=600, examples=[10.0])] = 10.0
    """`failoverTimeMillis` of the fleet, in seconds: beside its workers our lease duration has to be the same."""
    leader: Literal["refuse", "gone"] = "refuse"
    """`gone` says that the fleet of the KCL 3.x is stopped, though the record of its leader is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamoDBUrl:
    """`table` may hold the placeholder."""

    table: str
    options: DynamoDBOptions

    @property
    def aws(self) -> AwsOptions:
        return AwsOptions(**self.options.model_dump(include=set(AwsSettings.model_fields)))

    @property
    def read_only(self) -> bool:
        return self.options.mode == "shadow"

    @property
    def companion(self) -> str:
        """The table for what no table of the KCL has a place for; one for all pipelines of the store."""
        return self.table.replace(PLACEHOLDER, _FOR_ALL) + _SUFFIX

    def lease_table(self, pipeline: str) -> str:
        return self.table.replace(PLACEHOLDER, pipeline)


def parse_url(url: str) -> DynamoDBUrl:
    """Read `dynamodb://TABLE?name=value&…`.

    Raises:
        ConfigError: every mistake in it.
    """
    rest = url.removeprefix(_SCHEME)
    table, _, query = rest.partition("?")
    table = table.removesuffix("/")
    problems = []
    if rest == url or not _TABLE_NAME.fullmatch(table.replace(PLACEHOLDER, _FOR_ALL)):
        problems.append(
            f"store: {table!r} is no name of a table: write {_SCHEME}TABLE, of 3 to 238 of a-z A-Z 0-9 _ . -, in which "
            f"{PLACEHOLDER} stands for the pipeline's name"
        )
    pairs = parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in pairs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"store: {', '.join(repeated)} is there twice")
    options = DynamoDBOptions()
    try:
        options = DynamoDBOptions.model_validate(dict(pairs))
    except ValidationError as error:
        problems += [f"store: {problem(each, DynamoDBOptions)}" for each in error.errors()]
    if problems:
        raise ConfigError(problems)
    return DynamoDBUrl(table=table, options=options)
