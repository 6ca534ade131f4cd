"""The documents of the AWS sinks tell the truth: their pipeline files are loaded, their Python declares what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import streamflow
from streamflow.config.load import load_file

HERE = Path(__file__).parents[1]
PAGES = [HERE / "README.md", *sorted((HERE / "sinks").glob("*.md"))]
BLOCKS = [
    (page.name, kind, code)
    for page in PAGES
    for kind, code in re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize(("page", "kind", "code"), [block for block in BLOCKS if block[1] == "toml"])
def test_a_pipeline_file_is_loaded(page: str, kind: str, code: str, tmp_path: Path) -> None:
    file = tmp_path / "streamflow.toml"
    file.write_text(code, encoding="utf-8")
    (pipeline,) = load_file(file, {}).pipelines
    assert pipeline.handler.name in {page.removesuffix(".md"), *code.split('"')}


@pytest.mark.parametrize(("page", "kind", "code"), [block for block in BLOCKS if block[1] == "python"])
def test_python_declares_a_pipeline(page: str, kind: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    declared: list[Any] = []

    async def run(app: Any) -> None:
        declared.append(app)

    monkeypatch.setattr(streamflow, "run", run, raising=False)
    exec(compile(code, page, "exec"), {"__name__": "__main__"})
    assert isinstance(declared[0], streamflow.Pipeline)


def test_every_page_has_both() -> None:
    for page in PAGES:
        assert {kind for name, kind, _ in BLOCKS if name == page.name} >= {"toml", "python"}
