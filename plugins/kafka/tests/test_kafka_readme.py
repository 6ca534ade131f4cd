"""The README tells the truth: its pipeline file is loaded, and its program runs, but for the address of the broker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from kafka_reading import read_topic
from pages import check_pipeline_files, run_program

if TYPE_CHECKING:
    import pytest

    from servers.kafka import FakeBroker
    from streamflow.testing.pytest_plugin import LocalStreamsFactory

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_pipeline_file_declares_the_sink(tmp_path: Path) -> None:
    check_pipeline_files(README, tmp_path)


def test_the_program_sends_the_changes_of_the_stream(
    broker: FakeBroker,
    topic: str,
    local_streams_factory: LocalStreamsFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    instead = {"localhost:9092": broker.bootstrap_servers, 'topic="orders"': f'topic="{topic}"'}
    run_program(README, local_streams_factory, tmp_path, monkeypatch, instead=instead)
    changes = [orjson.loads(message.value or b"") for message in read_topic(broker.bootstrap_servers, topic)]
    assert sorted((change["key"]["id"], change["op"]) for change in changes) == [
        ("o-0", "c"),
        ("o-1", "c"),
        ("o-1", "d"),
        ("o-2", "c"),
    ]
