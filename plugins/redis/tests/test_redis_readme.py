"""The README tells the truth: its pipeline file is loaded, and its program runs as it stands."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from streamflow.config.load import load_file
from streamflow.sdk import SinkDeclaration

if TYPE_CHECKING:
    import pytest
    import redis

    from servers.valkey import ValkeyServer
    from streamflow.testing.pytest_plugin import LocalStreamsFactory

README = Path(__file__).resolve().parents[1] / "README.md"


def block(kind: str) -> str:
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_pipeline_file_declares_the_sink(tmp_path: Path) -> None:
    file = tmp_path / "orders.toml"
    file.write_text(block("toml"), encoding="utf-8")
    (pipeline,) = load_file(file, {}).pipelines
    assert isinstance(pipeline.handler, SinkDeclaration)
    assert pipeline.handler.name == "redis"


def test_the_program_keeps_the_items_of_the_stream(
    valkey_server: ValkeyServer,
    client: redis.Redis,
    local_streams_factory: LocalStreamsFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = local_streams_factory()
    streams.create_table("orders")
    for number in range(3):
        streams.put("orders", {"id": {"S": f"o-{number}"}, "total": {"N": "12.50"}})
    streams.delete("orders", {"id": {"S": "o-1"}})
    streams.disable_stream("orders")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", streams.endpoint_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.setenv("ORDERS_URL", valkey_server.url())
    program = tmp_path / "program.py"
    program.write_text(block("python"), encoding="utf-8")
    runpy.run_path(str(program))
    assert [client.exists(f"order:o-{number}") for number in range(3)] == [1, 0, 1]
    assert orjson.loads(client.get("order:o-2") or b"") == {"id": "o-2", "total": 12.50}
