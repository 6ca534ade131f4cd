"""Records as what the scripts take, names of keys, settings: nothing here touches a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.records import Record, Shard
from streamflow.sdk import ConfigError, RecordRefusedError, StreamflowError, sortable
from streamflow.testing.sink_contract import Changes
from streamflow_redis import RedisSettings, redis
from streamflow_redis.entries import hash_entry, json_entry, stream_entry
from streamflow_redis.errors import code_of
from streamflow_redis.keys import beside, hash_tag, item_key

if TYPE_CHECKING:
    from collections.abc import Mapping

_URL = "rediss://streamflow:secret-word@cache.example.com:6379/0"
_SHARD = Shard(stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/1", shard_id="shardId-1")


def _settings(**settings: Any) -> RedisSettings:
    return RedisSettings.model_validate({"url": _URL, **settings})


def _record(keys: dict[str, Any]) -> Record:
    change = {"SequenceNumber": "1" * 21, "Keys": keys, "NewImage": keys}
    text = orjson.dumps({"eventID": "e", "eventName": "INSERT", "dynamodb": change})
    return Record(msgspec.Raw(text), _SHARD)


def test_the_key_of_an_item_is_its_key_attributes() -> None:
    record = _record({"sort": {"S": "2026:11"}, "pk": {"S": "user%:1"}})
    assert item_key(record, prefix="order:", attributes=()) == "order:user%25%3A1:2026:11"
    assert item_key(record, prefix="", attributes=("sort", "pk")) == "2026%3A11:user%:1"
    assert item_key(record, prefix="", attributes=("pk",)) == "user%:1"
    assert item_key(_record({"id": {"N": "42"}}), prefix="", attributes=()) == "42"
    with pytest.raises(StreamflowError, match="key_attributes names other, and the key of the table is pk, sort"):
        item_key(record, prefix="", attributes=("other",))
    with pytest.raises(RecordRefusedError):
        item_key(_record({}), prefix="", attributes=())


_PARTS = st.text(alphabet=st.sampled_from("a:%25"))


@given(one=st.tuples(_PARTS, _PARTS), other=st.tuples(_PARTS, _PARTS))
def test_no_two_items_have_the_same_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    keys = [
        item_key(_record({"pk": {"S": first}, "sk": {"S": second}}), prefix="", attributes=())
        for first, second in (one, other)
    ]
    assert (keys[0] == keys[1]) == (one == other)


@pytest.mark.parametrize(("key", "tag"), [("a{b}c{d}", "b"), ("{}a", ""), ("a{b", ""), ("a}b{c", ""), ("plain", "")])
def test_what_lies_beside_a_key_is_in_its_slot(key: str, tag: str) -> None:
    assert hash_tag(key) == tag
    if tag:
        assert hash_tag(beside(key)) == tag
    elif "{" not in key and "}" not in key:
        assert hash_tag(beside(key)) == key


def test_a_version_orders_as_its_number_does() -> None:
    changes = Changes()
    record = changes.put("one")
    entry = json_entry(record, _settings(key_prefix="p:"))
    key = f"p:{changes.item('one')}"
    assert entry.keys == (key, f"_sf:{{{key}}}")
    assert entry.arguments[:3] == (sortable(record.sequence_number), record.event_id, 1)
    assert json_entry(changes.delete("one"), _settings()).arguments[2:] == (0,)


def test_a_hash_has_texts_as_they_are_and_all_else_as_json() -> None:
    changes = Changes()
    digits = "12345678901234567890123456789012345678"
    record = changes.put("one", text={"S": "a\x00"}, number={"N": digits}, tags={"SS": ["x"]}, none={"NULL": True})
    _, _, count, *content = hash_entry(record, _settings(mode="hash")).arguments
    fields = dict(zip(content[::2], content[1::2], strict=True))
    assert count == 2 * len(fields)
    assert fields["text"] == "a\x00"
    assert (fields["number"], fields["tags"], fields["none"]) == (digits.encode(), b'["x"]', b"null")
    with pytest.raises(RecordRefusedError, match="begin with _sf_"):
        hash_entry(changes.put("two", _sf_seq={"S": ""}), _settings(mode="hash"))


def test_an_entry_of_a_stream_is_known_by_its_event_id() -> None:
    record = Changes().put("one")
    entry = stream_entry(record, _settings(mode="stream", stream="orders"))
    assert entry.keys == (record.event_id,)
    assert entry.arguments[0] == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "http://user:secret-word@host"}, "url: must begin with redis://"),
        ({"url": "redis://user:secret-word@host:port/0"}, "url: cannot be read"),
        ({"mode": "stream"}, "stream: mode stream needs it"),
        ({"mode": "publish"}, "channel: mode publish needs it"),
        ({"mode": "json", "maxlen": 5}, "maxlen: not in mode json"),
        ({"mode": "hash", "payload": "change"}, "payload: not in mode hash"),
        ({"tombstone_ttl_s": 1}, "tombstone_ttl_s: "),
    ],
)
def test_a_mistake_is_told_without_the_secret(settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        redis(**{"url": _URL, **settings})
    assert message in str(caught.value)
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "idempotence", "needs_images"),
    [
        ({}, "versioned", True),
        ({"payload": "lambda"}, "versioned", False),
        ({"mode": "hash"}, "versioned", True),
        ({"mode": "stream", "stream": "s"}, "window", False),
        ({"mode": "publish", "channel": "c"}, "none", False),
        ({"mode": "invalidate"}, "none", False),
    ],
)
def test_what_is_promised_depends_on_the_mode(
    settings: Mapping[str, Any], idempotence: str, needs_images: bool
) -> None:
    found = redis(url=_URL, **settings).capabilities
    assert (found.idempotence, found.needs_images) == (idempotence, needs_images)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "WRONGTYPE"),
        ("OOM command not allowed when used memory > 'maxmemory'. script: abc, on @user_script:12.", "OOM"),
        ("Error running script (call to f_1): @user_script:1: -OOM command not allowed", "OOM"),
        ("unknown command 'EVALSHA'", ""),
    ],
)
def test_the_code_of_an_answer_is_found_wherever_the_server_puts_it(text: str, code: str) -> None:
    assert code_of(text) == code
