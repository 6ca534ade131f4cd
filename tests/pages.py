"""Pages of plugins: their code blocks, and a stream that the programs in them find where the environment points."""

from __future__ import annotations

import re
import runpy
from typing import TYPE_CHECKING

from streamflow.config.load import load_file
from streamflow.sdk import SinkDeclaration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

    from streamflow.testing.pytest_plugin import LocalStreamsFactory


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def check_pipeline_files(page: Path, folder: Path) -> None:
    """Each TOML block of the page is a pipeline file, and the first one declares the sink that the page is about."""
    names = []
    for text in blocks(page, "toml"):
        file = folder / "orders.toml"
        file.write_text(text, encoding="utf-8")
        (pipeline,) = load_file(file, {}).pipelines
        assert isinstance(pipeline.handler, SinkDeclaration)
        names.append(pipeline.handler.name)
    assert names[0] == page.parent.name


def run_program(
    page: Path,
    streams: LocalStreamsFactory,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    instead: Mapping[str, str],
) -> None:
    """Run the page's program over a stream that ends: `o-0`, `o-1` and `o-2`, of which the second is deleted.

    `instead` has what stands in the place of addresses that are not there.
    """
    server = streams()
    server.create_table("orders")
    for number in range(3):
        server.put("orders", {"id": {"S": f"o-{number}"}, "total": {"N": "12.50"}})
    server.delete("orders", {"id": {"S": "o-1"}})
    server.disable_stream("orders")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    (text,) = blocks(page, "python")
    for shown, real in instead.items():
        assert shown in text
        text = text.replace(shown, real)
    program = folder / "program.py"
    program.write_text(text, encoding="utf-8")
    runpy.run_path(str(program))
