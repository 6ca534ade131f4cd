"""The pytest plugin that is installed with streamflow."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "local-streams.md"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=50)


def test_the_plugin_is_an_entry_point_of_pytest(request: pytest.FixtureRequest) -> None:
    (point,) = entry_points(group="pytest11", name="streamflow")
    assert point.value == "streamflow.testing.pytest_plugin"
    assert request.config.pluginmanager.has_plugin("streamflow")


def test_loading_the_plugin_imports_neither_the_server_nor_an_aws_library() -> None:
    heavy = "{'aiohttp', 'aioboto3', 'boto3', 'botocore', 'msgspec', 'orjson', 'anyio'}"
    code = (
        f"import pytest, sys; before = set(sys.modules); import streamflow.testing.pytest_plugin; "
        f"print(sorted((set(sys.modules) - before) & {heavy}))"
    )
    done = run("-c", code)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_example_of_the_guide_runs(tmp_path: Path) -> None:
    _, example, *_ = GUIDE.read_text().split("```python\n")
    (tmp_path / "test_example.py").write_text(example.partition("```")[0])
    done = run("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(tmp_path), "--rootdir", str(tmp_path))
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
