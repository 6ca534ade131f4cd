"""URLs of stores, and what is found out without a server: keys, looks, and what an error means."""

from __future__ import annotations

import pytest
import redis.exceptions as redis_errors

from streamflow.dead_letters import LetterQuery
from streamflow.errors import ConfigError, StoreError, UnknownOutcomeError
from streamflow_redis import redis_store, rediss_store
from streamflow_redis.letter_looks import BYTES_MAX, ID_MAX, LOOKS_MAX, first_look, id_text
from streamflow_redis.store_errors import StoreRefusedError, explained
from streamflow_redis.store_keys import StoreKeys
from streamflow_redis.store_url import StoreUrl, parse_url

SECRET = "t0p-s3cret"


# --- URLs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache.example.com", StoreUrl(host="cache.example.com")),
        ("redis://[::1]:7000/", StoreUrl(host="::1", port=7000)),
        (
            "redis://us%40er:p%2F%23%40ss@cache.example.com:7000/3?prefix=orders:prod&wait_replicas=2",
            StoreUrl(
                host="cache.example.com",
                port=7000,
                database=3,
                username="us@er",
                password="p/#@ss",
                prefix="orders:prod",
                wait_replicas=2,
            ),
        ),
        (
            f"rediss://:{SECRET}@cache.example.com/0?ssl_ca_certs=/etc/ca%20one.pem",
            StoreUrl(host="cache.example.com", password=SECRET, tls=True, files={"ssl_ca_certs": "/etc/ca one.pem"}),
        ),
    ],
)
def test_a_url_is_read(url: str, expected: StoreUrl) -> None:
    assert parse_url(url) == expected
    assert SECRET not in f"{parse_url(url)!r}{parse_url(url).address}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"redis://:{SECRET}@cache:port/0", "cannot be read"),
        (f"redis://:{SECRET}@/0", "names no server"),
        (f"redis://:{SECRET}@cache/0#{SECRET}", "%23 and %2F"),
        (f"redis://:{SECRET}@cache/orders", "the number of a database"),
        (f"redis://:{SECRET}@cache/-1", "the number of a database"),
        (f"redis://:{SECRET}@cache/0?prefix=a{{b}}", "prefix is"),
        (f"redis://:{SECRET}@cache/0?prefix=", "prefix is"),
        (f"redis://:{SECRET}@cache/0?wait_replicas=all", "wait_replicas is"),
        (f"redis://:{SECRET}@cache/0?wait_replicas=", "wait_replicas is"),
        (f"redis://:{SECRET}@cache/0?ssl_ca_certs=a.pem", "write rediss://"),
        (f"rediss://:{SECRET}@cache/0?ssl_cert_reqs=none", "ssl_cert_reqs, which means nothing here"),
        (f"redis://:{SECRET}@cache/0?retry_on_timeout=yes&db=3", "db, retry_on_timeout, which"),
    ],
)
def test_a_url_that_is_wrong_is_told_without_its_password(url: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as caught:
        parse_url(url)
    assert SECRET not in str(caught.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url("redis://cache/x?prefix=&wait_replicas=x&y=1")
    assert len(caught.value.problems) == 4


def test_the_plugins_are_named_after_their_schemes_and_share_their_way_to_open() -> None:
    assert (redis_store.name, rediss_store.name) == ("redis", "rediss")
    assert redis_store.open is rediss_store.open
    assert parse_url(redis_store.url_example).prefix == "streamflow"
    assert parse_url(rediss_store.url_example).tls


# --- keys ------------------------------------------------------------------------------------------------------------


def test_all_keys_are_in_the_slot_of_the_prefix_and_no_two_streams_share_any() -> None:
    keys = StoreKeys("orders")
    streams = [("", "workers"), ("a", "b:c"), ("a:b", "c"), ("a%3Ab", "c"), ("a", "b"), ("a%", "3Ab:c")]
    found = [keys.about, keys.probe, *keys.drawer("dead"), *keys.drawer("parked")]
    for stream in streams:
        found += keys.leases(*stream)
    assert all(key.startswith("{orders}:") for key in found)
    assert len(set(found)) == len(found)


# --- looks -----------------------------------------------------------------------------------------------------------


def test_ids_order_as_texts_and_those_that_nobody_has_become_the_nearest() -> None:
    ids = [-(2**70), 0, 1, 9, 10, 999, 2**53, ID_MAX, 2**70]
    texts = [id_text(each) for each in ids]
    assert texts == sorted(texts)
    assert {len(text) for text in texts} == {16}


def test_a_query_is_answered_from_the_narrowest_part_of_the_index() -> None:
    everything = first_look(LetterQuery(drawer="dead", after_id=7))
    assert everything is not None
    assert everything.bounds == (b"(d0000000000000007", b"(d:")
    assert everything.counts_by_index
    pipeline = first_look(LetterQuery(drawer="dead", pipeline="orders", item_key="a"))
    assert pipeline is not None
    assert pipeline.bounds == (b'(p"orders"\0' + b"0" * 16, b'(p"orders"\0:')
    assert pipeline.wanted == (b"", b"", b"", b'"a"')
    assert not pipeline.counts_by_index
    item = first_look(LetterQuery(drawer="dead", pipeline="orders", stream_arn="arn", item_key='{"id":"\0"}'))
    assert item is not None
    assert item.bounds[1] == rb'(i"orders"' + b'\0"arn"\0' + rb'"{\"id\":\"\u0000\"}"' + b"\0:"
    assert item.counts_by_index


def test_ids_are_looked_at_in_order_once_each_a_thousand_at_a_time() -> None:
    look = first_look(LetterQuery(drawer="dead", ids=(*range(3_000, 500, -1), 501, 2**70, 0, -1), after_id=600))
    seen: list[bytes] = []
    while look is not None:
        *_, wanted = look.wanted
        page = look.arguments(letters_max=5)[9:]
        assert (wanted, look.arguments(letters_max=5)[:5]) == (b"", (b"", look.after, LOOKS_MAX, 5, BYTES_MAX))
        assert len(page) <= LOOKS_MAX
        seen += [each for each in page if isinstance(each, bytes)]
        look = look.beyond(seen[-1], more=False)
    assert seen == [id_text(each) for each in range(601, 3_001)]
    assert first_look(LetterQuery(drawer="dead", ids=(0, 5), after_id=5)) is None


# --- what an error means ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (redis_errors.BusyLoadingError("Redis is loading the dataset in memory"), "LOADING"),
        (redis_errors.AuthenticationError("invalid username-password pair or user is disabled."), "WRONGPASS"),
        (redis_errors.ReadOnlyError("You can't write against a read only replica."), "READONLY"),
        (redis_errors.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "OOM"),
        (redis_errors.NoPermissionError("this user has no permissions to run the 'evalsha' command"), "NOPERM"),
        (redis_errors.MasterDownError("Link with MASTER is down"), "MASTERDOWN"),
        (redis_errors.MovedError("7 127.0.0.1:7000"), "MOVED"),
        (redis_errors.AskError("7 127.0.0.1:7000"), "ASK"),
        (redis_errors.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), "MISCONF"),
        (
            redis_errors.ResponseError(
                "ERR Error running script (call to f_7): @user_script:3: WRONGTYPE Operation against a key"
            ),
            "WRONGTYPE",
        ),
    ],
)
def test_an_answer_that_refuses_means_that_nothing_happened_also_where_the_client_took_its_code_off(
    error: Exception, code: str
) -> None:
    told = explained(error, address="redis://cache:6379/0", tls=False, unknown=True)
    assert isinstance(told, StoreRefusedError)
    assert told.code == code
    assert f"redis://cache:6379/0: the server refuses ({code}): " in str(told)
    assert str(error) not in str(told)


@pytest.mark.parametrize(
    ("error", "next_step"),
    [
        (redis_errors.ConnectionError("Connection closed by server."), "start the server"),
        (redis_errors.TimeoutError("Timeout reading from socket"), "overloaded"),
        (TimeoutError(), "overloaded"),
        (OSError("reset"), "start the server"),
        (redis_errors.ResponseError("ACL failure in script: User u has no permissions to run 'hdel'"), "allow it EVAL"),
        (redis_errors.ResponseError("ERR Error running script: This user can't run this command"), "allow it EVAL"),
        (redis_errors.ResponseError("ERR something new"), "MONITOR"),
    ],
)
def test_everything_else_leaves_the_outcome_of_a_write_unknown(error: Exception, next_step: str) -> None:
    told = explained(error, address="redis://cache:6379/0", tls=False, unknown=True)
    assert type(told) is UnknownOutcomeError
    assert type(explained(error, address="redis://cache:6379/0", tls=False, unknown=False)) is StoreError
    assert next_step in str(told)


def test_over_tls_a_connection_that_fails_may_be_a_certificate() -> None:
    told = explained(OSError("certificate"), address="rediss://cache:6379/0", tls=True, unknown=False)
    assert "ssl_ca_certs=FILE" in str(told)
