"""The README tells the truth: its pipeline files are loaded, and its program runs as it stands, on MiniStack."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from far_messages import Queue, client
from streamflow.config.load import load_file
from streamflow.sdk import SinkDeclaration

if TYPE_CHECKING:
    from collections.abc import Iterator

README = Path(__file__).resolve().parents[1] / "README.md"
TABLE = "orders"
# Of the queue in the README.
REGION, ACCOUNT = "eu-west-1", "123456789012"


def blocks(kind: str) -> Iterator[str]:
    yield from re.findall(rf"^```{kind}\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", list(blocks("toml")), ids=lambda text: text.partition('type = "')[2].partition('"')[0])
def test_a_pipeline_file_declares_the_sink_that_it_names(text: str, tmp_path: Path) -> None:
    file = tmp_path / "orders.toml"
    file.write_text(text, encoding="utf-8")
    (pipeline,) = load_file(file, {}).pipelines
    assert isinstance(pipeline.handler, SinkDeclaration)
    assert pipeline.handler.name == tomllib.loads(text)["pipelines"]["orders"]["sink"]["type"]


@pytest.mark.integration
def test_the_program_sends_the_stream_to_the_queue(
    ministack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCOUNT)  # MiniStack keeps accounts apart by it
    queue = Queue(ministack, "orders.fifo", region=REGION)
    _write_a_stream_that_ends(ministack)
    program = tmp_path / "program.py"
    program.write_text(next(blocks("python")), encoding="utf-8")
    runpy.run_path(str(program))
    changes = [orjson.loads(body) for body in queue.receive()]
    queue.close()
    assert [(change["op"], change["key"]["id"]) for change in changes] == [("c", "o-1"), ("c", "o-2"), ("d", "o-1")]


def _write_a_stream_that_ends(endpoint: str) -> None:
    dynamodb = client("dynamodb", endpoint, region=REGION)
    dynamodb.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    for number in (1, 2):
        dynamodb.put_item(TableName=TABLE, Item={"id": {"S": f"o-{number}"}})
    dynamodb.delete_item(TableName=TABLE, Key={"id": {"S": "o-1"}})
    dynamodb.update_table(TableName=TABLE, StreamSpecification={"StreamEnabled": False})
    dynamodb.close()
