"""`streamflow match` is the dry run of a filter pattern."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from streamflow.cli.main import invoke

if TYPE_CHECKING:
    from pathlib import Path

INSERT: dict[str, Any] = {
    "eventID": "7de3041dd709b024af6f29e4fa13d34c",
    "eventName": "INSERT",
    "dynamodb": {"Keys": {"id": {"S": "1"}}, "NewImage": {"n": {"N": "5"}}, "SequenceNumber": "1100"},
}
REMOVE: dict[str, Any] = {**INSERT, "eventID": "e2", "eventName": "REMOVE"}
PATTERN = {"eventName": ["INSERT"]}


class Files:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capsys = capsys

    def write(self, name: str, content: object) -> str:
        path = self._folder / name
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    def match(self, pattern: object, events: object, *options: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        code = invoke(["match", self.write("pattern.json", pattern), self.write("event.json", events), *options])
        told = self._capsys.readouterr()
        return code, told.out, told.err


@pytest.fixture
def files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Files:
    return Files(tmp_path, capsys)


def test_each_record_is_told_with_what_failed(files: Files) -> None:
    code, out, err = files.match(PATTERN, {"Records": [INSERT, REMOVE]})
    assert out.splitlines() == [
        "1  match     eventID 7de3041dd709b024af6f29e4fa13d34c sequence number 1100",
        "2  no match  eventID e2 sequence number 1100",
        "     eventName: found a string 'REMOVE', wanted [\"INSERT\"]",
        "1 of 2 records match",
    ]
    assert (code, err) == (0, "")


LINES = f"{json.dumps(INSERT)}\n\n{json.dumps(REMOVE)}\n"


@pytest.mark.parametrize(
    ("events", "matching"),
    [
        ({"Records": [INSERT]}, "1 of 1"),
        (INSERT, "1 of 1"),
        ([INSERT, REMOVE, INSERT], "2 of 3"),
        (LINES, "1 of 2"),
        (json.dumps({"Records": [INSERT]}) + "\n" + json.dumps({"Records": [REMOVE, INSERT]}), "2 of 3"),
        (json.dumps(INSERT, indent=2), "1 of 1"),
    ],
)
def test_events_are_an_event_a_record_an_array_or_lines(files: Files, events: object, matching: str) -> None:
    code, out, _ = files.match(PATTERN, events)
    assert out.splitlines()[-1] == f"{matching} records match"
    assert code == 0


def test_no_match_at_all_is_exit_code_1(files: Files) -> None:
    code, out, _ = files.match(PATTERN, [REMOVE])
    assert (code, out.splitlines()[-1]) == (1, "0 of 1 records match")


def test_a_record_without_names_is_told_by_its_number(files: Files) -> None:
    _, out, _ = files.match({"a": [1]}, [{"a": 1}, {"a": 2, "dynamodb": 5, "eventID": 7}])
    assert out.splitlines()[:2] == ["1  match", "2  no match"]


def test_traps_are_warnings(files: Files) -> None:
    pattern = {"dynamodb": {"NewImage": {"n": {"N": [{"numeric": [">", 1]}]}}}}
    code, out, err = files.match(pattern, INSERT)
    assert code == 1
    assert "found a string '5', wanted" in out
    assert err.startswith("warning: dynamodb.NewImage.n.N: numeric never matches an attribute of type N")


def test_extensions_are_an_option(files: Files) -> None:
    pattern = {"dynamodb": {"NewImage": {"n": {"N": [{"numeric": [">", 1]}]}}}}
    assert files.match(pattern, INSERT, "--extensions")[0::2] == (0, "")
    changed = {"dynamodb": {"NewImage": {"n": [{"changed": True}]}}}
    assert files.match(changed, INSERT, "--extensions")[0] == 0
    assert "filter_extensions" in files.match(changed, INSERT)[2]


def test_json_is_one_object(files: Files) -> None:
    code, out, err = files.match({**PATTERN, "event": [{"exists": False}]}, [INSERT, REMOVE], "--json")
    report = json.loads(out)
    assert (code, err.count("warning: "), report["matching"], len(report["warnings"])) == (0, 1, 1, 1)
    assert report["records"] == [
        {"event_id": INSERT["eventID"], "sequence_number": "1100", "matches": True, "reasons": []},
        {
            "event_id": "e2",
            "sequence_number": "1100",
            "matches": False,
            "reasons": ["eventName: found a string 'REMOVE', wanted [\"INSERT\"]"],
        },
    ]


@pytest.mark.parametrize(
    ("pattern", "events", "problem"),
    [
        ({"a": [{"prefix": 1}]}, INSERT, "pattern.json: Invalid filter pattern definition. (prefix takes a string"),
        ("{", INSERT, "pattern.json: Invalid filter pattern definition. (not JSON"),
        (b"\xff", INSERT, "pattern.json: the file is not UTF-8"),
        (PATTERN, b"\xff", "event.json: the file is not UTF-8"),
        (PATTERN, "", "event.json: there are no records"),
        (PATTERN, [], "event.json: there are no records"),
        (PATTERN, {"Records": []}, "event.json: there are no records"),
        (PATTERN, {"Records": "x"}, "event.json: there are no records"),
        (PATTERN, "5", "event.json: there are no records"),
        (PATTERN, [INSERT, 5], "event.json: record 2 is no JSON object"),
        (PATTERN, "{", "event.json: neither JSON nor lines of JSON: "),
        (PATTERN, f"{json.dumps(INSERT)}\n{{", "event.json: neither JSON nor lines of JSON: line 2: "),
    ],
)
def test_a_wrong_file_is_exit_code_2(files: Files, pattern: object, events: object, problem: str) -> None:
    code, out, err = files.match(pattern, events)
    assert (code, out) == (2, "")
    assert problem in err
    assert err.startswith("error: ")


def test_a_missing_file_is_exit_code_2(files: Files) -> None:
    assert invoke(["match", files.write("pattern.json", PATTERN), "lost.json"]) == 2


def test_one_of_the_files_may_be_stdin(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def stdin(content: object) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(content).encode()), "utf-8"))

    stdin([INSERT])
    assert invoke(["match", files.write("pattern.json", PATTERN), "-"]) == 0
    stdin(PATTERN)
    assert invoke(["match", "-", files.write("event.json", [INSERT])]) == 0
    assert invoke(["match", "-", "-"]) == 2


def test_control_characters_of_a_record_do_not_reach_the_terminal(files: Files) -> None:
    record = {**REMOVE, "eventID": "\x1b[2J", "eventName": "\x9b1m"}
    _, out, _ = files.match(PATTERN, [record])
    assert all(line.isprintable() for line in out.splitlines())
