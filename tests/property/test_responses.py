"""Whatever a Lambda function returns means something (esm.md 3.4), and nothing it returns breaks the reader."""

from __future__ import annotations

import json
import sys
from collections import Counter
from random import Random
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.batches import Batch, Window
from streamflow.errors import LambdaFunctionError, PartialFailure
from streamflow.handlers.lambda_function import open_lambda_function
from streamflow.pipeline import LambdaFunction
from streamflow.records import Record, Shard
from streamflow.rules.responses import read_response

if TYPE_CHECKING:
    from collections.abc import Callable

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


@pytest.mark.fault("F22")
@given(st.lists(st.sampled_from(NUMBERS)), json_values, st.lists(st.sampled_from(NUMBERS)))
def test_one_unusable_entry_fails_the_whole_batch(before: list[str], unusable: object, after: list[str]) -> None:
    failures: list[object] = [{"itemIdentifier": number} for number in before]
    failures += [{"itemIdentifier": ["not", unusable]}, *({"itemIdentifier": number} for number in after)]
    meaning = read_response({"batchItemFailures": failures}, sequence_numbers=set(NUMBERS))
    assert isinstance(meaning, LambdaFunctionError)


# --- the table, row by row -------------------------------------------------------------------------------------------

Meaning: TypeAlias = Literal["success", "partial", "failure"]
_ABSENT = object()


def reported(response: Any) -> Any:
    return response.get("batchItemFailures", _ABSENT) if type(response) is dict else _ABSENT


