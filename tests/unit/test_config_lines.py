"""The scanner finds the line of every key that tomllib finds a value for."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from streamflow.config.lines import KeyLines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow.config.lines import KeyPath

DOCUMENT = '''\
# a comment with "quotes" and [brackets]
store = "sqlite:///a#b.db"   # not a key = 1
aws.region = "eu-west-1"

[http]
port = 9_102

[pipelines."orders.eu"]
note = """
batch_size = 1
"quoted" \\""" [table]
"""
other = \'\'\'
it's = "here"\'\'\'
batch_size = 100
aws = { region = "x", deep.er = [ 1, {y = 2} ] }
times = [
  2026-01-01T00:00:00Z, # first
  07:30:00,

  "]",
]

[[pipelines."orders.eu".middleware]]
type = "timeout"
[pipelines."orders.eu".middleware.settings]
seconds = 3
  [[pipelines."orders.eu".middleware]]
  type = 'drop'
  [["pipelines".'orders.eu'.middleware.inner]]
  deep = -inf
'''

O = ("pipelines", "orders.eu")  # noqa: E741 - a short name keeps the table below readable
EXPECTED = {
    ("store",): 2,
    ("aws",): 3,
    ("aws", "region"): 3,
    ("http",): 5,
    ("http", "port"): 6,
    O: 8,
    (*O, "note"): 9,
    (*O, "other"): 13,
    (*O, "batch_size"): 15,
    (*O, "aws"): 16,
    (*O, "aws", "region"): 16,
    (*O, "aws", "deep", "er", 1, "y"): 16,
    (*O, "times"): 17,
    (*O, "times", 0): 18,
    (*O, "times", 1): 19,
    (*O, "times", 2): 21,
    (*O, "middleware"): 24,
    (*O, "middleware", 0): 24,
    (*O, "middleware", 0, "type"): 25,
    (*O, "middleware", 0, "settings"): 26,
    (*O, "middleware", 0, "settings", "seconds"): 27,
    (*O, "middleware", 1): 28,
    (*O, "middleware", 1, "type"): 29,
    (*O, "middleware", 1, "inner", 0): 30,
    (*O, "middleware", 1, "inner", 0, "deep"): 31,
}


def test_every_kind_of_key_has_its_line() -> None:
    lines = KeyLines(DOCUMENT)
    assert {path: lines.line(path) for path in EXPECTED} == EXPECTED


def test_every_value_of_the_document_has_a_line_of_its_own() -> None:
    known = KeyLines(DOCUMENT)._lines
    assert [path for path in _paths(tomllib.loads(DOCUMENT)) if path not in known and path != ("pipelines",)] == []


def test_a_missing_key_is_at_the_line_of_its_table() -> None:
    lines = KeyLines(DOCUMENT)
    assert lines.line((*O, "handler")) == 8
    assert lines.line((*O, "middleware", 1, "reason")) == 28
    assert lines.line(("pipelines_", "x")) == 1


def test_windows_line_ends_count_once() -> None:
    assert KeyLines("a = 1\r\n\r\n[b]\r\nc = 2\r\n").line(("b", "c")) == 4


@given(
    st.dictionaries(
        st.text(min_size=1, alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
        st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"])),
        max_size=6,
    )
)
def test_quoted_keys_and_strings_of_any_text_are_passed_over(values: dict[str, str]) -> None:
    text = "".join(f"{_quoted(key)} = {_quoted(value)} # {line}\n" for line, (key, value) in enumerate(values.items()))
    lines = KeyLines(text)
    assert [lines.line((key,)) for key in tomllib.loads(text)] == list(range(1, len(values) + 1))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _paths(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _paths(inner, (*path, index))
