"""The sinks of the core keep the contract, in each of their modes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, ClassVar

import orjson
import pytest

from servers.webhook import Answer, Received, Webhook, running_webhook
from streamflow.sinks.console import console
from streamflow.sinks.http import http
from streamflow.sinks.jsonl import jsonl
from streamflow.sinks.sqlite import sqlite
from streamflow.testing.proxies import FaultProxy, open_fault_proxy
from streamflow.testing.sink_contract import Changes, Seen, SinkContract, exact_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from streamflow.records import Record
    from streamflow.sdk import PayloadForm, SinkDeclaration

SECRET = "whsec_VGhlIGNvbnRyYWN0IHN1aXRlJ3Mgc2VjcmV0"

# --- console ---------------------------------------------------------------------------------------------------------


class TestConsole(SinkContract):
    kind = "log"

    @pytest.fixture
    def sink(self, capsysbinary: pytest.CaptureFixture[bytes]) -> SinkDeclaration:
        self._captured = capsysbinary
        self._seen: list[Seen] = []
        return console(payload="change")

    async def read_back(self, sink: SinkDeclaration) -> list[Seen]:
        self._seen += [Seen.of_payload(line, "change") for line in self._captured.readouterr().out.splitlines()]
        return self._seen


# --- jsonl -----------------------------------------------------------------------------------------------------------


class JsonlContract(SinkContract):
    kind = "log"
    server = "file"
    settings: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def sink(self, tmp_path: Path) -> SinkDeclaration:
        self._directory = tmp_path
        return jsonl(path=tmp_path / "orders.jsonl", **self.settings)

    @pytest.fixture
    def missing_target(self, tmp_path: Path) -> SinkDeclaration:
        return jsonl(path=tmp_path / "missing" / "orders.jsonl")

    async def read_back(self, sink: SinkDeclaration) -> list[Seen]:
        """The rotated files have names that sort by time, and before the one that grows."""
        form: PayloadForm = self.settings.get("payload", "lambda")
        files = [*sorted(self._directory.glob("orders.2*.jsonl")), self._directory / "orders.jsonl"]
        return [Seen.of_payload(line, form) for file in files for line in file.read_bytes().split(b"\n") if line]


class TestJsonl(JsonlContract):
    mode = "one file"


class TestJsonlRotated(JsonlContract):
    mode = "rotated"
    settings: ClassVar[dict[str, Any]] = {
        "payload": "change",
        "rotate_bytes": 4_096,
        "rotate_interval_s": 60,
        "fsync": "rotation",
    }


# --- sqlite ----------------------------------------------------------------------------------------------------------


class SqliteContract(SinkContract):
    server = f"SQLite {sqlite3.sqlite_version}"
    settings: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def sink(self, tmp_path: Path) -> SinkDeclaration:
        self._path = tmp_path / "orders.db"
        return sqlite(path=self._path, table="orders", columns={"poison": "poison"}, **self.settings)

    @pytest.fixture
    def missing_target(self, tmp_path: Path) -> SinkDeclaration:
        return sqlite(path=tmp_path / "missing" / "orders.db", table="orders")

    def untakeable(self, changes: Changes) -> list[Record]:
        """A table of the user's may have constraints."""
        with closing(sqlite3.connect(self._path)) as connection:
            connection.execute(_CREATIONS[self.settings.get("mode", "upsert")])
        return [changes.put("bad", poison={"S": "poison"}), changes.put("worse", poison={"S": "poison"})]

    def rows(self) -> list[dict[str, Any]]:
        if not self._path.exists():
            return []
        with closing(sqlite3.connect(self._path)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("SELECT * FROM orders ORDER BY rowid")]


_CREATIONS = {
    "upsert": "CREATE TABLE orders (item_key TEXT PRIMARY KEY, image TEXT, _sf_seq TEXT, _sf_shard TEXT, "
    "_sf_event_id TEXT, _sf_deleted INTEGER, poison CHECK (poison IS NULL))",
    "append": "CREATE TABLE orders (_sf_event_id TEXT PRIMARY KEY, item_key TEXT, event_name TEXT, created_at_s REAL, "
    "old_image TEXT, new_image TEXT, _sf_seq TEXT, _sf_shard TEXT, poison CHECK (poison IS NULL))",
}


