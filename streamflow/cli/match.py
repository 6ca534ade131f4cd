"""`streamflow match`: the dry run of a filter pattern on records in files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import orjson

from streamflow.cli import options
from streamflow.cli.main import Exit
from streamflow.errors import ConfigError, PatternError
from streamflow.rules.patterns.compiling import compile_pattern
from streamflow.rules.patterns.explanations import explain_mismatch
from streamflow.rules.patterns.traps import explain_traps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_FILE = click.Path(exists=True, dir_okay=False, allow_dash=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of one record; `reasons` say why it does not match."""

    event_id: str | None
    sequence_number: str | None
    reasons: tuple[str, ...]

    @property
    def matches(self) -> bool:
        return not self.reasons


@click.command(short_help="Try a filter pattern on records, and see why it does not match.")
@click.argument("pattern", type=_FILE, metavar="PATTERN.json")
@click.argument("events", type=_FILE, metavar="EVENT.json")
@click.option("--extensions", is_flag=True, help="Let the pattern do what Lambda's cannot, as filter_extensions does.")
@options.as_json("Print one JSON object.")
@options.debug
def match(pattern: str, events: str, *, extensions: bool, as_json: bool) -> int:
    """Say of each record whether the filter pattern matches it, and if not, which part of the pattern fails.

    PATTERN.json holds one pattern, EVENT.json a Lambda event, a record, an array of records, or one record a line; one of
    them may be - for stdin. Exits with 0 if a record matches, 1 if none does, 2 if a file is wrong.
    """
    if pattern == events == "-":
        raise click.UsageError("PATTERN.json and EVENT.json cannot both be stdin.")
    text = _read(pattern)
    try:
        matches = compile_pattern(text, extensions=extensions)
        traps = explain_traps(text, extensions=extensions)
    except PatternError as error:
        raise ConfigError(f"{_named(pattern)}: {error}") from None
    verdicts = [
        _verdict(record, matches, lambda event: explain_mismatch(text, event, extensions=extensions))
        for record in _records(events)
    ]
    for trap in traps:
        click.echo(f"warning: {trap}", err=True)
    click.echo(_report(verdicts, traps) if as_json else "\n".join(_lines(verdicts)))
    return Exit.OK if any(verdict.matches for verdict in verdicts) else Exit.FAILED


def _named(file: str) -> str:
    return "stdin" if file == "-" else file


def _read(file: str) -> str:
    try:
        with click.open_file(file, "rb") as opened:
            content: bytes = opened.read()
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{_named(file)}: the file is not UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{_named(file)}: {error.strerror}") from None


def _records(file: str) -> list[dict[str, Any]]:
    """The records of a Lambda event, of an array, of lines, or the only one."""
    text, name = _read(file), _named(file)
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        document = _of_lines(text, name, error)
    if isinstance(document, dict):
        document = document.get("Records", [document])
    if not isinstance(document, list) or not document:
        raise ConfigError(f"{name}: there are no records: neither an event with Records, nor a record, nor several")
    for number, record in enumerate(document, start=1):
        if not isinstance(record, dict):
            raise ConfigError(f"{name}: record {number} is no JSON object")
    return document


def _of_lines(text: str, name: str, whole: orjson.JSONDecodeError) -> list[Any]:
    """Lines of JSON, if the text as a whole is none."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    documents: list[Any] = []
    for number, line in lines:
        try:
            document = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            where = f"line {number}: {error.msg}" if documents else str(whole)
            raise ConfigError(f"{name}: neither JSON nor lines of JSON: {where}") from None
        documents += document["Records"] if _is_event(document) else [document]
    return documents


def _is_event(document: object) -> bool:
    return isinstance(document, dict) and isinstance(document.get("Records"), list)


def _verdict(
    record: dict[str, Any],
    matches: Callable[[Mapping[str, Any]], bool],
    explain: Callable[[Mapping[str, Any]], tuple[str, ...]],
) -> Verdict:
    change = record.get("dynamodb")
    number = change.get("SequenceNumber") if isinstance(change, dict) else None
    event_id = record.get("eventID")
    return Verdict(
        event_id=event_id if isinstance(event_id, str) else None,
        sequence_number=number if isinstance(number, str) else None,
        reasons=() if matches(record) else explain(record),
    )


def _lines(verdicts: list[Verdict]) -> list[str]:
    lines = []
    for number, verdict in enumerate(verdicts, start=1):
        names = (("eventID", verdict.event_id), ("sequence number", verdict.sequence_number))
        named = " ".join(f"{name} {_plain(value)}" for name, value in names if value)
        lines.append(f"{number}  {'match   ' if verdict.matches else 'no match'}  {named}".rstrip())
        lines += [f"     {reason}" for reason in verdict.reasons]
    matching = sum(verdict.matches for verdict in verdicts)
    return [*lines, f"{matching} of {len(verdicts)} records match"]


def _plain(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _report(verdicts: list[Verdict], traps: tuple[str, ...]) -> str:
    return json.dumps(
        {
            "matching": sum(verdict.matches for verdict in verdicts),
            "warnings": traps,
            "records": [
                {
                    "event_id": verdict.event_id,
                    "sequence_number": verdict.sequence_number,
                    "matches": verdict.matches,
                    "reasons": verdict.reasons,
                }
                for verdict in verdicts
            ],
        }
    )
