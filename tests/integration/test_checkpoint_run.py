"""Checkpoints moved under a real stream: what workers deliver afterwards, and that every item's changes keep their order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from kept import Command
from streamflow.cli import resetting
from streamflow.clock import SystemClock
from streamflow.launch import running
from streamflow.leases import STREAM_ROW, LeaseState
from streamflow.pipeline import App, AwsOptions, DynamoDBStream, Pipeline
from streamflow.plugins import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from streamflow.batches import Batch
    from streamflow.leases import Lease
    from streamflow.testing import LocalStreams
    from streamflow.testing.pytest_plugin import LocalStreamsFactory

pytestmark = pytest.mark.integration

FILE = """
store = "sqlite:///orders.db"

[aws]
endpoint_url = "{endpoint}"
region = "us-east-1"

[pipelines.orders]
table = "orders"
sink = {{ type = "console" }}
"""
HOURS_AGO = 2
"""When the stream's clock is by default."""
AGREED = ("--allow-repeat", "--yes")


class Orders:
    """A table `orders`, a folder with `orders.toml`, and what its worker has delivered."""

    def __init__(self, folder: Path, streams: LocalStreams, command: Command) -> None:
        self.streams = streams
        self.stream_arn = streams.create_table("orders")
        self.command = command
        self.delivered: list[tuple[str, int]] = []
        self._arrived = anyio.Event()
        self._versions: dict[str, int] = {}
        self.app = App(
            pipelines=(
                Pipeline(
                    name="orders",
                    source=DynamoDBStream(table="orders"),
                    handler=self._deliver,
                    starting_position="TRIM_HORIZON",
                    poll_interval_s=0.05,
                ),
            ),
            store=f"sqlite:///{folder / 'orders.db'}",
            aws=AwsOptions(region="us-east-1", endpoint_url=streams.endpoint_url),
            worker_id="orders-0",
        )
        (folder / "orders.toml").write_text(FILE.format(endpoint=streams.endpoint_url))

    def write(self, *keys: str) -> list[tuple[str, int]]:
        """The next version of each item."""
        for key in keys:
            self._versions[key] = self._versions.get(key, 0) + 1
            item = {"id": {"S": key}, "version": {"N": str(self._versions[key])}}
            self.streams.put("orders", item)
        return [(key, self._versions[key]) for key in keys]

    def work(self, *expected: tuple[str, int]) -> list[tuple[str, int]]:
        """Run a worker until these changes have come; the answer is all that it delivered, in order."""
        self.delivered = []
        anyio.run(self._work, set(expected))
        return self.delivered

    async def _work(self, expected: set[tuple[str, int]]) -> None:
        async with running(self.app):
            await self.wait_for(expected)

    async def wait_for(self, expected: set[tuple[str, int]]) -> None:
        with anyio.fail_after(20):
            while not expected <= set(self.delivered):
                self._arrived = anyio.Event()
                await self._arrived.wait()

    async def _deliver(self, batch: Batch) -> None:
        self.delivered += [(record.keys["id"], int(record.new_image["version"])) for record in batch]  # type: ignore[arg-type,index,misc]
        self._arrived.set()

    def rows(self) -> dict[str, Lease]:
        async def rows() -> dict[str, Lease]:
            async with open_store(self.app.store) as store:
                return {each.shard_id: each for each in await store.list("orders", self.stream_arn)}

        return {shard_id: each for shard_id, each in anyio.run(rows).items() if shard_id != STREAM_ROW}

    def rewind(self, *arguments: str, code: int = 0) -> tuple[list[dict[str, Any]], str]:
        out, err = self.command("checkpoint", "rewind", "orders.toml", *arguments, "--json", code=code)
        return [json.loads(line) for line in out.splitlines()], err


