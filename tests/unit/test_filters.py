"""The filters of a pipeline look at no more of a record than they must, and lose none that cannot be read."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import msgspec
import pytest

from streamflow.errors import PatternError
from streamflow.records import Record, Shard
from streamflow.rules.filters import compile_filters
from streamflow.rules.patterns.compiling import compile_pattern

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026"
SHARD = Shard(stream_arn=ARN, shard_id="shardId-1")
# The outline passes over it; whoever looks inside finds a number that is none.
BROKEN = '{"id":{"S":1e999}}'


def outline(
    name: str = "MODIFY", keys: str = '{"id":{"S":"1"}}', new: str | None = None, old: str | None = None, more: str = ""
) -> Record:
    images = (f',"NewImage":{new}' if new else "") + (f',"OldImage":{old}' if old else "")
    return Record(
        msgspec.Raw(
            f'{{"eventID":"e1","eventName":"{name}","eventVersion":"1.1","eventSource":"aws:dynamodb",'
            f'"awsRegion":"eu-west-1",{more}"dynamodb":{{"ApproximateCreationDateTime":1764085200,"Keys":{keys}{images},'
            f'"SequenceNumber":"1100","SizeBytes":54,"StreamViewType":"NEW_AND_OLD_IMAGES"}}}}'.encode()
        ),
        SHARD,
    )


def passes(record: Record, *patterns: dict[str, Any], extensions: bool = False) -> bool:
    accepts = compile_filters([json.dumps(pattern) for pattern in patterns], extensions=extensions)
    assert accepts is not None
    return accepts(record)


def test_without_patterns_there_is_no_filter() -> None:
    assert compile_filters([]) is None


def test_a_wrong_pattern_is_refused() -> None:
    with pytest.raises(PatternError):
        compile_filters(['{"eventName": ["INSERT"]}', "{}"])


def test_one_of_the_patterns_is_enough() -> None:
    insert, remove = {"eventName": ["INSERT"]}, {"eventName": ["REMOVE"]}
    assert [passes(outline(name), insert, remove) for name in ("INSERT", "MODIFY", "REMOVE")] == [True, False, True]


@pytest.mark.parametrize(
    "pattern",
    [
        {"eventName": ["MODIFY"]},
        {"eventID": ["e1"]},
        {"eventSourceARN": [ARN]},
        {"eventSource": ["aws:dynamodb"], "eventVersion": ["1.1"], "awsRegion": ["eu-west-1"]},
        {"userIdentity": {"type": ["Service"], "principalId": ["dynamodb.amazonaws.com"]}},
        {"dynamodb": {"ApproximateCreationDateTime": [1764085200]}},
        {"dynamodb": {"SequenceNumber": ["1100"], "SizeBytes": [54], "StreamViewType": ["NEW_AND_OLD_IMAGES"]}},
        {"dynamodb": {"Keys": {"id": {"S": ["1"]}}}},
        {"dynamodb": {"NewImage": {"n": {"N": ["1"]}}, "OldImage": {"n": {"N": ["2"]}}}},
        {"dynamodb": {"NewImage": {"a.b": {"S": ["x"]}}}},
        {"dynamodb": {"OldImage": {"l": {"L": {"S": ["y"]}}}}},
        {"dynamodb": [{"exists": False}], "userIdentity": [{"exists": False}]},
        {"dynamodb": {"NewImage": [{"exists": False}]}},
        {"unknown": [{"exists": False}], "eventName": {"S": [{"exists": False}]}},
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("negated", [False, True])
def test_a_record_is_filtered_in_the_form_that_lambda_gets(pattern: dict[str, Any], negated: bool) -> None:
    identity = '"userIdentity":{"PrincipalId":"dynamodb.amazonaws.com","Type":"Service"},'
    records = [
        outline(
            new='{"n":{"N":"1"},"a.b":{"S":"x"}}', old='{"n":{"N":"2"},"l":{"L":[{"S":"x"},{"S":"y"}]}}', more=identity
        ),
        outline("INSERT", '{"id":{"S":"2"}}', new='{"n":{"N":"2"}}'),
        outline("REMOVE", old='{"l":{"L":[]}}'),
    ]
    text = json.dumps(pattern)
    if negated:
        text = text.replace('["', '[{"anything-but":"').replace('"]', '"}]')
    answers = [passes(record, json.loads(text)) for record in records]
    assert answers == [compile_pattern(text)(record.lambda_event()) for record in records]
    assert answers[0] or negated


def test_missing_members_of_the_envelope_are_absent() -> None:
    record = Record(msgspec.Raw(b'{"eventName":"INSERT","dynamodb":{"SequenceNumber":"1","Keys":{}}}'), SHARD)
    for member in ("SizeBytes", "StreamViewType", "ApproximateCreationDateTime"):
        assert not passes(record, {"dynamodb": {member: [{"exists": True}]}})
        assert passes(record, {"dynamodb": {member: [{"exists": False}]}})


@pytest.mark.parametrize(
    "pattern",
    [
        {"eventName": ["INSERT"]},
        {"dynamodb": {"Keys": {"id": {"S": ["2"]}}}},
        {"dynamodb": {"SizeBytes": [1]}},
        {"userIdentity": {"type": ["Service"]}},
        {"eventSourceARN": ["x"]},
        {"dynamodb": {"Keys": {"id": {"S": ["1"]}}}, "eventName": ["INSERT"]},
        {"dynamodb": {"NewImage": {"a": {"S": ["x"]}}}, "eventName": ["INSERT"]},
        {"$or": [{"dynamodb": {"NewImage": {"a": {"S": ["x"]}}}}, {"eventName": ["x"]}], "eventName": ["INSERT"]},
    ],
    ids=json.dumps,
)
def test_a_filter_that_fails_on_the_envelope_or_the_keys_decodes_no_image(pattern: dict[str, Any]) -> None:
    assert not passes(outline(new=BROKEN, old=BROKEN), pattern)


def test_an_image_that_a_filter_comes_to_is_decoded() -> None:
    looks = {"dynamodb": {"NewImage": {"a": {"S": ["x"]}}}}
    assert passes(outline(new=BROKEN), looks), "what cannot be read passes"
    assert not passes(outline(new='{"a":{"S":"y"}}', old=BROKEN), looks)


def test_a_record_whose_keys_cannot_be_read_passes_whatever_is_asked() -> None:
    assert passes(outline(keys=BROKEN), {"eventName": ["INSERT"]})
    assert passes(outline(keys='{"id":{"N":1}}'), {"eventName": ["INSERT"]})


def test_what_no_pattern_asks_for_is_not_looked_at() -> None:
    assert not passes(outline(more='"userIdentity":1,'), {"eventName": ["INSERT"]})
    assert passes(outline(more='"userIdentity":1,'), {"userIdentity": {"type": ["Service"]}}), (
        "what cannot be read passes"
    )


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What filters decode."""
    texts: list[bytes] = []

    def decode(raw: msgspec.Raw) -> Any:
        texts.append(bytes(raw))
        return msgspec.json.decode(raw)

    monkeypatch.setattr("streamflow.rules.filters._decode", decode)
    return texts


