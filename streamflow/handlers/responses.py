"""What a function in this process returned, as the JSON that AWS Lambda would be sent.

A tuple has become a list by then, a `Decimal` a number. What the JSON means is `rules.responses`.
"""

from __future__ import annotations

import inspect
import json
from decimal import Decimal
from typing import Any

from streamflow.errors import LambdaFunctionError

# What AWS Lambda says where a response is longer (Function.ResponseSizeTooLarge).
RESPONSE_BYTES_MAX = 6_291_556


def is_unrun(result: object) -> bool:
    """True for a coroutine or a generator: the call ran none of its body, so nothing was done with the batch."""
    if inspect.iscoroutine(result):
        result.close()
        return True
    return inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result)


def encode_response(response: object) -> bytes:
    """The body that the Python runtime would send; `bytes` are a body already.

    Raises:
        LambdaFunctionError: there is no JSON for it (`Runtime.MarshalError`), or it is longer than Lambda takes.
    """
    if is_unrun(response):
        raise LambdaFunctionError(f"it returned a {type(response).__name__} that nobody runs")
    try:
        body = response if isinstance(response, bytes) else _encode(response).encode()
    except Exception as error:
        raise LambdaFunctionError(
            f"there is no JSON for the {type(response).__name__} that it returned ({type(error).__name__})"
        ) from error
    if len(body) > RESPONSE_BYTES_MAX:
        raise LambdaFunctionError(f"its response has {len(body)} bytes, Lambda takes {RESPONSE_BYTES_MAX}")
    return body


def _as_json(value: object) -> Any:
    """What the runtime's encoder knows beyond the standard library's."""
    if isinstance(value, Decimal):
        return json.loads(str(value))
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"no JSON for {type(value).__name__}")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_as_json).encode