@pytest.fixture
def orders(
    tmp_path: Path,
    local_streams_factory: LocalStreamsFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Orders:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setattr(resetting, "configure_logging", lambda *_: None)
    streams = local_streams_factory(now=lambda: SystemClock().wall() - HOURS_AGO * 3_600)
    return Orders(tmp_path, streams, Command(capsys))


KEYS = tuple(f"k{number}" for number in range(8))


def in_order(delivered: list[tuple[str, int]]) -> bool:
    """Whether each item's versions grow."""
    newest: dict[str, int] = {}
    for key, version in delivered:
        if version <= newest.get(key, 0):
            return False
        newest[key] = version
    return True


def test_the_horizon_brings_back_every_shard_and_all_of_it_in_order(orders: Orders) -> None:
    written = orders.write(*KEYS)
    orders.streams.rollover("orders")
    written += orders.write(*KEYS)
    orders.streams.split("orders")
    written += orders.write(*KEYS)
    assert sorted(orders.work(*written)) == sorted(written)
    ended = {shard_id for shard_id, row in orders.rows().items() if row.state is LeaseState.ENDED}
    assert len(ended) == 5
    changes, err = orders.rewind("--to", "TRIM_HORIZON", *AGREED)
    assert ended < {change["shard_id"] for change in changes}
    assert "shards that ended are read again" in err
    again = orders.work(*written)
    assert sorted(again) == sorted(written)
    assert in_order(again)


def test_a_time_repeats_what_was_written_since_and_in_order(orders: Orders) -> None:
    early = orders.write(*KEYS)
    orders.streams.advance(HOURS_AGO * 3_600)
    late = orders.write(*KEYS)
    orders.streams.rollover("orders")
    late += orders.write(*KEYS)
    assert sorted(orders.work(*early, *late)) == sorted(early + late)
    changes, _ = orders.rewind("--to", "-1h", *AGREED)
    assert {change["direction"] for change in changes} == {"back"}
    assert all(change["to"].startswith("AT_TIMESTAMP:") for change in changes)
    again = orders.work(*late)
    assert sorted(again) == sorted(late)
    assert in_order(again)


def test_a_time_that_no_shard_is_past_changes_nothing(orders: Orders) -> None:
    orders.work(*orders.write(*KEYS))
    before = orders.rows()
    assert orders.rewind("--to", "-1h") == ([], "nothing changes\n")
    assert orders.rows() == before


def test_a_sequence_number_repeats_from_that_record_on_and_below(orders: Orders) -> None:
    orders.write("a")
    orders.work(("a", 1))
    shard_id, checkpoint = next(
        (shard_id, row.checkpoint) for shard_id, row in orders.rows().items() if row.checkpoint.sequence_number
    )
    orders.write("a")
    orders.streams.rollover("orders", shard_id)
    orders.write("a")
    assert orders.work(("a", 2), ("a", 3)) == [("a", 2), ("a", 3)]
    changes, _ = orders.rewind(shard_id, "--to", checkpoint.sequence_number, *AGREED)
    assert [change["to"] for change in changes] == [f"AT_SEQUENCE_NUMBER:{checkpoint.sequence_number}", "TRIM_HORIZON"]
    assert orders.work(("a", 1), ("a", 2), ("a", 3)) == [("a", 1), ("a", 2), ("a", 3)]


def test_named_shards_go_back_with_what_is_below_them_and_others_stay(orders: Orders) -> None:
    written = orders.write(*KEYS)
    parent = orders.streams.shard_ids("orders")[0]
    (child,) = orders.streams.rollover("orders", parent)
    written += orders.write(*KEYS)
    orders.work(*written)
    changes, _ = orders.rewind(parent, "--to", "TRIM_HORIZON", *AGREED)
    assert [change["shard_id"] for change in changes] == [parent, child]


def test_a_rewind_that_nobody_allowed_reads_but_writes_nothing(orders: Orders) -> None:
    orders.work(*orders.write(*KEYS))
    before = orders.rows()
    changes, err = orders.rewind("--to", "TRIM_HORIZON", "--yes", code=2)
    assert changes
    assert "would be delivered again: --allow-repeat" in err
    assert orders.rows() == before


def test_a_living_worker_is_refused_and_loses_a_shard_by_force(orders: Orders) -> None:
    written = set(orders.write(*KEYS))

    async def beside() -> None:
        async with running(orders.app):
            await orders.wait_for(written)
            to_the_start = ("--to", "TRIM_HORIZON", *AGREED)
            _, err = await anyio.to_thread.run_sync(lambda: orders.rewind(*to_the_start, code=2))
            assert "orders-0 seems to be alive, and has shardId" in err
            assert "stop orders-0" in err
            orders.delivered.clear()
            await anyio.to_thread.run_sync(lambda: orders.rewind(*to_the_start, "--force"))
            await orders.wait_for(written)

    anyio.run(beside)
    assert in_order(orders.delivered)
