"""Which leases the commands `leases` and `checkpoint` are about: their shared options, their streams, and their rows."""

from __future__ import annotations

import functools
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from streamflow.cli import letters, options
from streamflow.errors import ConfigError, StoreError, UnknownOutcomeError
from streamflow.rules.steps import after
from streamflow.targets import did_you_mean

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from streamflow.leases import Lease
    from streamflow.pipeline import App, DynamoDBStream, Pipeline
    from streamflow.protocols import Source, StateStore
    from streamflow.rules.steps import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What the options say: a store, the pipelines in it, and how to find their streams."""

    store: str
    app: App | None
    pipelines: tuple[str, ...]
    stream: DynamoDBStream | None
    aws: Mapping[str, str | None]
    new: bool = False
    """The store need not have had any runs."""

    @property
    def flows(self) -> list[Pipeline | None]:
        """The declaration of each pipeline, as far as there is a file."""
        known = {} if self.app is None else {flow.name: flow for flow in self.app.flows}
        return [known.get(name) for name in self.pipelines]

    def one_pipeline(self) -> str:
        """Raises `ConfigError` where there are several."""
        name, *others = self.pipelines
        if others:
            raise ConfigError(f"FILE has several pipelines: name one of {', '.join(self.pipelines)} by --pipeline")
        return name


def placed(words: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """FILE, or store, pipeline and stream by options; the command gets them as `at`.

    `words` is what follows FILE, for people; the command gets it as `words`. FILE may be left out before it, because
    nothing else ends with .toml or has a colon in it.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_place(
            *,
            arguments: tuple[str, ...],
            store: str | None,
            pipeline: str | None,
            stream: str | None,
            endpoint_url: str | None,
            region: str | None,
            **others: Any,
        ) -> Any:
            target = arguments[0] if arguments and (not words or _names_file(arguments[0])) else None
            rest = arguments[target is not None :]
            if words:
                others["words"] = rest
            elif rest:
                raise click.UsageError(f"Got unexpected extra argument ({' '.join(rest)})")
            app, url = letters.declared(target, store)
            at = Placed(
                store=url,
                app=app,
                pipelines=_pipelines(target, app, pipeline),
                stream=None if stream is None else options.stream(stream),
                aws={"endpoint_url": endpoint_url, "region": region},
            )
            return command(at=at, **others)

        for option in reversed(_OPTIONS):
            with_place = option(with_place)
        return click.argument("arguments", metavar=f"[FILE] {words}".rstrip(), nargs=-1)(with_place)

    return decorate


def _names_file(word: str) -> bool:
    return word.endswith(".toml") or ":" in word


def _pipelines(target: str | None, app: App | None, name: str | None) -> tuple[str, ...]:
    if app is None:
        if name is None:
            raise click.UsageError("--store goes with --pipeline NAME, where there is no FILE.")
        return (name,)
    names = tuple(flow.name for flow in app.flows)
    if name is not None and name not in names:
        raise ConfigError(f"--pipeline: {target} has no {name!r}, but {', '.join(names)}")
    return names if name is None else (name,)


_OPTIONS = (
    click.option("--store", metavar="URL", help="Store to use instead of FILE, or of FILE's."),
    click.option("--pipeline", metavar="NAME", help="Only this pipeline; goes with --store."),
    click.option("--stream", metavar="TABLE|ARN", help="Its stream, instead of FILE's; an ARN needs no look at AWS."),
    options.endpoint_url,
    options.region,
)


# --- streams ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedStream:
    """A pipeline's stream. `source` is there where it was asked for."""

    pipeline: str
    stream_arn: str
    source: Source | None


class Streams:
    """Finds the streams of pipelines, each once; open it with `opened_streams`."""

    def __init__(self, at: Placed, stack: AsyncExitStack) -> None:
        self._at = at
        self._stack = stack
        self._sources: dict[object, Source] = {}

    async def of(self, *, to_read: bool = False) -> list[PlacedStream]:
        """One for each pipeline, with its source if it is `to_read`."""
        from streamflow.pipeline import DynamoDBStream

        at = self._at
        found = []
        for name, flow in zip(at.pipelines, at.flows, strict=True):
            declared = at.stream or (None if flow is None else flow.source)
            if declared is None:
                raise click.UsageError("--store goes with --stream TABLE or ARN, where there is no FILE to say it.")
            if isinstance(declared, DynamoDBStream) and declared.stream_arn is not None and not to_read:
                found.append(PlacedStream(pipeline=name, stream_arn=declared.stream_arn, source=None))
                continue
            source = await self._open(declared)
            arn = (await source.describe()).stream_arn
            found.append(PlacedStream(pipeline=name, stream_arn=arn, source=source))
        return found

    async def _open(self, declared: Any) -> Source:
        """A stream, or whatever the user has given as a source."""
        from streamflow.pipeline import AwsOptions, DynamoDBStream

        if not isinstance(declared, DynamoDBStream):
            source: Source = declared
            return source
        if declared not in self._sources:
            from streamflow.aws.session import open_aws
            from streamflow.sources.dynamodb import open_dynamodb_stream

            app_aws = AwsOptions() if self._at.app is None else self._at.app.aws
            way = options.changed(declared.aws or app_aws, self._at.aws)
            aws = await self._stack.enter_async_context(open_aws(way))
            self._sources[declared] = await self._stack.enter_async_context(open_dynamodb_stream(aws, declared))
        return self._sources[declared]


@asynccontextmanager
async def opened(at: Placed) -> AsyncIterator[tuple[StateStore, Streams]]:
    """The store of earlier runs, and the way to the streams.

    Raises:
        ConfigError: the store has no earlier runs.
    """
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(letters.opened(at.store, new=at.new))
        yield store, Streams(at, stack)


# --- rows -------------------------------------------------------------------------------------------------------------


def chosen(rows: Sequence[Lease], shard_ids: Sequence[str]) -> list[Lease]:
    """The rows of these shards, of every pipeline that was looked at.

    Raises:
        ConfigError: there is no such row.
    """
    known = {row.shard_id for row in rows}
    if missing := [shard_id for shard_id in shard_ids if shard_id not in known]:
        raise ConfigError([f"there is no lease of {each!r}{did_you_mean(each, known)}" for each in missing])
    return [row for shard_id in dict.fromkeys(shard_ids) for row in rows if row.shard_id == shard_id]


async def written(store: StateStore, wanted: Lease) -> bool:
    """Store a row in the place of the version that was looked at; False: somebody was faster.

    Raises:
        StoreError: it was not stored.
    """
    try:
        return await store.update(wanted, expected_version=wanted.version) is not None
    except UnknownOutcomeError:
        current = await store.get(wanted.key)
        if current is not None and current.version == wanted.version:
            raise StoreError(f"the lease of {wanted.shard_id} was not written: the store did not answer") from None
        return current == replace(wanted, version=wanted.version + 1)


async def changed(store: StateStore, row: Lease, step: Step) -> bool:
    """As `written`, for a row from a listing, which lacks the window that goes with its checkpoint."""
    whole = await store.get(row.key)
    if whole is None or whole.version != row.version:
        return False
    return await written(store, after(whole, step))


def keeper(flow: Pipeline | None) -> str | None:
    """The name of the pipeline's sink, where that keeps the checkpoint itself."""
    from streamflow.sdk.declarations import SinkDeclaration

    handler = None if flow is None else flow.handler
    if isinstance(handler, SinkDeclaration) and handler.capabilities.idempotence == "transactional":
        return handler.name
    return None
