"""Declarations: values that say everything that is wrong with them at once, in Lambda's words where an option is Lambda's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from streamflow.errors import ConfigError
from streamflow.sdk import problems
from streamflow.sdk.settings import Settings

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails


class Declaration(Settings):
    """A frozen declaration; a wrong one raises `ConfigError` with every mistake in it."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            name = values.get("name", "")
            where = f"{type(self).__name__} {name!r}" if isinstance(name, str) and name else type(self).__name__
            raise ConfigError([f"{where}: {problem(detail, type(self))}" for detail in error.errors()]) from None


# What Lambda's API calls the options that are Lambda's, for the texts in which its model refuses them.
_MEMBERS = {
    "starting_position": "startingPosition",
    "batch_size": "batchSize",
    "maximum_batching_window_s": "maximumBatchingWindowInSeconds",
    "parallelization_factor": "parallelizationFactor",
    "maximum_retry_attempts": "maximumRetryAttempts",
    "maximum_record_age_s": "maximumRecordAgeInSeconds",
    "tumbling_window_s": "tumblingWindowInSeconds",
}


def problem(detail: ErrorDetails, model: type[BaseModel] | None = None) -> str:
    """One mistake in one line: what, where, found. Values that may be secret are not shown.

    What Lambda's API refuses by its model reads as Lambda says it, behind our own path.
    """
    if refusal := _refusal(detail):
        return f"{problems.place(detail)}: {refusal}"
    return problems.problem(detail, model)


def _refusal(detail: ErrorDetails) -> str | None:
    member = _MEMBERS.get(str(detail["loc"][-1])) if detail["loc"] else None
    found = detail.get("input")
    if member is None or not isinstance(found, str | int | float) or len(str(found)) > 80:
        return None
    limits = detail.get("ctx", {})
    match detail["type"]:
        case "greater_than_equal":
            must = f"have value greater than or equal to {int(limits['ge'])}"
        case "less_than_equal":
            must = f"have value less than or equal to {int(limits['le'])}"
        case "literal_error" if found == "AT_TIMESTAMP":
            return "Unsupported starting position for arn type: a DynamoDB stream has TRIM_HORIZON and LATEST"
        case "literal_error":
            must = "satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]"
        case _:
            return None
    value = int(found) if isinstance(found, float) and found.is_integer() else found
    return f"Value '{value}' at '{member}' failed to satisfy constraint: Member must {must}"