def any_entry(wrong: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda response: any(wrong(entry) for entry in reported(response))


# The first row that applies counts; from the fourth on there is a list with something in it.
TABLE: list[tuple[str, Callable[[Any], bool], Meaning]] = [
    (
        "null, empty",
        lambda response: response is None or (type(response) in {str, list, dict} and not response),
        "success",
    ),
    ("no object", lambda response: type(response) is not dict, "failure"),
    ("nothing reported", lambda response: reported(response) in (_ABSENT, None, []), "success"),
    ("no list", lambda response: type(reported(response)) is not list, "failure"),
    ("entry that is no object", any_entry(lambda entry: type(entry) is not dict), "failure"),
    ("entry {}", any_entry(lambda entry: not entry), "failure"),
    ("entry with a wrong key", any_entry(lambda entry: "itemIdentifier" not in entry), "failure"),
    ("empty or null identifier", any_entry(lambda entry: entry["itemIdentifier"] in ("", None)), "failure"),
    ("identifier not in the batch", any_entry(lambda entry: entry["itemIdentifier"] not in NUMBERS), "failure"),
    ("identifiers of the batch", lambda response: True, "partial"),
]


def row(response: object) -> tuple[str, Meaning]:
    return next((name, meaning) for name, applies, meaning in TABLE if applies(response))


class Responses:
    """Draws JSON values near the shape that means something, and far from it."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def draw(self) -> object:
        match self._random.randrange(6):
            case 0:
                return self._value(3)
            case 1:
                return {"batchItemFailures": self._value(2)}
            case _:
                known: dict[str, object] = {
                    "batchItemFailures": [self._entry() for _ in range(self._random.randrange(4))]
                }
                more: list[dict[str, object]] = [
                    {},
                    {"statusCode": 200},
                    {"state": self._value(2)},
                    {"state": {"orders": 4, "ü": self._value(1)}},
                ]
                return known | self._random.choice(more)

    def _entry(self) -> object:
        match self._random.randrange(12):
            case 0:
                return self._value(1)
            case 1:
                return {}
            case 2:
                return {self._random.choice(["foo", "ItemIdentifier"]): self._value(1)}
            case 3:
                return {"itemIdentifier": self._random.choice(["", None, self._value(1)])}
            case _:
                return {"itemIdentifier": self._random.choice(NUMBERS)}

    def _value(self, depth: int) -> object:
        random = self._random
        if depth and random.random() < 0.4:
            values = [self._value(depth - 1) for _ in range(random.randrange(4))]
            if random.random() < 0.5:
                return values
            keys = random.choices(["batchItemFailures", "itemIdentifier", "state", "ü", ""], k=len(values))
            return dict(zip(keys, values, strict=True))
        number = random.choice([0, 1, -1, 123, 2**70, 0.5, 1e300])
        return random.choice([None, True, False, "", "123", "\0", random.choice(NUMBERS), [], {}, number])


def test_each_of_10_000_responses_is_a_row_of_the_table() -> None:
    drawn = Responses(34)
    rows: Counter[str] = Counter()
    for _ in range(10_000):
        response = drawn.draw()
        name, expected = row(response)
        rows[name] += 1
        meaning = read_response(response, sequence_numbers=NUMBERS)
        match expected:
            case "success":
                assert meaning is None, (name, response)
            case "partial":
                assert isinstance(meaning, PartialFailure), (name, response)
                assert list(meaning.sequence_numbers) == [entry["itemIdentifier"] for entry in reported(response)]
            case "failure":
                assert isinstance(meaning, LambdaFunctionError), (name, response)
                assert meaning.function_error is None
    assert {name for name, _, _ in TABLE} == {name for name, count in rows.items() if count >= 100}, rows


# --- the same through the whole adapter ------------------------------------------------------------------------------

SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/l", shard_id="shardId-1")


def a_batch(random: Random) -> Batch:
    texts = [f'{{"dynamodb":{{"SequenceNumber":"{number}"}}}}'.encode() for number in NUMBERS]
    records = [Record(msgspec.Raw(text), SHARD) for text in texts]
    window = Window(start_s=0, end_s=60, state={"before": 1})
    match random.randrange(4):
        case 0:
            return Batch(pipeline="orders", shard=SHARD, records=records, window=window)
        case 1:
            window.is_final = True
            return Batch(pipeline="orders", shard=SHARD, records=[], window=window)
        case _:
            return Batch(pipeline="orders", shard=SHARD, records=records)


def expected_outcome(response: object, batch: Batch, *, reporting: bool) -> tuple[str, object]:
    """What comes of the invocation, and the state that the window has then."""
    before = None if batch.window is None else {"before": 1}
    if isinstance(response, Exception | set):
        return "failure Unhandled", before
    meaning: str = row(response)[1] if reporting else "success"
    if meaning == "partial" and not batch.records:
        meaning = "failure"  # a final invocation has no records that could be reported
    if meaning != "failure" and batch.window is not None and not batch.window.is_final:
        returned = response.get("state") if type(response) is dict else None
        if type(returned) is dict:
            return meaning, returned
        meaning = "failure"
    return "failure None" if meaning == "failure" else meaning, before


async def outcome(invoke: Callable[[Batch], Any], batch: Batch) -> str:
    try:
        await invoke(batch)
    except PartialFailure:
        return "partial"
    except LambdaFunctionError as error:
        return f"failure {error.function_error}"
    return "success"


@pytest.mark.anyio
async def test_each_of_1_000_invocations_ends_as_its_response_says(monkeypatch: pytest.MonkeyPatch) -> None:
    random, drawn = Random(19), Responses(20)
    returned: list[object] = []

    def handler(event: object, context: object) -> object:
        if isinstance(returned[-1], Exception):
            raise returned[-1]
        return returned[-1]

    module = ModuleType("drawing_responses")
    vars(module)["handler"] = handler
    monkeypatch.setitem(sys.modules, "drawing_responses", module)
    seen: set[tuple[str, bool, bool]] = set()

    def declared(*, reporting: bool) -> LambdaFunction:
        return LambdaFunction(target="drawing_responses:handler", report_batch_item_failures=reporting)

    async with (
        open_lambda_function(declared(reporting=False)) as plain,
        open_lambda_function(declared(reporting=True)) as reports,
    ):
        for _ in range(1_000):
            batch, reporting = a_batch(random), random.random() < 0.7
            returned.append(random.choice([ValueError(), {1, 2}]) if random.random() < 0.1 else drawn.draw())
            expected, state = expected_outcome(returned[-1], batch, reporting=reporting)
            found = await outcome(reports if reporting else plain, batch)
            assert found == expected, (returned[-1], batch.window, reporting)
            assert (None if batch.window is None else batch.window.state) == as_read(state)
            seen.add((found, reporting, batch.window is not None))
    ends = ["success", "partial", "failure None", "failure Unhandled"]
    everything = {
        (end, reporting, windowed) for end in ends for reporting in (False, True) for windowed in (False, True)
    }
    never = {("partial", False, False), ("partial", False, True), ("failure None", False, False)}
    assert seen == everything - never


def as_read(value: object) -> object:
    """The JSON of it, read again: numbers beyond 64 bits are floats then."""
    return json.loads(json.dumps(value), parse_int=lambda text: int(text) if len(text) < 20 else float(text))
