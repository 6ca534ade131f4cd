"""Bad input: each time a clear error that says what, where and what next, no traceback, exit status 2 or 1."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import forking
from streamflow.testing import LocalStreams

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

FILE = """
store = "sqlite:///orders.db"

[aws]
endpoint_url = "{endpoint}"
region = "us-east-1"

[pipelines.orders]
table = "{table}"
handler = "{handler}"
"""
FIVE_MISTAKES = """
store = "postgres://x"

[pipelines.orders]
tabel = "orders"
handler = "handlers:nothing"
batch_size = 25000
starting_position = "NOW"
"""


@pytest.fixture(scope="module")
def streams() -> Iterator[LocalStreams]:
    with LocalStreams(access_keys={"good": "hush-hush"}).in_thread() as streams:
        streams.create_table("orders")
        streams.create_table("quiet")
        streams.disable_stream("quiet")
        yield streams


def run(folder: Path, *arguments: str, key: str = "good") -> tuple[int, str]:
    """Exit status, and all that was printed."""
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": "hush-hush"}
    done = forking.run(
        [sys.executable, "-m", "streamflow.cli.main", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=50,
        check=False,
    )
    text = done.stdout.decode()
    assert "Traceback" not in text
    return done.returncode, text


def declare(folder: Path, streams: LocalStreams, *, table: str = "orders", handler: str = "handlers:deliver") -> None:
    (folder / "handlers.py").write_text("async def deliver(batch):\n    pass\n")
    (folder / "orders.toml").write_text(FILE.format(endpoint=streams.endpoint_url, table=table, handler=handler))


@pytest.mark.fault("F33")
def test_an_unknown_table(tmp_path: Path, streams: LocalStreams) -> None:
    declare(tmp_path, streams, table="nowhere")
    status, text = run(tmp_path, "run", "orders.toml")
    assert status == 1
    assert "nowhere" in text


def test_a_table_without_a_stream_comes_with_the_command_that_helps(tmp_path: Path, streams: LocalStreams) -> None:
    from botocore.session import get_session

    client = get_session().create_client(
        "dynamodb",
        endpoint_url=streams.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="good",
        aws_secret_access_key="hush-hush",
    )
    client.create_table(
        TableName="plain",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    declare(tmp_path, streams, table="plain")
    status, text = run(tmp_path, "run", "orders.toml")
    assert status == 1
    assert "aws dynamodb update-table --table-name plain" in text


@pytest.mark.fault("F33")
def test_wrong_credentials(tmp_path: Path, streams: LocalStreams) -> None:
    declare(tmp_path, streams)
    status, text = run(tmp_path, "run", "orders.toml", key="stranger")
    assert status == 1
    assert "hush-hush" not in text
    assert "access key" in text


@pytest.mark.fault("F37")
def test_an_unreachable_endpoint(tmp_path: Path, streams: LocalStreams) -> None:
    declare(tmp_path, streams)
    status, text = run(tmp_path, "run", "orders.toml", "--endpoint-url", "http://127.0.0.1:9")
    assert status == 1
    assert "127.0.0.1:9" in text


def test_a_handler_that_cannot_be_imported(tmp_path: Path, streams: LocalStreams) -> None:
    declare(tmp_path, streams, handler="nobody:deliver")
    status, text = run(tmp_path, "run", "orders.toml")
    assert status == 2
    assert "nobody" in text
    assert "orders.toml:10" in text


@pytest.mark.fault("F1")
def test_a_file_with_five_mistakes_tells_all_five(tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text("")
    (tmp_path / "orders.toml").write_text(FIVE_MISTAKES)
    for command in ("check", "run"):
        status, text = run(tmp_path, command, "orders.toml")
        assert status == 2
        for line in (2, 5, 6, 7, 8):
            assert f"orders.toml:{line}" in text, text
        assert "table" in text


@pytest.mark.fault("F41")
def test_a_corrupt_store_is_left_as_it_is(tmp_path: Path, streams: LocalStreams) -> None:
    declare(tmp_path, streams)
    garbage = b"this is not a database, but somebody's only copy of something" * 50
    (tmp_path / "orders.db").write_bytes(garbage)
    status, text = run(tmp_path, "run", "orders.toml")
    assert status == 1
    [line] = [line for line in text.splitlines() if line.startswith("error: ")]
    assert "orders.db" in line
    assert (tmp_path / "orders.db").read_bytes() == garbage


def test_an_unknown_app(tmp_path: Path) -> None:
    status, text = run(tmp_path, "run", "nobody.py:app")
    assert status == 2
    assert "nobody.py" in text


def test_a_taken_port(tmp_path: Path, streams: LocalStreams) -> None:
    declare(tmp_path, streams)
    port = streams.endpoint_url.rsplit(":", 1)[1]
    status, text = run(tmp_path, "run", "orders.toml", "--http", port)
    assert status == 2
    assert port in text
