"""Leases in a SQLite file, as workers leave them, for tests of `leases` and `checkpoint`."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from kept import Command
from streamflow.cli import resetting
from streamflow.leases import STREAM_ROW, WORKERS, Lease, LeaseState
from streamflow.plugins import open_store
from streamflow.positions import SHARD_END, TRIM_HORIZON, Position

if TYPE_CHECKING:
    from pathlib import Path

STREAM_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
STORE = "sqlite:///leased.db"
FROM_STORE = ("--store", STORE, "--pipeline", "orders", "--stream", STREAM_ARN)
APP = f"""
from streamflow.pipeline import App, DynamoDBStream, Pipeline, fan_out
from streamflow.sinks.sqlite import sqlite

async def deliver(batch):
    pass

def pipeline(name, handler=deliver):
    return Pipeline(name=name, source=DynamoDBStream(stream_arn="{STREAM_ARN}"), handler=handler)

one = App(pipelines=(pipeline("orders"),), store="{STORE}")
two = App(pipelines=(pipeline("orders"), pipeline("audit")), store="{STORE}")
new = App(pipelines=(pipeline("orders"),), store="sqlite:///new.db")
kept = App(pipelines=(pipeline("orders", sqlite(path="orders.db", table="orders", transactional=True)),), store="{STORE}")
"""


def row(shard_id: str, checkpoint: Position = TRIM_HORIZON, *parents: str, **fields: Any) -> Lease:
    state = LeaseState.ENDED if checkpoint == SHARD_END else LeaseState.ACTIVE
    values = {"pipeline": "orders", "state": state, "parents": parents, "checkpoint": checkpoint, **fields}
    return Lease(stream_arn=STREAM_ARN, shard_id=shard_id, **values)


def worker(worker_id: str, duration_s: float | None = 10.0, pipelines: tuple[str, ...] = ("orders",)) -> Lease:
    pipeline, stream = WORKERS
    return Lease(
        pipeline=pipeline,
        stream_arn=stream,
        shard_id=worker_id,
        owner=worker_id,
        children=pipelines,
        duration_s=duration_s,
    )


class Leased:
    """A folder with `leased.db` and `app.py`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "app.py").write_text(APP)

    def keep(self, *rows: Lease, store: str = STORE) -> None:
        async def keep() -> None:
            async with open_store(store) as opened:
                for each in rows:
                    assert await opened.create(each) is not None

        anyio.run(keep)

    def keep_lineage(self) -> None:
        """Shard a, read to its end, its child b, half read by w1, and c, which is not begun."""
        self.keep(
            row(STREAM_ROW, owner="w1"),
            row("a", SHARD_END, children=("b", "c")),
            row("b", Position.after("80"), "a", owner="w1"),
            row("c", TRIM_HORIZON, "a"),
        )

    def write(self, shard_id: str, **changes: Any) -> None:
        """As another process would."""

        async def write() -> None:
            async with open_store(STORE) as opened:
                found = await opened.get(row(shard_id).key)
                assert found is not None
                changed = dataclasses.replace(found, **changes)
                assert await opened.update(changed, expected_version=found.version) is not None

        anyio.run(write)

    def rows(self, store: str = STORE, pipeline: str = "orders") -> dict[str, Lease]:
        async def rows() -> dict[str, Lease]:
            async with open_store(store) as opened:
                listed = await opened.list(pipeline, STREAM_ARN)
                whole = [await opened.get(each.key) for each in listed]
                return {each.shard_id: each for each in whole if each is not None}

        return anyio.run(rows)

    def positions(self, store: str = STORE) -> dict[str, str]:
        return {shard_id: str(each.checkpoint) for shard_id, each in self.rows(store).items() if shard_id != STREAM_ROW}


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def leased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Leased:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resetting, "configure_logging", lambda *_: None)
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    return Leased(tmp_path)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)