class UpsertContract(SqliteContract):
    kind = "state"

    async def read_back(self, sink: SinkDeclaration) -> list[Seen]:
        return [
            Seen(
                item_key=row["item_key"],
                event_id=row["_sf_event_id"],
                sequence_number=row["_sf_seq"][3:],
                image=None if row["image"] is None else exact_json(row["image"]),
                deleted=bool(row["_sf_deleted"]),
            )
            for row in self.rows()
        ]


class AppendContract(SqliteContract):
    kind = "log"

    async def read_back(self, sink: SinkDeclaration) -> list[Seen]:
        return [
            Seen(
                item_key=row["item_key"],
                event_id=row["_sf_event_id"],
                sequence_number=row["_sf_seq"][3:],
                image=None if row["new_image"] is None else exact_json(row["new_image"]),
                deleted=row["event_name"] == "REMOVE",
            )
            for row in self.rows()
        ]


class TestSqliteUpsert(UpsertContract):
    mode = "upsert"


class TestSqliteAppend(AppendContract):
    mode = "append"
    settings: ClassVar[dict[str, Any]] = {"mode": "append"}


class TestSqliteTransactionalUpsert(UpsertContract):
    mode = "upsert, transactional"
    settings: ClassVar[dict[str, Any]] = {"transactional": True}


class TestSqliteTransactionalAppend(AppendContract):
    mode = "append, transactional"
    settings: ClassVar[dict[str, Any]] = {"mode": "append", "transactional": True}


# --- http ------------------------------------------------------------------------------------------------------------


class HttpContract(SinkContract):
    kind = "log"
    server = "aiohttp on loopback"
    settings: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def webhook(self) -> Iterator[Webhook]:
        with running_webhook() as webhook:
            webhook.answer = _refuse_poison
            yield webhook

    @pytest.fixture
    async def proxy(self, webhook: Webhook) -> AsyncIterator[FaultProxy]:
        async with open_fault_proxy("127.0.0.1", webhook.port) as proxy:
            yield proxy

    @pytest.fixture
    def sink(self, webhook: Webhook, proxy: FaultProxy) -> SinkDeclaration:
        self._webhook = webhook
        return http(
            url=f"http://127.0.0.1:{proxy.port}/hook",
            headers={"Authorization": "Bearer a-token-of-the-test"},
            signing_secrets=[SECRET],
            **self.settings,
        )

    @pytest.fixture
    def missing_target(self) -> SinkDeclaration:
        """A webhook cannot be asked whether it is there, but an address may be one that is never reached."""
        return http(
            url="http://169.254.169.254/hook", headers={"Authorization": "Bearer other"}, signing_secrets=[SECRET]
        )

    def untakeable(self, changes: Changes) -> list[Record]:
        return [changes.put("bad", poison={"S": "poison"}), changes.put("worse", poison={"S": "poison"})]

    async def read_back(self, sink: SinkDeclaration) -> list[Seen]:
        form: PayloadForm = self.settings.get("payload", "lambda")
        return [
            Seen.of_payload(text, form)
            for received in list(self._webhook.taken)
            for text in self.contents(received.body)
        ]

    def contents(self, body: bytes) -> list[bytes | str]:
        raise NotImplementedError


def _refuse_poison(received: Received) -> Answer:
    return Answer(400 if b'"poison"' in received.body else 200)


class TestHttpArray(HttpContract):
    mode = "array"

    def contents(self, body: bytes) -> list[bytes | str]:
        return [orjson.dumps(each) for each in orjson.loads(body)]


class TestHttpEvent(HttpContract):
    mode = "event"
    settings: ClassVar[dict[str, Any]] = {"body": "event"}

    def contents(self, body: bytes) -> list[bytes | str]:
        return [orjson.dumps(each) for each in orjson.loads(body)["Records"]]


class TestHttpLines(HttpContract):
    mode = "ndjson"
    settings: ClassVar[dict[str, Any]] = {"body": "ndjson", "payload": "change"}

    def contents(self, body: bytes) -> list[bytes | str]:
        return [line for line in body.split(b"\n") if line]


class TestHttpSingle(HttpContract):
    mode = "single"
    settings: ClassVar[dict[str, Any]] = {"body": "single", "payload": "change"}

    def contents(self, body: bytes) -> list[bytes | str]:
        return [body]
