"""What the response of a Lambda function means for its batch (esm.md 3.4 and 4), wherever the function runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from streamflow.errors import LambdaFunctionError, PartialFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streamflow.batches import Batch


def accept_response(body: bytes, batch: Batch, *, reporting: bool) -> None:
    """Raise what the response means for the batch; keep the state that it returns for the batch's window.

    The final invocation of a window need not return a state, and one that it returns is discarded. A partial failure
    is raised once the state is kept: it stands for the records that are done.

    Raises:
        PartialFailure: records failed; only with `reporting`.
        LambdaFunctionError: the response fails the whole batch; its `function_error` is None.
    """
    window = batch.window if batch.window is not None and not batch.window.is_final else None
    if not reporting and window is None:
        return
    response = _decoded(body)
    failure: PartialFailure | LambdaFunctionError | None = None
    if reporting:
        failure = read_response(response, sequence_numbers=(record.sequence_number for record in batch))
    if isinstance(failure, LambdaFunctionError):
        raise failure
    if window is not None:
        window.state = _state(response)
    if failure is not None:
        raise failure


def _decoded(body: bytes) -> object:
    try:
        return orjson.loads(body) if body else None
    except orjson.JSONDecodeError:
        raise _invalid("its response is not JSON") from None


def _state(response: object) -> dict[str, Any]:
    state = response.get("state") if isinstance(response, dict) else None
    if not isinstance(state, dict):
        raise _invalid("its response has no object `state`, which the next invocation of the window is to get")
    return state


def _invalid(reason: str) -> LambdaFunctionError:
    return LambdaFunctionError(reason, function_error=None)


def read_response(response: object, *, sequence_numbers: Iterable[str]) -> PartialFailure | LambdaFunctionError | None:
    """Read the decoded response of a function that reports item failures; None is full success.

    Nothing, an empty string, list or object, and an object whose `batchItemFailures` is absent, null or empty are
    success. An entry without a usable `itemIdentifier`, or with one that is not in the batch, fails the whole batch,
    and so does any other response. `sequence_numbers`, those of the batch, are only looked at for entries.
    """
    if response is None or response in ("", [], {}):
        return None
    if not isinstance(response, dict):
        return _invalid(f"its response is a {type(response).__name__}, not an object")
    failures = response.get("batchItemFailures")
    if failures is None or failures == []:
        return None
    if not isinstance(failures, list):
        return _invalid("batchItemFailures in its response is no list")
    known = frozenset(sequence_numbers)
    reported: list[str] = []
    for failure in failures:
        identifier = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        if not isinstance(identifier, str) or identifier not in known:
            return _invalid("batchItemFailures in its response names no sequence number of the batch")
        reported.append(identifier)
    return PartialFailure(reported)
