"""Which letters the commands `dlq` and `parked` are about: their shared options, and how a letter is shown."""

from __future__ import annotations

import datetime as dt
import functools
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click
import msgspec
import orjson

from streamflow.dead_letters import LetterQuery
from streamflow.engine.letters import pages
from streamflow.errors import ConfigError, MalformedRecordError, PatternError
from streamflow.observe.lines import one_line
from streamflow.records import Record, Shard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from streamflow.dead_letters import DeadLetter, Drawer
    from streamflow.pipeline import App
    from streamflow.protocols import StateStore

_KEY_WIDTH_MAX = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the options say. `pipelines` are those of the file, or the one that was named; none of them is all."""

    store: str
    app: App | None
    pipelines: tuple[str, ...]
    shard_id: str | None
    item_key: str | None
    ids: tuple[int, ...]
    pattern: str | None
    restricted: bool
    """By more than the file."""

    def queries(self, drawer: Drawer) -> list[LetterQuery]:
        """One for each pipeline; a letter is in one of them at most."""
        pipelines: tuple[str | None, ...] = self.pipelines or (None,)
        return [
            LetterQuery(drawer=drawer, pipeline=pipeline, shard_id=self.shard_id, item_key=self.item_key, ids=self.ids)
            for pipeline in pipelines
        ]

    def accepts(self) -> Callable[[Record], bool] | None:
        """What `--pattern` says of a record; None where it was not given.

        A record that cannot be read does not match, other than in a pipeline, where it passes: nobody chose it.
        """
        if self.pattern is None:
            return None
        from streamflow.rules.filters import compile_filters

        try:
            matches = compile_filters((self.pattern,), extensions=True)
        except PatternError as error:
            raise ConfigError(f"--pattern: {error}") from None

        def accepts(record: Record) -> bool:
            return _is_readable(record) and (matches is None or matches(record))

        return accepts

    @property
    def one_pipeline(self) -> tuple[App, str]:
        """Raises `click.UsageError` where it does not follow from FILE and `--pipeline`."""
        if self.app is None or not self.pipelines:
            raise click.UsageError("Name the FILE that declares the pipeline.")
        name, *others = self.pipelines
        if others:
            raise click.UsageError(
                f"FILE has several pipelines: name one of {', '.join(self.pipelines)} by --pipeline."
            )
        return self.app, name


def _is_readable(record: Record) -> bool:
    try:
        return all((record.event_name, record.item_key, record.lambda_event()))
    except MalformedRecordError:
        return False


# --- the options -----------------------------------------------------------------------------------------------------


def selecting(*, file_required: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options that choose letters; the command gets them as `selection`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def selected(
            *,
            target: str | None,
            store: str | None,
            pipeline: str | None,
            shard: str | None,
            key: str | None,
            ids: tuple[int, ...],
            pattern: str | None,
            **others: Any,
        ) -> Any:
            app, url = declared(target, store)
            names = () if app is None else tuple(each.name for each in app.flows)
            if pipeline is not None and names and pipeline not in names:
                raise ConfigError(f"--pipeline: {target} has no {pipeline!r}, but {', '.join(names)}")
            selection = Selection(
                store=url,
                app=app,
                pipelines=names if pipeline is None else (pipeline,),
                shard_id=shard,
                item_key=None if key is None else canonical_key(key),
                ids=ids,
                pattern=pattern,
                restricted=any(given for given in (pipeline, shard, key, ids, pattern)),
            )
            return command(selection=selection, **others)

        for option in reversed(_OPTIONS):
            selected = option(selected)
        return _place(required=file_required)(selected)

    return decorate


_OPTIONS = (
    click.option("--pipeline", metavar="NAME", help="Only those of this pipeline."),
    click.option("--shard", metavar="ID", help="Only those of this shard."),
    click.option("--key", metavar="JSON", help="Only those of this item: its key in DynamoDB's JSON."),
    click.option("--id", "ids", type=click.IntRange(min=1), multiple=True, metavar="N", help="Only these; repeatable."),
    click.option("--pattern", metavar="JSON", help="Only records that match this filter pattern."),
)


def _place(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """FILE and `--store`: where letters are kept."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        help_text = "Store to use instead of FILE's." if required else "Store to use instead of FILE, or of FILE's."
        command = click.option("--store", metavar="URL", help=help_text)(command)
        return click.argument("target", metavar="FILE" if required else "[FILE]", required=required)(command)

    return decorate


