"""A small database for the contract suite of sinks to be tested with: a process that can be killed.

`python journal_server.py` reads a line for each server that is asked for, `[PORT, JOURNAL, TOKEN_FILE]`, forks it from itself,
in a thirtieth of the time that a start takes, and the server says its process id when it listens. It serves requests of one
line of JSON each. What is written is one line of the journal, and on the disk before the answer goes out. The journal is all
that a server knows when it starts.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

LINE_BYTES_MAX = 64_000_000
RECORD_BYTES_MAX = 300_000


class Journal:
    """Everything written, and what follows from it: items by key, checkpoints by pipeline and shard."""

    def __init__(self, path: Path) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.messages: list[dict[str, Any]] = []
        self.shards: dict[str, tuple[int, str | None]] = {}  # epoch, sequence number
        whole_lines = path.read_text("utf-8").split("\n")[:-1] if path.exists() else []
        for line in whole_lines:
            self._apply(json.loads(line))
        self._path = path

    def write(self, entry: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._apply(entry)

    def _apply(self, entry: dict[str, Any]) -> None:
        if "shard" in entry:
            self.shards[entry["shard"]] = (entry["epoch"], entry["checkpoint"])
        for record in entry["records"]:
            if entry["versions"]:
                known = self.items.get(record["key"])
                if known is None or int(known["number"]) < int(record["number"]):
                    self.items[record["key"]] = record
            else:
                self.messages.append(record)


def answer(journal: Journal, request: dict[str, Any]) -> dict[str, Any]:
    match request["do"]:
        case "look":
            return {}
        case "write":
            return _write(journal, request)
        case "fence":
            epoch, checkpoint = journal.shards.get(request["shard"], (0, None))
            if request["epoch"] < epoch:
                return {"fenced": True}
            _move(journal, request, checkpoint, [])
            return {"checkpoint": checkpoint}
        case "advance":
            epoch, checkpoint = journal.shards[request["shard"]]
            if request["epoch"] < epoch:
                return {"fenced": True}
            _move(journal, request, _later(checkpoint, request["to"]), [])
            return {}
    return {"error": "what?"}


def _write(journal: Journal, request: dict[str, Any]) -> dict[str, Any]:
    records = request["records"]
    if not request.get("epoch"):
        journal.write({"records": records, "versions": request["versions"]})
        return {}
    epoch, checkpoint = journal.shards[request["shard"]]
    if request["epoch"] < epoch:
        return {"fenced": True}
    new = [each for each in records if checkpoint is None or int(each["number"]) > int(checkpoint)]
    if new:
        _move(journal, request, new[-1]["number"], new)
    return {}


def _move(journal: Journal, request: dict[str, Any], to: str | None, records: list[dict[str, Any]]) -> None:
    entry = {
        "records": records,
        "versions": True,
        "shard": request["shard"],
        "epoch": request["epoch"],
        "checkpoint": to,
    }
    journal.write(entry)


def _later(one: str | None, other: str) -> str:
    return other if one is None or int(other) > int(one) else one


def checked(journal: Journal, request: dict[str, Any], token_file: Path) -> dict[str, Any]:
    if request["token"] != token_file.read_text("utf-8"):
        return {"error": "token"}
    return {"error": "table"} if request["table"] != "orders" else answer(journal, request)


async def serve(port: int, journal: Journal, token_file: Path) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                if not line.endswith(b"\n"):
                    break  # cut in the middle of a request
                found = checked(journal, json.loads(line), token_file)
                writer.write(json.dumps(found).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port, limit=LINE_BYTES_MAX)
    print(os.getpid(), flush=True)  # noqa: TID251 - whoever asked for it has to kill it
    async with server:
        await server.serve_forever()


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nothing is left of those that were killed
    for line in sys.stdin:
        if not os.fork():
            port, journal, token_file = json.loads(line)
            asyncio.run(serve(port, Journal(Path(journal)), Path(token_file)))


if __name__ == "__main__":
    main()
