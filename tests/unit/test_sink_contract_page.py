"""The example of docs/sink-contract.md is whole: its two files, side by side, pass the contract suite."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sink-contract.md"


@pytest.mark.timeout(120)
def test_the_example_passes_the_suite(tmp_path: Path) -> None:
    sink, test = re.findall(r"^```python(?: no-run)?\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)[
        :2
    ]
    (tmp_path / "acme.py").write_text(sink)
    (tmp_path / "test_acme.py").write_text(test)
    program = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "test_acme.py"]
    finished = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout
    assert re.search(r"\d\d passed, \d+ skipped", finished.stdout)
    for line in finished.stdout.splitlines():
        assert not line.startswith("SKIPPED") or "not promised: " in line or "not run: " in line
