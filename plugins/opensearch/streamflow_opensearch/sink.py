"""The sink: documents of a batch in bulk requests, and what became of each."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

from streamflow.sdk import ConfigError, Rejection, SinkBusyError, write_in_requests
from streamflow_opensearch import answers
from streamflow_opensearch.answers import OpenSearchError
from streamflow_opensearch.connection import open_connection
from streamflow_opensearch.documents import change, conditional_lines, is_news, lines
from streamflow_opensearch.settings import TABLE, capabilities

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streamflow.sdk import Batch, Record, SinkContext
    from streamflow_opensearch.connection import Answer, Connection
    from streamflow_opensearch.documents import Change
    from streamflow_opensearch.settings import OpenSearchSettings

# The signature's canonical query has these characters encoded, and so must the request.
_BULK = "/_bulk?filter_path=" + quote(answers.FIELDS, safe="")
_LOOK = "/_mget?_source_includes=_sf_seq"
# Where a busy server does not say how long.
_RETRY_AFTER_S = 1.0


class _OpenSearch:
    """Keeps `streamflow.protocols.Writer`."""

    def __init__(self, settings: OpenSearchSettings, connection: Connection, context: SinkContext) -> None:
        self._settings = settings
        self._connection = connection
        self._context = context
        self._capabilities = capabilities(settings)
        self._present: set[str] = set()

    async def write(self, batch: Batch, /) -> None:
        """See `streamflow.sdk.SinkPlugin`."""
        await write_in_requests(
            batch,
            encode=self._encode,
            send=self._send,
            capabilities=self._capabilities,
            concurrency=self._settings.concurrency,
        )

    def _encode(self, record: Record) -> tuple[Change, int]:
        found = change(record, index=self._settings.index)
        return found, found.bytes_max

    async def _send(self, changes: Sequence[Change]) -> Sequence[Rejection | None] | None:
        for index in {each.index for each in changes}:
            await self.require(index)
        if self._settings.versioning == "compared":
            return await self._send_compared(changes)
        return await self._bulk([lines(each, self._settings.versioning) for each in changes])

    async def _send_compared(self, changes: Sequence[Change]) -> Sequence[Rejection | None]:
        """Look what is there, and write what is newer on condition that it is still there."""
        body = b'{"docs":[' + b",".join([each.place for each in changes]) + b"]}"
        answer = _accepted(await self._connection.request("POST", _LOOK, body, content_type="application/json"))
        news: list[int] = []
        entries: list[bytes] = []
        for place, stored in enumerate(answers.stored(answer.body, expected=len(changes))):
            if is_news(changes[place], stored):
                news.append(place)
                entries.append(conditional_lines(changes[place], stored))
        self._context.note_suppressed(len(changes) - len(news))
        results: list[Rejection | None] = [None] * len(changes)
        if entries:
            for place, result in zip(news, await self._bulk(entries), strict=True):
                results[place] = result
        return results

    async def _bulk(self, entries: Sequence[bytes]) -> list[Rejection | None]:
        """One answer for each entry; a request that is too large for the server goes in halves."""
        answer = await self._connection.request("POST", _BULK, b"".join(entries), content_type="application/x-ndjson")
        if answer.status == 413:
            if len(entries) == 1:
                return [Rejection("refused", "status 413: it is larger than the server takes")]
            middle = len(entries) // 2
            return [*await self._bulk(entries[:middle]), *await self._bulk(entries[middle:])]
        items = answers.items(_accepted(answer).body, expected=len(entries))
        versioning = self._settings.versioning
        self._context.note_suppressed(sum(answers.is_older(item, versioning) for item in items))
        return [answers.rejection(item, versioning) for item in items]

    async def require(self, index: str) -> None:
        """Look, once, whether the index is there, where that is wanted.

        Raises:
            ConfigError: it is not, or may not be looked at.
        """
        if not self._settings.index_must_exist or index in self._present:
            return
        await _look(self._connection, f"/{quote(index, safe='')}")
        self._present.add(index)


def _accepted(answer: Answer) -> Answer:
    """The answer of status 200.

    Raises:
        SinkBusyError, OpenSearchError: another one.
    """
    if answer.status in {429, 503}:
        raise SinkBusyError(f"status {answer.status}", retry_after_s=answer.retry_after_s or _RETRY_AFTER_S)
    if answer.status != 200:
        raise OpenSearchError(f"the server answered with status {answer.status}")
    return answer


async def _look(connection: Connection, path: str) -> None:
    answer = await connection.request("HEAD", path)
    where = "opensearch.urls" if path == "/" else f"opensearch.index {path[1:]!r}"
    if answer.status in {401, 403}:
        raise ConfigError(
            f"{where}: the server answered with status {answer.status}: the credentials are missing or wrong, or may not "
            "do this; the user needs index, create and delete, get and view_index_metadata on the index"
        )
    if answer.status == 404 and path != "/":
        raise ConfigError(
            f"{where}: there is no such index: make it, with its mapping, or set index_must_exist = false"
        )


@asynccontextmanager
async def open_opensearch(settings: OpenSearchSettings, context: SinkContext) -> AsyncIterator[_OpenSearch]:
    """Raises `ConfigError`: no node can be reached, wrong credentials, no such index."""
    async with open_connection(settings, context) as connection:
        sink = _OpenSearch(settings, connection, context)
        try:
            if TABLE in settings.index or not settings.index_must_exist:
                await _look(connection, "/")
            else:
                await sink.require(settings.index)
        except OpenSearchError as error:
            raise ConfigError(f"opensearch.urls: {error}; check the address, the port and the network") from error
        yield sink
