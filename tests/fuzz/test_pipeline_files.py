"""Pipeline files that are nearly right, or nothing at all: an app, or every mistake told; never an error of another kind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.near_json import values_replaced
from streamflow.config.load import load_file
from streamflow.errors import ConfigError

if TYPE_CHECKING:
    from streamflow.pipeline import App

VALUES: dict[str, Any] = {
    "store": "sqlite:///state.db",
    "lease_duration_s": 10,
    "aws": {"region": "eu-west-1", "endpoint_url": "http://127.0.0.1:8000"},
    "http": {"host": "127.0.0.1", "port": 0, "token": "secret-0123456789"},
    "pipelines": {
        "orders": {
            "table": "orders",
            "sink": {"type": "jsonl", "path": "orders.jsonl"},
            "batch_size": 25,
            "maximum_batching_window_s": 1.5,
            "starting_position": "TRIM_HORIZON",
            "filters": ['{"eventName": ["INSERT"]}'],
            "parallelization_factor": 2,
            "maximum_retry_attempts": 3,
            "on_failure": ["dead_letters"],
            "middleware": [{"type": "timeout", "seconds": 5}, {"type": "log_batches"}],
        },
        "copies": {
            "stream_arn": "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000",
            "fan_out": {
                "one": {"sink": {"type": "console"}, "tumbling_window_s": 0},
                "two": {"sink": {"type": "http", "url": "https://example.com/${WHERE}"}, "batch_size": 1},
            },
        },
    },
}
replacements = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    | st.sampled_from(["${NAME}", "${", "$$", "{}", "[]", "/", "no_such_module:no", "sqlite:", "memory:", "postgresql://", ""])
    | st.lists(st.integers() | st.text("ab", max_size=2), max_size=2)
    | st.dictionaries(st.sampled_from(["type", "path", "url", "table", "a b", ""]), st.text("ab", max_size=3), max_size=3)
)  # fmt: skip


def toml(value: Any) -> str:
    """Inline, so that any nesting can be written."""
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return '""'
        case int() | float():
            return repr(value)
        case str():
            return (
                json.dumps(value, ensure_ascii=True).replace("\x7f", "\\u007f") if value.isascii() else _escaped(value)
            )
        case list():
            return f"[{', '.join(map(toml, value))}]"
    return "{" + ", ".join(f"{toml(name)} = {toml(inner)}" for name, inner in value.items()) + "}"


def _escaped(text: str) -> str:
    """TOML has no surrogate pairs: eight digits for every character."""
    return '"' + "".join(f"\\U{ord(character):08x}" for character in text) + '"'


def load(text: str | bytes) -> App | None:
    """The app, or None where there were mistakes, each of them told with the file's name."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "pipelines.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            return load_file(file, {"WHERE": "here"})
        except ConfigError as error:
            assert error.problems
            assert all("pipelines.toml" in problem for problem in error.problems)
            assert "secret-0123456789" not in str(error)
            return None


def test_the_file_that_is_damaged_elsewhere_is_right() -> None:
    app = load("".join(f"{name} = {toml(value)}\n" for name, value in VALUES.items()))
    assert app is not None
    assert [pipeline.name for pipeline in app.pipelines] == ["orders", "copies"]


@given(st.data())
def test_a_file_that_is_nearly_right_is_loaded_or_refused(data: st.DataObject) -> None:
    damaged = values_replaced(VALUES, data, replacements)
    if isinstance(damaged, dict):
        load("".join(f"{toml(name)} = {toml(value)}\n" for name, value in damaged.items()))


@given(st.data())
def test_a_file_with_its_text_damaged_is_loaded_or_refused(data: st.DataObject) -> None:
    text = "".join(f"{name} = {toml(value)}\n" for name, value in VALUES.items())
    places = [found.start() for found in re.finditer(r"\W", text)]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(places))
        text = (
            text[:place]
            + data.draw(st.text('"=[]{}.,\\#\n\r\t\0é', max_size=3))
            + text[place + data.draw(st.integers(0, 2)) :]
        )
    load(text)


@given(st.binary(max_size=200) | st.text('ab="[].,{}\n#\\01e-:TZ', max_size=80).map(str.encode))
@example(b"a = " + b"[" * 5_000)
@example(b"a = " + b"{b=" * 5_000)
@example(b"a" + b".a" * 5_000 + b" = 1")
@example(b"[" + b"a." * 5_000 + b"a]\n")
@example(b"a = " + b"1" * 5_000)
@example(b"a = 9999-99-99T99:99:99Z")
def test_any_bytes_are_refused(content: bytes) -> None:
    assert load(content) is None
