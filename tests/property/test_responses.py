"""Whatever a Lambda function returns means something (esm.md 3.4), and nothing it returns breaks the reader."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamflow.errors import LambdaFunctionError, PartialFailure
from streamflow.handlers.responses import read_response

NUMBERS = [f"{number:021d}" for number in range(1, 6)]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.sampled_from(NUMBERS),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["batchItemFailures", "itemIdentifier"]) | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)
entries = st.lists(
    st.fixed_dictionaries({"itemIdentifier": st.sampled_from(NUMBERS) | json_values}) | json_values, max_size=5
)
responses = json_values | st.fixed_dictionaries({"batchItemFailures": entries | json_values})


@given(responses)
def test_any_response_is_success_partial_failure_or_failure(response: object) -> None:
    meaning = read_response(response, sequence_numbers=set(NUMBERS))
    if isinstance(meaning, PartialFailure):
        assert meaning.sequence_numbers
        assert set(meaning.sequence_numbers) <= set(NUMBERS)
    else:
        assert meaning is None or isinstance(meaning, LambdaFunctionError)


@given(responses)
def test_the_meaning_says_nothing_of_what_was_returned(response: object) -> None:
    meaning = read_response({"secret-key": "secret-value", "batchItemFailures": [response]}, sequence_numbers=NUMBERS)
    assert "secret" not in str(meaning)


@given(st.lists(st.sampled_from(NUMBERS), min_size=1))
def test_all_reported_numbers_of_the_batch_are_passed_on(reported: list[str]) -> None:
    response = {"batchItemFailures": [{"itemIdentifier": number} for number in reported]}
    meaning = read_response(response, sequence_numbers=set(NUMBERS))
    assert isinstance(meaning, PartialFailure)
    assert meaning.sequence_numbers == tuple(reported)


@given(st.lists(st.sampled_from(NUMBERS)), json_values, st.lists(st.sampled_from(NUMBERS)))
def test_one_unusable_entry_fails_the_whole_batch(before: list[str], unusable: object, after: list[str]) -> None:
    failures: list[object] = [{"itemIdentifier": number} for number in before]
    failures += [{"itemIdentifier": ["not", unusable]}, *({"itemIdentifier": number} for number in after)]
    meaning = read_response({"batchItemFailures": failures}, sequence_numbers=set(NUMBERS))
    assert isinstance(meaning, LambdaFunctionError)