def placed(command: Callable[..., Any]) -> Callable[..., Any]:
    """FILE and `--store`; the command gets the store's URL as `store`."""

    @functools.wraps(command)
    def with_store(*, target: str | None, store: str | None, **others: Any) -> Any:
        return command(store=declared(target, store)[1], **others)

    return _place(required=False)(with_store)


def declared(target: str | None, store: str | None) -> tuple[App | None, str]:
    """What FILE declares, if it was given, and the URL of the store that was meant."""
    app = None
    if target is not None:
        from streamflow.config.load import load_app  # the tables of pipeline files, which a store alone does not need

        app = load_app(target)
    if store is not None:
        return app, store
    if app is None:
        raise click.UsageError("Name a FILE, or the store by --store sqlite:///PATH.")
    return app, app.store


def canonical_key(text: str) -> str:
    """An item's key as `Record.item_key` has it.

    Raises:
        ConfigError: it is no JSON object of attributes.
    """
    try:
        key = orjson.loads(text)
    except orjson.JSONDecodeError:
        key = None
    if not isinstance(key, dict) or not key or not all(isinstance(value, dict) for value in key.values()):
        raise ConfigError(f'--key: {one_line(text)!r} is no key in DynamoDB\'s JSON, such as {{"id": {{"S": "o-2"}}}}')
    return orjson.dumps(key, option=orjson.OPT_SORT_KEYS).decode()


# --- the store -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def opened(url: str, *, new: bool = False) -> AsyncIterator[StateStore]:
    """The store of earlier runs; with `new` also one without.

    Raises:
        ConfigError: it has no earlier runs.
    """
    from streamflow.plugins import open_store

    path = url.removeprefix("sqlite:///")
    if path != url and not new and not await anyio.Path(path).exists():  # opening it would make an empty one
        raise ConfigError(f"store: there is no file {Path(path)}: nothing has run with it yet")
    if url == "memory:":
        raise ConfigError("store: memory: ends with its worker, and has nothing to show")
    async with open_store(url) as store:
        yield store


async def selected_letters(store: StateStore, selection: Selection, drawer: Drawer) -> AsyncGenerator[DeadLetter, None]:
    """The letters of a selection by ascending id, pipeline by pipeline."""
    accepts = selection.accepts()
    for query in selection.queries(drawer):
        async for page in pages(store, query):
            for letter in page:
                if accepts is None or accepts(record_of(letter)):
                    yield letter


def record_of(letter: DeadLetter) -> Record:
    return Record(msgspec.Raw(letter.record), Shard(stream_arn=letter.stream_arn, shard_id=letter.shard_id))


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether `--yes` was given, or somebody says so. Outside the event loop: there, Ctrl-C would not end the question."""
    if yes or click.confirm(question, err=True):
        return True
    click.echo("nothing was deleted", err=True)
    return False


# --- how they are shown ----------------------------------------------------------------------------------------------


def time_text(epoch_s: float) -> str:
    return f"{dt.datetime.fromtimestamp(epoch_s, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def key_text(item_key: str) -> str:
    """On one line, and shortened."""
    text = one_line(item_key)
    return text if len(text) <= _KEY_WIDTH_MAX else text[: _KEY_WIDTH_MAX - 1] + "…"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with a title above each column; nothing in them moves a cursor."""
    cells = [titles, *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(titles))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def number_of(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """Several lines, in which nothing else moves a cursor or colours a terminal: it is written as JSON escapes it."""
    return "".join(
        character if character == "\n" or character.isprintable() else json.dumps(character)[1:-1] for character in text
    )