def test_cheap_patterns_and_branches_are_asked_first(decoded: list[bytes]) -> None:
    costly, cheap = {"dynamodb": {"NewImage": {"a": {"S": ["x"]}}}}, {"eventName": ["MODIFY"]}
    assert passes(outline(new='{"a":{"S":"x"}}'), costly, cheap)
    assert passes(outline(new='{"a":{"S":"x"}}'), {"$or": [costly, cheap]})
    assert decoded == []
    assert passes(outline(new='{"a":{"S":"x"}}'), costly)
    assert len(decoded) == 1


def test_each_part_is_decoded_once_for_all_filters(decoded: list[bytes]) -> None:
    one, other = ({"dynamodb": {"NewImage": {"a": {"S": [text]}}}} for text in "yz")
    accepts = compile_filters([json.dumps(each) for each in (one, other, one)])
    assert accepts is not None
    assert not accepts(outline(new='{"a":{"S":"x"}}'))
    assert decoded == [b'{"a":{"S":"x"}}']
    assert not accepts(outline(new='{"a":{"S":"x"}}'))
    assert len(decoded) == 2, "another record is decoded anew"


@pytest.mark.fault("F8")
@pytest.mark.parametrize(
    "broken",
    [
        b"{",
        b'{"eventName":"MODIFY"}',
        b'{"eventName":"MODIFY","dynamodb":{"Keys":{"id":{"S":"1"}}}}',
        b'{"eventName":"MODIFY","dynamodb":{"SequenceNumber":"x","Keys":{"id":{"S":"1"}}}}',
        b'{"eventName":"MODIFY","dynamodb":{"SequenceNumber":"1"}}',
        b'{"dynamodb":{"SequenceNumber":"1","Keys":{"id":{"S":"1"}}}}',
        b'{"eventName":"UPSERT","dynamodb":{"SequenceNumber":"1","Keys":{"id":{"S":"1"}}}}',
        b'{"eventName":"MODIFY","dynamodb":{"SequenceNumber":"1","Keys":{"id":{"S":"\\ud800"}}}}',
        b'{"eventName":"MODIFY","dynamodb":{"SequenceNumber":"1","Keys":{"id":{"S":1e999}}}}',
    ],
)
def test_a_record_that_cannot_be_read_passes(broken: bytes) -> None:
    record = Record(msgspec.Raw(broken), SHARD)
    assert passes(record, {"dynamodb": {"Keys": {"id": {"S": ["2"]}}}, "unknown": ["x"]})


