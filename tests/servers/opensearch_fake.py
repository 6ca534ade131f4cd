"""A stand-in for OpenSearch and Elasticsearch, for tests and benchmarks: not the product, which no wheel or package brings.

What is as in the product (by its documentation; no server of either was at hand): the lines of `_bulk` with index,
create, delete and scripted update, one answer for each, in order; versions that the server counts, external ones (signed
64-bit numbers) and conditions on `_seq_no`; `_mget` that sees every write at once; documents that come back byte for byte
from index and create; numbers in the parameters of a script that become 64-bit floating point where they have a point;
explicit mappings of `long`, `double`, `boolean` and `keyword`, which refuse what does not fit; `dynamic: strict`; ids of
512 bytes; limits on a request; indices that are made on first use; `filter_path`; basic and any other authorization.

What is not: searching (`_search` answers with all documents, once `_refresh` has been called; `_count` knows the queries
`match_all`, `term` and `must_not`), dynamic mapping, shards
and replicas, durability, and Painless. A script is known by its text: `scripts` says what each does, in Python. Faults
come when they are asked for: `fail_items`, `fail_requests`, `lose_answers`.

`python -m servers.opensearch_fake [CORE]`, with `tests` on the path, prints its URL and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web

Script: TypeAlias = Callable[[dict[str, Any], dict[str, Any]], bool]
"""Changes the source, the first argument, by the parameters; False means `ctx.op = 'none'`."""

_ID_BYTES_MAX = 512
_LONG_MAX = 2**63 - 1


class RefusedError(Exception):
    """What the product answers with an error: status, type and reason."""

    def __init__(self, status: int, kind: str, reason: str) -> None:
        self.status = status
        self.kind = kind
        self.reason = reason
        super().__init__(reason)

    @property
    def body(self) -> dict[str, Any]:
        return {"type": self.kind, "reason": self.reason}


@dataclass(slots=True)
class Document:
    """`source` is the JSON text as it came."""

    source: str
    version: int
    seq_no: int


@dataclass(slots=True)
class Index:
    """`dynamic` is that of the mapping: true, false or "strict"."""

    properties: dict[str, str] = field(default_factory=dict)
    dynamic: bool | str = True
    documents: dict[str, Document] = field(default_factory=dict)
    searchable: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Fault:
    """For the next `left` of what it is about."""

    left: int
    status: int
    kind: str = "es_rejected_execution_exception"
    retry_after_s: int | None = None
    about: Callable[[str], bool] = lambda _: True
    """Whether the entry with this id is meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A request as it came. `path` is encoded and has its query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Fake:
    """The cluster: its state outlives the server, so that it can be stopped and started again."""

    def __init__(
        self,
        *,
        scripts: Mapping[str, Script] | None = None,
        authorization: str | None = None,
        request_bytes_max: int = 100_000_000,
        auto_create: bool = True,
    ) -> None:
        self.indices: dict[str, Index] = {}
        self.scripts = dict(scripts or {})
        self.authorization = authorization
        self.request_bytes_max = request_bytes_max
        self.auto_create = auto_create
        self.received: list[Received] = []
        self._item_faults: list[Fault] = []
        self._request_faults: list[Fault] = []
        self._answers_to_lose = 0
        self._seq_no = -1

    # -- faults -------------------------------------------------------------------------------------------------------

    def fail_items(
        self,
        count: int,
        *,
        status: int = 429,
        kind: str = "es_rejected_execution_exception",
        about: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """The next `count` entries, of those `about` which it is, are not carried out."""
        self._item_faults.append(Fault(count, status, kind, about=about))

    def fail_requests(self, count: int, *, status: int = 503, retry_after_s: int | None = None) -> None:
        """The next `count` bulk requests are not carried out."""
        self._request_faults.append(Fault(count, status, retry_after_s=retry_after_s))

    def lose_answers(self, count: int) -> None:
        """The next `count` bulk requests are carried out, and the connection breaks before the answer."""
        self._answers_to_lose += count

    # -- requests -----------------------------------------------------------------------------------------------------

    def application(self) -> web.Application:
        application = web.Application(client_max_size=2**30, middlewares=[self._around])
        application.add_routes(
            [
                web.get("/", self._about),
                web.post("/_bulk", self._bulk),
                web.post("/_mget", self._mget),
                web.head("/{index}", self._exists),
                web.put("/{index}", self._create_index),
                web.delete("/{index}", self._delete_index),
                web.post("/{index}/_refresh", self._refresh),
                web.post("/{index}/_search", self._search),
                web.post("/{index}/_count", self._count),
                web.get("/{index}/_doc/{id}", self._get),
            ]
        )
        return application

    @web.middleware
    async def _around(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        self.received.append(
            Received(method=request.method, path=request.raw_path, headers=request.headers, body=await request.read())
        )
        try:
            self._let_in(request.headers.get("Authorization"))
            answer: web.StreamResponse = await handler(request)
        except RefusedError as error:
            return web.json_response({"error": error.body, "status": error.status}, status=error.status)
        return answer

    def _let_in(self, authorization: str | None) -> None:
        if self.authorization is not None and authorization != self.authorization:
            raise RefusedError(401, "security_exception", "missing or wrong credentials")

    async def _about(self, _: web.Request) -> web.Response:
        return web.json_response({"version": {"distribution": "fake", "number": "0"}})

    async def _exists(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["index"] in self.indices else 404)

    async def _create_index(self, request: web.Request) -> web.Response:
        mappings = json.loads(await request.read() or b"{}").get("mappings", {})
        properties = {name: each["type"] for name, each in mappings.get("properties", {}).items()}
        self.indices[request.match_info["index"]] = Index(properties, mappings.get("dynamic", True))
        return web.json_response({"acknowledged": True})

    async def _delete_index(self, request: web.Request) -> web.Response:
        self._index(request.match_info["index"])
        del self.indices[request.match_info["index"]]
        return web.json_response({"acknowledged": True})

    async def _refresh(self, request: web.Request) -> web.Response:
        index = self._index(request.match_info["index"])
        index.searchable = {id_: document.source for id_, document in index.documents.items()}
        return web.json_response({"_shards": {"failed": 0}})

    async def _search(self, request: web.Request) -> web.Response:
        found = self._index(request.match_info["index"]).searchable
        hits = ",".join(f'{{"_id":{json.dumps(id_)},"_source":{source}}}' for id_, source in found.items())
        text = f'{{"hits":{{"total":{{"value":{len(found)}}},"hits":[{hits}]}}}}'
        return web.Response(text=text, content_type="application/json")

    async def _count(self, request: web.Request) -> web.Response:
        found = self._index(request.match_info["index"]).searchable.values()
        query = json.loads(await request.read() or '{"query":{"match_all":{}}}')["query"]
        return web.json_response({"count": sum(_matches(json.loads(source), query) for source in found)})

    async def _get(self, request: web.Request) -> web.Response:
        document = self._index(request.match_info["index"]).documents.get(request.match_info["id"])
        if document is None:
            return web.json_response({"found": False}, status=404)
        text = f'{{"found":true,"_version":{document.version},"_source":{document.source}}}'
        return web.Response(text=text, content_type="application/json")

    async def _mget(self, request: web.Request) -> web.Response:
        wanted = request.query.get("_source_includes", "").split(",")
        return web.json_response({"docs": [self._looked_up(each, wanted) for each in (await request.json())["docs"]]})

    def _looked_up(self, place: dict[str, str], wanted: list[str]) -> dict[str, Any]:
        try:
            document = self._index(place["_index"]).documents.get(place["_id"])
        except RefusedError as error:
            return {**place, "error": error.body}
        if document is None:
            return {**place, "found": False}
        source = {name: value for name, value in json.loads(document.source).items() if name in wanted}
        return {**place, "found": True, "_seq_no": document.seq_no, "_primary_term": 1, "_source": source}

    # -- the bulk -----------------------------------------------------------------------------------------------------

    async def _bulk(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if fault := _next(self._request_faults, ""):
            retry_after = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
            return web.json_response({"status": fault.status}, status=fault.status, headers=retry_after)
        if len(body) > self.request_bytes_max:
            return web.Response(status=413)
        answer = {"errors": False, "items": [self._entry(*each) for each in _entries(body)]}
        if self._answers_to_lose:
            self._answers_to_lose -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(_filtered(answer, request.query.get("filter_path")))

    def _entry(self, action: str, place: dict[str, Any], content: str) -> dict[str, Any]:
        found = {"_index": place["_index"], "_id": place["_id"]}
        try:
            self._fail(place["_id"])
            status, result = self._carry_out(action, place, content)
        except RefusedError as error:
            return {action: found | {"status": error.status, "error": error.body}}
        return {action: found | {"status": status, "result": result}}

    def _fail(self, id_: str) -> None:
        if fault := _next(self._item_faults, id_):
            raise RefusedError(fault.status, fault.kind, "as the test wishes")

    def _carry_out(self, action: str, place: dict[str, Any], content: str) -> tuple[int, str]:
        if len(place["_id"].encode()) > _ID_BYTES_MAX:
            raise RefusedError(400, "illegal_argument_exception", "id is too long")
        if place["_index"] not in self.indices and self.auto_create:
            self.indices[place["_index"]] = Index()
        index = self._index(place["_index"])
        stored = index.documents.get(place["_id"])
        version = _version(action, place, stored)
        if action == "delete":
            index.documents.pop(place["_id"], None)
            return (404, "not_found") if stored is None else (200, "deleted")
        if action == "update":
            updated = self._scripted(json.loads(content), stored)
            if updated is None:
                return 200, "noop"
            content = updated
        _check(index, json.loads(content, parse_float=str))
        self._seq_no += 1
        index.documents[place["_id"]] = Document(content, version, self._seq_no)
        return (201, "created") if stored is None else (200, "updated")

    def _scripted(self, update: dict[str, Any], stored: Document | None) -> str | None:
        """The new source; None where the script wishes none. Numbers have gone through floating point on the way."""
        script = self.scripts.get(update["script"]["source"])
        if script is None:
            raise RefusedError(400, "illegal_argument_exception", "cannot execute [inline] scripts")
        if stored is None and not update.get("scripted_upsert"):
            raise RefusedError(404, "document_missing_exception", "document missing")
        source = update["upsert"] if stored is None else json.loads(stored.source)
        return json.dumps(source) if script(source, update["script"]["params"]) else None

    def _index(self, name: str) -> Index:
        if name not in self.indices:
            raise RefusedError(404, "index_not_found_exception", f"no such index [{name}]")
        return self.indices[name]


def compare_sequences(source: dict[str, Any], parameters: dict[str, Any]) -> bool:
    """What the script of streamflow's sink says, for `scripts`: only a newer document replaces another."""
    document = parameters["document"]
    if source.get("_sf_seq") is not None and source["_sf_seq"] >= document["_sf_seq"]:
        return False
    source.clear()
    source.update(document)
    return True


def _entries(body: bytes) -> Iterator[tuple[str, dict[str, Any], str]]:
    if not body.endswith(b"\n"):
        raise RefusedError(400, "illegal_argument_exception", "The bulk request must be terminated by a newline [\\n]")
    lines = iter(body.decode().split("\n")[:-1])
    for line in lines:
        ((action, place),) = json.loads(line).items()
        yield action, place, "" if action == "delete" else next(lines)


def _next(faults: list[Fault], id_: str) -> Fault | None:
    for fault in faults:
        if fault.left and fault.about(id_):
            fault.left -= 1
            return fault
    return None


def _version(action: str, place: dict[str, Any], stored: Document | None) -> int:
    """The version after the write, if its conditions hold."""
    conflict = RefusedError(409, "version_conflict_engine_exception", "version conflict")
    if action == "create" and stored is not None:
        raise conflict
    if "if_seq_no" in place and (
        stored is None or (place["if_seq_no"], place["if_primary_term"]) != (stored.seq_no, 1)
    ):
        raise conflict
    if "version_type" not in place:
        return 1 if stored is None else stored.version + 1
    version: int = place["version"]
    if not 0 <= version <= _LONG_MAX:
        raise RefusedError(400, "illegal_argument_exception", "illegal version value")
    equal_is_newer = place["version_type"] == "external_gte"
    if stored is not None and (version < stored.version or (version == stored.version and not equal_is_newer)):
        raise conflict
    return version


def _matches(source: dict[str, Any], query: dict[str, Any]) -> bool:
    """By `match_all`, `term`, and `bool` with one `must_not`."""
    ((kind, content),) = query.items()
    match kind:
        case "match_all":
            return True
        case "term":
            ((name, value),) = content.items()
            return bool(source.get(name) == value)
        case "bool":
            return not _matches(source, content["must_not"])
    raise RefusedError(400, "parsing_exception", f"unknown query [{kind}]")


def _check(index: Index, document: dict[str, Any]) -> None:
    for name, value in document.items():
        if name in {"_id", "_index", "_source"}:
            raise RefusedError(400, "mapper_parsing_exception", f"Field [{name}] is a metadata field")
        kind = index.properties.get(name)
        if kind is None and index.dynamic == "strict":
            raise RefusedError(400, "strict_dynamic_mapping_exception", f"introduction of [{name}] is not allowed")
        if kind is not None and value is not None and not _fits(value, kind):
            raise RefusedError(400, "mapper_parsing_exception", f"failed to parse field [{name}]: Preview: '{value}'")


def _fits(value: object, kind: str) -> bool:
    if isinstance(value, list):
        return all(_fits(each, kind) for each in value)
    try:
        match kind:
            case "boolean":
                return value in {True, False, "true", "false"}
            case "double":
                return not isinstance(value, bool) and float(value) is not None  # type: ignore[arg-type]
            case "long":
                return not isinstance(value, bool) and abs(int(float(value))) <= _LONG_MAX  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return not isinstance(value, dict)


def _filtered(answer: Any, paths: str | None) -> Any:
    """The members of the answer that `filter_path` names."""
    if paths is None:
        return answer
    return _only(answer, [path.split(".") for path in paths.split(",")])


def _only(value: Any, paths: list[list[str]]) -> Any:
    if any(not path for path in paths):
        return value
    if isinstance(value, list):
        return [_only(each, paths) for each in value]
    if not isinstance(value, dict):
        return None
    kept = {name: [path[1:] for path in paths if path[0] in {"*", name}] for name in value}
    filtered = {name: _only(value[name], inner) for name, inner in kept.items() if inner}
    return {name: each for name, each in filtered.items() if each is not None}


class Serving:
    """Use `open_fake`. It keeps its port over `kill` and `start`, and the cluster keeps what it has."""

    def __init__(self, fake: Fake) -> None:
        self._fake = fake
        self._runner: web.AppRunner
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._runner = web.AppRunner(self._fake.application(), access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def kill(self) -> None:
        """Cancel what it is at, and close all connections."""
        await self._runner.cleanup()


@asynccontextmanager
async def open_fake(fake: Fake) -> AsyncIterator[Serving]:
    """Serve on a free port of loopback for the length of the block."""
    serving = Serving(fake)
    await serving.start()
    try:
        yield serving
    finally:
        await serving.kill()


async def _serve() -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
    async with open_fake(Fake()) as serving:
        print(serving.url, flush=True)
        await ended.wait()


if __name__ == "__main__":
    if len(sys.argv) > 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(sys.argv[1])})
    asyncio.run(_serve())
