"""Letters in a SQLite file, and an app whose handler can be told what to refuse: for tests of `dlq` and `parked`."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import orjson
import pytest

from streamflow.cli import redriving
from streamflow.cli.main import invoke
from streamflow.dead_letters import DeadLetter, LetterQuery, letters_of
from streamflow.plugins import open_store
from streamflow.records import Record, Shard

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streamflow.dead_letters import Drawer

STREAM_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
STORE = "sqlite:///kept.db"
APP = f"""
import os, signal
from pathlib import Path

import anyio
from streamflow.pipeline import App, DynamoDBStream, Pipeline

async def deliver(batch):
    if Path("interrupt").exists():
        os.kill(os.getpid(), signal.SIGINT)
    while Path("stubborn").exists():
        await anyio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
    keys = [record.keys["id"] for record in batch]
    if set(keys) & set(Path("refused").read_text().split()):
        raise RuntimeError("refused again")
    with Path("delivered").open("a") as file:
        file.writelines(f"{{record.keys['id']}} {{record.new_image['version']}}\\n" for record in batch)

def pipeline(name, **options):
    return Pipeline(name=name, source=DynamoDBStream(table=name), handler=deliver, **options)

one = App(pipelines=(pipeline("orders", batch_size=2),), store="{STORE}")
two = App(pipelines=(pipeline("orders"), pipeline("audit")), store="{STORE}")
new = App(pipelines=(pipeline("orders"),), store="sqlite:///new.db")
"""


def record(key: str, version: int, *, shard: str = "shard-0", text: str = "") -> Record:
    change = {
        "eventID": f"{key}-{version}",
        "eventName": "INSERT" if version == 1 else "MODIFY",
        "dynamodb": {
            "Keys": {"id": {"S": key}},
            "NewImage": {"id": {"S": key}, "version": {"N": str(version)}, "text": {"S": text or "secret"}},
            "SequenceNumber": f"{version:021}",
            "ApproximateCreationDateTime": 1_764_000_000,
        },
    }
    return Record(msgspec.Raw(orjson.dumps(change)), Shard(stream_arn=STREAM_ARN, shard_id=shard))


def letters(*records: Record, pipeline: str = "orders", error: Exception | None = None) -> list[DeadLetter]:
    return letters_of(
        records,
        pipeline=pipeline,
        reason="RetryAttemptsExhausted",
        kept_at_s=1_764_000_000.0,
        error=error or ValueError("secret of an item"),
        invoke_count=3,
    )


class Kept:
    """A folder with the store `kept.db`, which is made with the first letter, and with `app.py`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "app.py").write_text(APP)
        (folder / "refused").write_text("")

    def keep(self, *records: Record, drawer: Drawer = "dead", **fields: Any) -> None:
        async def keep() -> None:
            async with open_store(STORE) as store:
                found = letters(*records, **fields)
                await (store.keep(found) if drawer == "dead" else store.park(found, opening=True))

        anyio.run(keep)

    def left(self, drawer: Drawer = "dead") -> list[DeadLetter]:
        async def left() -> Sequence[DeadLetter]:
            async with open_store(STORE) as store:
                return await store.letters(LetterQuery(drawer=drawer))

        return list(anyio.run(left))

    def left_ids(self, drawer: Drawer = "dead") -> list[int]:
        return [letter.id for letter in self.left(drawer)]

    def refuse(self, *keys: str) -> None:
        (self.folder / "refused").write_text(" ".join(keys))

    def interrupt(self, *, stubborn: bool = False) -> None:
        """Have the handler send SIGINT to its process; if `stubborn`, again and again, without returning."""
        (self.folder / ("stubborn" if stubborn else "interrupt")).touch()

    @property
    def delivered(self) -> list[str]:
        file = self.folder / "delivered"
        return file.read_text().splitlines() if file.exists() else []


class Command:
    """The command line, called in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0, answer: str = "") -> tuple[str, str]:
        """What it says on stdout and stderr; `answer` is what it finds on stdin."""
        self._capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO(answer))
            found = invoke(arguments)
        out, err = self._capsys.readouterr()
        assert found == code, f"exit code {found}: {out}{err}"
        return out, err


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(redriving, "configure_logging", lambda *_: None)
    return Kept(tmp_path)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)
