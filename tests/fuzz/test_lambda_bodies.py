"""What a Lambda function answers, as bytes or as any Python value: success, failed records, or a failed batch."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.near_json import FRAGMENTS, encoded, json_values, spliced
from streamflow.batches import Batch, Window
from streamflow.errors import LambdaFunctionError, PartialFailure
from streamflow.handlers.responses import encode_response
from streamflow.records import Record, Shard
from streamflow.rules.responses import accept_response

SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/label", shard_id="shard")
NUMBERS = ["100000000000000000001", "100000000000000000002"]


def batch(*, window: bool) -> Batch:
    records = [
        Record(msgspec.Raw(b'{"dynamodb":{"SequenceNumber":"%s"}}' % number.encode()), SHARD) for number in NUMBERS
    ]
    open_window = Window(start_s=0, end_s=60, state={}, is_final=False) if window else None
    return Batch(pipeline="orders", shard=SHARD, records=records, window=open_window)


def answered(body: bytes, *, window: bool, reporting: bool) -> None:
    given_batch = batch(window=window)
    try:
        accept_response(body, given_batch, reporting=reporting)
    except PartialFailure as failure:
        assert failure.sequence_numbers
        assert set(failure.sequence_numbers) <= set(NUMBERS)
    except LambdaFunctionError as error:
        assert error.function_error is None
        return
    if given_batch.window is not None:
        assert isinstance(given_batch.window.state, dict)


@given(st.data(), st.booleans(), st.booleans())
def test_a_response_that_is_nearly_right_is_understood_or_fails_its_batch(
    data: st.DataObject, window: bool, reporting: bool
) -> None:
    right = {
        "batchItemFailures": [{"itemIdentifier": number} for number in NUMBERS],
        "state": {"a": data.draw(json_values)},
    }
    answered(spliced(encoded(right), data), window=window, reporting=reporting)


@given(st.binary(max_size=100) | st.sampled_from(FRAGMENTS), st.booleans(), st.booleans())
@example(b'{"state":' + b"[" * 2_000, True, True)
@example(b'{"state":[1]}', True, False)
@example(b'{"state":{"a":"\\ud800"}}', True, False)
def test_any_bytes_are_understood_or_fail_their_batch(body: bytes, window: bool, reporting: bool) -> None:
    answered(body, window=window, reporting=reporting)


class Odd:
    """What no encoder knows."""


values: Any = st.recursive(
    json_values
    | st.binary(max_size=4)
    | st.decimals()
    | st.just(Odd())
    | st.sampled_from([1e999, 2**70, "\ud800", Decimal("sNaN")]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.tuples(st.text(max_size=2)), inner, max_size=3)
        | st.tuples(inner, inner)
        | st.sets(st.integers(), max_size=2)
    ),
    max_leaves=6,
)  # fmt: skip


@given(values)
def test_any_value_is_a_response_or_fails_its_batch(value: Any) -> None:
    try:
        body = encode_response(value)
    except LambdaFunctionError:
        return
    answered(body, window=True, reporting=True)


def test_a_value_in_itself_fails_its_batch() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(LambdaFunctionError, match="no JSON"):
        encode_response(value)
