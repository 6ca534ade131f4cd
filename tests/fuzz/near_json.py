"""Hypothesis strategies for bytes that are nearly what they should be: JSON with what parsers disagree about, and damage."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Sequence

# Spliced in as they stand: numbers beyond every type, duplicate keys, lone surrogates, depth, what only some parsers take.
FRAGMENTS: Sequence[bytes] = (
    b"1e999", b"-1e999", b"1E400", b"-0", b"0.1e-400", b"9" * 401, b"1" * 5_000, b"18446744073709551616", b"NaN", b"Infinity",
    b'{"S":"a","S":"b"}', b'{"S":"a","N":"1"}', b'{"S":"\\ud800"}', b'{"N":"1E+1000000"}', b'{"N":"1_0"}', b'{"N":"\\u0661"}',
    b'{"B":"===="}', b'{"B":"a"}', b'{"B":"\xc3\xa9"}', b'{"NS":["1","1.0"]}', b'{"L":[null]}', b'{"NULL":false}', b"{}", b"[]",
    b"null", b"true", b'""', b'"\\ud800"', b'"\xed\xa0\x80"', b'"\xff"', b"[" * 300 + b"]" * 300, b"[" * 5_000,
    b'{"M":{"a":' * 250 + b'{"S":"a"}' + b"}}" * 250, b'{"L":[' * 5_000, b"\x00", b"\xef\xbb\xbf", b",", b"}", b"]", b'"',
    b"\\",
)  # fmt: skip


def spliced(document: bytes, data: st.DataObject) -> bytes:
    """The document with up to four places replaced: by fragments, by bytes, by other parts of itself, or by nothing."""
    for _ in range(data.draw(st.integers(0, 4))):
        start = data.draw(st.integers(0, len(document)))
        end = data.draw(st.integers(start, min(len(document), start + 30)))
        inserted = data.draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=4) | st.just(document[end : end + 40]))
        document = document[:start] + inserted + document[end:]
    return document


def values_replaced(value: Any, data: st.DataObject, replacements: st.SearchStrategy[Any]) -> Any:
    """A JSON value with some of what is in it replaced, left out or under another name."""
    if data.draw(st.integers(0, 9)) == 0:
        return data.draw(replacements)
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if data.draw(st.integers(0, 11))}
        return {name: values_replaced(inner, data, replacements) for name, inner in kept.items()}
    if isinstance(value, list):
        return [values_replaced(inner, data, replacements) for inner in value]
    return value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def encoded(value: Any) -> bytes:
    """As JSON; lone surrogates stay the escapes that they are."""
    return json.dumps(value).encode()