@pytest.mark.fault("F8")
def test_a_record_whose_rest_cannot_be_read_passes_whoever_asks_for_it() -> None:
    sound = b'{"eventName":"MODIFY","unknown":1e999,"dynamodb":{"SequenceNumber":"1","Keys":{"id":{"S":"1"}}}}'
    assert passes(Record(msgspec.Raw(sound), SHARD), {"unknown": ["x"]})
    assert not passes(Record(msgspec.Raw(sound), SHARD), {"eventName": ["INSERT"], "unknown": ["x"]})


@pytest.mark.fault("F8")
def test_a_readable_record_beside_it_does_not_pass() -> None:
    sound = b'{"eventName":"MODIFY","dynamodb":{"SequenceNumber":"1","Keys":{"id":{"S":"1"}}}}'
    record = Record(msgspec.Raw(sound), SHARD)
    assert not passes(record, {"dynamodb": {"Keys": {"id": {"S": ["2"]}}}, "unknown": ["x"]})


def test_extensions_work_on_records() -> None:
    changed: dict[str, Any] = {"dynamodb": {"NewImage": {"n": {"N": [{"changed": True}]}}}}
    above: dict[str, Any] = {"dynamodb": {"NewImage": {"n": {"N": [{"numeric": [">", 1.5]}]}}}}
    for (new, old), pattern in product([("2", "1"), ("2", "2"), ("1", "1"), ("1", "2")], (changed, above)):
        record = outline(new=f'{{"n":{{"N":"{new}"}}}}', old=f'{{"n":{{"N":"{old}"}}}}')
        assert passes(record, pattern, extensions=True) == (new != old if pattern is changed else new == "2")


def test_arrays_of_records_are_consistent_across_or() -> None:
    image = '{"l":{"L":[{"M":{"a":{"S":"1"}}},{"M":{"b":{"S":"2"}}}]}}'
    a, b = ({"dynamodb": {"NewImage": {"l": {"L": {"M": {name: {"S": [value]}}}}}}} for name, value in ("a1", "b2"))
    assert passes(outline(new=image), {**a, "$or": [b, {"eventName": ["MODIFY"]}]})
    assert not passes(outline(new=image), {**a, "$or": [b, {"eventName": ["INSERT"]}]})
