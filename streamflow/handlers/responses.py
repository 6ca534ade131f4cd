"""What a Lambda function's response means for its batch (esm.md 3.4)."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from streamflow.errors import LambdaFunctionError, PartialFailure

if TYPE_CHECKING:
    from collections.abc import Collection


def is_unrun(result: object) -> bool:
    """True for a coroutine or a generator: the call ran none of its body, so nothing was done with the batch."""
    if inspect.iscoroutine(result):
        result.close()
        return True
    return inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result)


def read_response(
    response: object, *, sequence_numbers: Collection[str]
) -> PartialFailure | LambdaFunctionError | None:
    """Read the response of a function that reports item failures; None is full success.

    Nothing, an empty string, list or object, and an empty `batchItemFailures` are success. An entry without a usable
    `itemIdentifier`, or with one that is not in the batch, fails the whole batch, and so does any other response.
    """
    if response is None or response in ("", [], {}):
        return None
    if not isinstance(response, dict):
        return LambdaFunctionError(f"the function returned a {type(response).__name__}, not an object")
    failures = response.get("batchItemFailures")
    if failures is None or failures == []:
        return None
    if not isinstance(failures, list):
        return LambdaFunctionError("batchItemFailures in the function's response is no list")
    reported: list[str] = []
    for failure in failures:
        identifier = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        if not isinstance(identifier, str) or identifier not in sequence_numbers:
            return LambdaFunctionError("batchItemFailures names no sequence number of the batch")
        reported.append(identifier)
    return PartialFailure(reported)
