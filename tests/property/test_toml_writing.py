"""Whatever text is written into a pipeline file is read back from it."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from streamflow.config import writing
from streamflow.config.interpolation import interpolate
from streamflow.config.lines import KeyLines

# Hypothesis's `text` leaves lone surrogates out where it is asked to; quotes and the like are far too rare in it.
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.text("'\"\\\n\r\t$${}a ", max_size=30)
SURROGATES = st.text(st.characters(categories=["Cs"]) | st.just("a"), min_size=1)


def read_back(text: str) -> dict[str, Any]:
    filled, problems = interpolate(tomllib.loads(text), {"a": "leaked"})
    assert problems == []
    assert isinstance(filled, dict)
    return filled


@given(TEXTS)
@example("$${a}")
@example("''' and ${a}\n'")
@example("\ufeff\x7f\u2028\U0001f600\x00")
def test_a_string_reads_back_unchanged(text: str) -> None:
    assert read_back(f"before = 1\nkey = {writing.string(text)}\nafter = 2\n") == {
        "before": 1,
        "key": text,
        "after": 2,
    }


@given(TEXTS)
def test_a_key_reads_back_unchanged(text: str) -> None:
    assert tomllib.loads(f"[a.{writing.key(text)}]\nb = 1\n") == {"a": {text: {"b": 1}}}


@given(TEXTS)
def test_the_lines_behind_a_string_are_found(text: str) -> None:
    document = f"key = {writing.string(text)}\nafter = 2\n"
    assert KeyLines(document).line(("after",)) == document.count("\n")


@given(SURROGATES)
def test_a_lone_surrogate_becomes_its_json_escape(text: str) -> None:
    written = read_back(f"key = {writing.string(text)}\n")["key"]
    assert written == "".join(f"\\u{ord(each):04x}" if each != "a" else each for each in text)


@given(TEXTS)
def test_a_comment_stays_a_comment(text: str) -> None:
    assert tomllib.loads("\n".join(["a = 1", *writing.comment(text), "b = 2"])) == {"a": 1, "b": 2}


def test_plain_texts_are_written_as_people_write_them() -> None:
    assert writing.string("orders") == '"orders"'
    assert writing.string('{"eventName": ["INSERT"]}') == '\'{"eventName": ["INSERT"]}\''
    assert writing.string('{"a":\n["b"]}') == "'''\n{\"a\":\n[\"b\"]}'''"
    assert writing.string("it's\\") == "'''\nit's\\'''"
    assert [writing.value(found) for found in (True, 3, 0.5, "x")] == ["true", "3", "0.5", '"x"']
    assert [writing.key(text) for text in ("orders-1", "a.b", "")] == ["orders-1", '"a.b"', '""']
