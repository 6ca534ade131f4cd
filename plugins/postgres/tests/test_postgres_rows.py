"""Records as rows, statements as text, settings: nothing here touches a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.sdk import ConfigError, RecordRefusedError
from streamflow.testing.sink_contract import Changes
from streamflow_postgres import PostgresSettings, postgres
from streamflow_postgres.connecting import verified
from streamflow_postgres.rows import columns, encode, latest
from streamflow_postgres.statements import definition, merge, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

_DSN = "postgresql://streamflow:secret-word@db.example.com/shop"


def _settings(**settings: Any) -> PostgresSettings:
    return PostgresSettings.model_validate({"dsn": _DSN, "table": "orders", **settings})


@given(text=st.text(alphabet=st.sampled_from('\x00\\u0a"')))
def test_exactly_the_texts_with_a_nul_are_refused(text: str) -> None:
    record = Changes().put("one", field={"S": text})
    if "\x00" in text:
        with pytest.raises(RecordRefusedError, match="NUL"):
            encode(record)
    else:
        assert orjson.loads(encode(record).image or "")["field"] == text


def test_a_nul_in_a_name_or_deep_inside_is_refused_too() -> None:
    changes = Changes()
    for attributes in ({"a\x00": {"S": ""}}, {"deep": {"M": {"list": {"L": [{"S": "\x00"}]}}}}):
        with pytest.raises(RecordRefusedError):
            encode(changes.put("one", **attributes))


def test_numbers_keep_all_their_digits() -> None:
    digits = "12345678901234567890123456789012345678"
    row = encode(Changes().put("one", number={"N": digits}))
    assert row.image is not None
    assert f'"number":{digits}' in row.image


def test_a_delete_has_no_image_and_the_same_key() -> None:
    changes = Changes()
    put, deleted = encode(changes.put("one")), encode(changes.delete("one"))
    assert deleted.image is None
    assert deleted.key == put.key == orjson.dumps({"id": changes.item("one")}).decode()


def test_the_last_change_of_each_item_is_kept_and_all_writers_take_items_in_one_order() -> None:
    changes = Changes()
    for name in ("b", "a", "c", "a", "b"):
        changes.put(name)
    rows = [encode(record) for record in changes.records]
    kept = latest(rows)
    assert [row.key for row in kept] == sorted({row.key for row in rows})
    assert {row.event_id for row in kept} == {rows[2].event_id, rows[3].event_id, rows[4].event_id}


def test_columns_are_in_the_order_of_the_statement() -> None:
    rows = [encode(record) for record in Changes().put_many(2)]
    keys, images, sequence_numbers, event_ids = columns(rows)
    assert keys == [row.key for row in rows]
    assert images == [row.image for row in rows]
    assert sequence_numbers == [row.record.sequence_number for row in rows]
    assert event_ids == [row.record.event_id for row in rows]


def test_names_are_quoted_part_by_part() -> None:
    assert quoted("shop.orders") == '"shop"."orders"'
    assert quoted('a"b') == '"a""b"'


def test_values_of_the_configuration_cannot_leave_their_quotes() -> None:
    statement = merge(_settings(columns={"it's \\": "note"}), {"note": "text"}).of_arrays
    assert r"E'it''s \\'" in statement


def test_more_columns_than_a_function_takes_are_written_by_several() -> None:
    names = [f"c{number}" for number in range(90)]
    statement = merge(_settings(columns=dict(zip(names, names, strict=True))), {}).of_arrays
    assert statement.count("jsonb_build_object(") == 3


def test_the_readme_shows_the_tables_as_the_sink_creates_them(request: pytest.FixtureRequest) -> None:
    readme = (request.path.parents[1] / "README.md").read_text(encoding="utf-8")
    assert definition(_settings()) in readme
    assert definition(_settings(table="order_changes", mode="append")) in readme


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dsn": "mysql://user:secret-word@db/shop"}, "dsn: must begin with postgresql://"),
        ({"dsn": "postgresql://user:secret-word@[db/shop"}, "dsn: cannot be read"),
        ({"dsn": "postgresql://user:secret-word@db:port/shop"}, "dsn: cannot be read"),
        ({"table": "orders; drop table orders"}, "table: "),
        ({"columns": {"key": "key"}}, "columns: the sink itself writes key"),
        ({"columns": {"a": "x", "b": "x"}}, "columns: a column is there for two attributes"),
        ({"columns": {"a": "x.y"}}, "columns: 'x.y' is no name of a column"),
        ({"pool_size": 0}, "pool_size: "),
    ],
)
def test_a_mistake_is_told_without_the_secret(settings: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        postgres(**{"dsn": _DSN, "table": "orders", **settings})
    assert message in str(caught.value)
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("dsn", "is_verified"),
    [
        (_DSN, True),
        (_DSN + "?sslmode=disable", False),
        (_DSN + "?sslmode=require", False),
        ("postgresql:///shop", False),
        ("postgresql://user@/shop?host=/run/postgresql", False),
    ],
)
def test_tls_is_verified_unless_the_dsn_says_how(dsn: str, is_verified: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    found = verified(dsn)
    assert bool(found) == is_verified
    if is_verified:
        assert found["ssl"].check_hostname
    monkeypatch.setenv("PGSSLMODE", "disable")
    assert verified(dsn) == {}


@pytest.mark.parametrize(
    ("settings", "idempotence", "key"),
    [
        ({}, "versioned", "item key and sequence number"),
        ({"mode": "append"}, "versioned", "event id"),
        ({"transactional": True}, "transactional", "stream, shard and sequence number"),
    ],
)
def test_what_is_promised_depends_on_the_mode(settings: Mapping[str, Any], idempotence: str, key: str) -> None:
    found = postgres(dsn=_DSN, table="orders", **settings).capabilities
    assert (found.idempotence, found.idempotence_key) == (idempotence, key)
