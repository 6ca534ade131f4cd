"""URLs, keys and entries of the NATS store, without a server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.dead_letters import LetterQuery
from streamflow.errors import ConfigError, StoreError
from streamflow.leases import LeaseKey, WindowState
from streamflow.testing.store_contract.leases import LEASE
from streamflow.testing.store_contract.letters import letter
from streamflow_nats import nats_store
from streamflow_nats.store_configuration import configuration
from streamflow_nats.store_keys import (
    is_found,
    item_token,
    items_filter,
    lease_place,
    lease_rows,
    letter_filter,
    letter_place,
    text_of,
    token,
)
from streamflow_nats.store_letter_entries import ERROR_TEXT_MAX
from streamflow_nats.store_letter_entries import decoded as decoded_letter
from streamflow_nats.store_letter_entries import encoded as encoded_letter
from streamflow_nats.store_rows import PIECE_BYTES, decoded, encoded
from streamflow_nats.store_url import StoreUrl, parse_url


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("nats://localhost", {"servers": ("localhost:4222",)}),
        ("nats://a:1,b,[::1]:3/?bucket=x-1_Y", {"servers": ("a:1", "b:4222", "[::1]:3"), "bucket": "x-1_Y"}),
        ("nats://user:p%40%2Fss@a", {"servers": ("a:4222",), "username": "user", "password": "p@/ss"}),
        ("nats://t0k%3Aen@a?replicas=3", {"servers": ("a:4222",), "token": "t0k:en", "replicas": 3}),
        ("nats://a?creds=%2Fetc%2Fx.creds", {"servers": ("a:4222",), "credentials_file": "/etc/x.creds"}),
        ("nats://a?tls=true", {"servers": ("a:4222",), "tls": True}),
        ("nats://a?tls=false", {"servers": ("a:4222",)}),
        ("nats://a?ca=x.pem", {"servers": ("a:4222",), "tls": True, "ca_file": "x.pem"}),
    ],
)
def test_a_url_says_where_the_store_is(url: str, parsed: dict[str, Any]) -> None:
    assert parse_url(url) == StoreUrl(**parsed)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nats://", "names no server"),
        ("nats://u:hunter2@", "names no server"),
        ("nats://u:hunter2@a:b", "names no server"),
        ("nats://u:hunter@2@a", "names no server"),
        ("nats://u:hunter2@a,,b", "names no server"),
        ("tls://u:hunter2@a", "names no server"),
        ("nats://u:hunter2@a#x", "names no server"),
        ("nats://u:hunter2@[a", "cannot be read"),
        ("nats://u:hunter2@a?bucket", "cannot be read"),
        ("nats://u:hunter2@a/bucket", "has no path"),
        ("nats://u:hunter2@a?buket=x", "buket, which means nothing"),
        ("nats://u:hunter2@a?bucket=a.b", "bucket is"),
        ("nats://u:hunter2@a?bucket=", "bucket is"),
        ("nats://u:hunter2@a?replicas=2", "replicas is"),
        ("nats://u:hunter2@a?tls=yes", "tls is"),
        ("nats://u:hunter2@a?tls=false&ca=x", "tls=false"),
        ("nats://u:hunter2@a?cert=x", "cert and key"),
        ("nats://u:hunter2@a?creds=x", "choose one"),
    ],
)
def test_a_url_that_cannot_be_is_refused_with_the_reason(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        parse_url(url)
    assert "hunter" not in str(refused.value)


def test_what_is_shown_of_a_url_is_no_secret() -> None:
    for url in ("nats://u:hunter2@a,b", "nats://hunter2@a,b"):
        parsed = parse_url(url)
        assert parsed.shown == "nats://a:4222,b:4222?bucket=streamflow"
        assert "hunter2" not in repr(parsed)


def test_the_example_of_the_plugin_is_a_url() -> None:
    assert parse_url(nats_store.url_example).replicas == 3


@given(st.text())
def test_any_text_is_a_token_that_tells_what_it_was(text: str) -> None:
    made = token(text)
    assert 0 < len(made) <= 200
    assert not set(made) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-=")
    assert text_of(made) in ({None} if made.startswith("==") else {text})


@given(st.text(min_size=201), st.text(min_size=201))
def test_long_texts_have_digests_of_their_own(one: str, other: str) -> None:
    assert text_of(token(one)) is None
    assert (token(one) == token(other)) == (one == other)


def test_a_lone_surrogate_has_a_token() -> None:
    assert text_of(token("a\ud800")) == "a\ud800"


def test_rows_of_a_stream_are_found_and_no_others() -> None:
    keys = lease_rows("orders", "arn:1")
    place = lease_place(LeaseKey("orders", "arn:1", "shard.1"))
    assert is_found(keys, f"{place}.row")
    assert not is_found(keys, f"{place}.window.1.0")
    for other in (LeaseKey("orders", "arn:2", "s"), LeaseKey("Orders", "arn:1", "s"), LeaseKey("orders.arn", "1", "s")):
        assert not is_found(keys, f"{lease_place(other)}.row")


def test_letters_are_found_by_what_is_asked_for() -> None:
    kept = letter(1)
    key = f"{letter_place('dead', kept)}.letter"
    for name in ("pipeline", "stream_arn", "shard_id", "item_key"):
        asked: dict[str, Any] = {"drawer": "dead", name: getattr(kept, name)}
        assert is_found(letter_filter(LetterQuery(**asked)), key)
        for another in ("another", ""):
            assert not is_found(letter_filter(LetterQuery(**{**asked, name: another})), key)
    assert not is_found(letter_filter(LetterQuery(drawer="parked")), key)
    parked = f"{letter_place('parked', kept)}.letter"
    assert is_found(items_filter(kept.pipeline, kept.stream_arn, item_token(parked)), parked)


@pytest.mark.parametrize("size", [0, 1, 4 << 10, (4 << 10) + 1, PIECE_BYTES, PIECE_BYTES + 1, 1 << 20])
def test_a_large_state_is_apart_from_its_row_in_pieces_that_every_server_takes(size: int) -> None:
    state = b"\n" * size
    lease = replace(LEASE, window=WindowState(0, 60, state))
    data, pieces = encoded(lease, is_littered=True)
    row = decoded(data, "key")
    assert (row.pieces, row.is_littered) == (len(pieces), True)
    assert max(map(len, [data, *pieces])) <= PIECE_BYTES
    assert row.lease == (replace(lease, window=WindowState(0, 60, b"")) if pieces else lease)
    assert b"".join(pieces) in (b"", state)
    assert bool(pieces) == (size > 4 << 10)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]\n", b"null\n", b'{"pipeline":1}', b"\xff\n"])
def test_a_damaged_row_is_an_error_that_names_it(data: bytes) -> None:
    with pytest.raises(StoreError, match=r"the row leases\.a\.row is damaged"):
        decoded(data, "leases.a.row")


def test_a_row_with_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(StoreError, match="cannot be stored"):
        encoded(replace(LEASE, owner="\ud800"), is_littered=False)


def test_a_damaged_letter_is_an_error_that_quotes_nothing() -> None:
    for data in (b"", b'{"secret":1}', b'"secret"\n', b"secret\n"):
        with pytest.raises(StoreError, match="letter 7 is damaged") as refused:
            decoded_letter(data, 7)
        assert "secret" not in str(refused.value)


def test_any_error_is_kept_and_a_long_one_is_cut() -> None:
    data, _ = encoded_letter(letter(1, error_type="E\ud800", error_text="\ud800" + "x" * 100_000))
    kept, _ = decoded_letter(data, 1)
    assert kept.error_type == "E\\ud800"
    assert kept.error_text == "\\ud800" + "x" * (ERROR_TEXT_MAX - 1)
    assert len(data) < PIECE_BYTES


def test_a_bucket_is_one_that_nats_knows_as_such() -> None:
    made = configuration("orders", 3)
    assert (made["name"], made["subjects"], made["num_replicas"]) == ("KV_orders", ["$KV.orders.>"], 3)
