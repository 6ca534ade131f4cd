"""The README tells the truth: its pipeline file is loaded, and its Python declares the pipeline that it shows."""

from __future__ import annotations

import runpy
from pathlib import Path

from pages import blocks, check_pipeline_files
from streamflow import Pipeline
from streamflow.sdk import SinkDeclaration

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_pipeline_file_declares_the_sink(tmp_path: Path) -> None:
    check_pipeline_files(README, tmp_path)


def test_the_python_declares_the_pipeline(tmp_path: Path) -> None:
    (text,) = blocks(README, "python")
    program = tmp_path / "program.py"
    program.write_text(text, encoding="utf-8")
    declared = runpy.run_path(str(program))["pipeline"]
    assert isinstance(declared, Pipeline)
    assert isinstance(declared.handler, SinkDeclaration)
    assert declared.handler.name == "opensearch"
