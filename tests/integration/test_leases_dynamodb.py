"""`leases` and `checkpoint` on a table in the layout of the KCL, in MiniStack."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
import boto3
import pytest

from kept import Command
from leased_rows import STREAM_ARN, row
from streamflow import plugins
from streamflow.cli import resetting
from streamflow.leases import STREAM_ROW, LeaseState
from streamflow.positions import SHARD_END, Position
from streamflow.stores.dynamodb.store import open_dynamodb_store

if TYPE_CHECKING:
    from streamflow.leases import Lease

pytestmark = pytest.mark.integration


class Table:
    """A lease table with a shard that ended, its child of `w1`, and another shard of `w2`."""

    def __init__(self, endpoint: str, command: Command) -> None:
        self.url = f"dynamodb://leases?region=us-east-1&endpoint_url={endpoint}"
        self._command = command
        _wake(endpoint)
        anyio.run(self._fill)

    async def _fill(self) -> None:
        async with open_dynamodb_store(self.url) as store:
            for each in (
                row(STREAM_ROW, owner="w1"),
                row("shardId-00000001795433938583-0000000a", SHARD_END),
                row(
                    "shardId-00000001795448338583-0000000b",
                    Position.after("80"),
                    "shardId-00000001795433938583-0000000a",
                ),
                row("shardId-00000001795448338583-0000000c", Position.after("40")),
            ):
                created = await store.create(each)
                assert created is not None
                if each.owner is None and each.state is LeaseState.ACTIVE:
                    await self._own(store, created)

    async def _own(self, store: Any, created: Lease) -> None:
        owner = "w1" if created.shard_id.endswith("b") else "w2"
        owned = replace(created, owner=owner, epoch=created.epoch + 1)
        assert await store.update(owned, expected_version=created.version) is not None

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        where = ("--store", self.url, "--pipeline", "orders", "--stream", STREAM_ARN)
        return self._command(*arguments[:2], *where, *arguments[2:], code=code)

    def entries(self) -> dict[str, dict[str, Any]]:
        lines = [json.loads(line) for line in self.run("leases", "list", "--json")[0].splitlines()]
        return {line["shard_id"][-1]: line for line in lines if line["kind"] == "lease"}


def _wake(endpoint: str) -> None:
    """The first call of a service that MiniStack answers may take it longer than a store waits."""
    client = boto3.client("dynamodb", endpoint_url=endpoint, region_name="us-east-1")
    client.list_tables()
    client.close()


@pytest.fixture
def table(ministack: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Table:
    monkeypatch.setattr(plugins, "open_store", open_dynamodb_store)
    monkeypatch.setattr(resetting, "configure_logging", lambda *_: None)
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    return Table(ministack, Command(capsys))


B = "shardId-00000001795448338583-0000000b"


def test_owners_are_known_by_their_leases_alone(table: Table) -> None:
    found = table.entries()
    assert {name: (each["owner"], each["owner_has_row"]) for name, each in found.items()} == {
        "a": (None, None),
        "b": ("w1", None),
        "c": ("w2", None),
        "m": ("w1", None),
    }
    assert "w1 seems to be alive, and has shardId" in table.run("leases", "release", B, code=2)[1]


def test_a_lease_is_asked_for_as_the_kcl_does(table: Table) -> None:
    before = table.entries()["b"]
    table.run("leases", "take", B, "--for", "w2")
    asked = table.entries()["b"]
    assert (asked["owner"], asked["claimant"], asked["version"]) == ("w1", "w2", before["version"])
    assert "no worker 'w3' works on orders" in table.run("leases", "take", B, "--for", "w3", code=2)[1]


def test_a_fleet_is_watched_by_its_leases_alone_and_nothing_is_written(table: Table) -> None:
    before = table.entries()
    table.url += "&mode=shadow"
    (look,) = table.run("leases", "watch", "--once", "--json", "--lag-shards", "0")[0].splitlines()
    found = json.loads(look)
    (orders,) = found["pipelines"]
    assert (orders["leases"], orders["unowned"], orders["workers"]) == ({"w1": 1, "w2": 1}, 0, 2)
    assert [each["owner"] for each in found["owners"]] == ["w1", "w2"]
    assert table.entries() == before


def test_a_lease_is_released_by_force(table: Table) -> None:
    table.run("leases", "release", B, "--force")
    assert table.entries()["b"]["owner"] is None


@pytest.mark.parametrize("position", ["70", "AT_SEQUENCE_NUMBER:70", "AT_TIMESTAMP:1764000000.0", "TRIM_HORIZON"])
def test_a_checkpoint_goes_back_and_leaves_its_note(table: Table, position: str) -> None:
    agreed = ("--allow-repeat", "--allow-skip", "--yes", "--force")
    table.run("checkpoint", "set", B, position, *agreed)
    found = table.entries()["b"]
    assert found["checkpoint"] == (f"AFTER_SEQUENCE_NUMBER:{position}" if position.isdigit() else position)
    assert found["owner"] is None
    assert found["gaps"][-1]["cause"].endswith("by ann")


def test_an_ended_shard_comes_back_with_its_child(table: Table) -> None:
    table.run("checkpoint", "set", "shardId-00000001795433938583-0000000a", "5", "--allow-repeat", "--yes", "--force")
    found = table.entries()
    assert (found["a"]["state"], found["a"]["checkpoint"]) == ("active", "AFTER_SEQUENCE_NUMBER:5")
    assert (found["b"]["state"], found["b"]["checkpoint"]) == ("active", "TRIM_HORIZON")
