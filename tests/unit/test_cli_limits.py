"""What the operating system lets a worker have; and that no process of ours begins as a copy of one that has threads."""

from __future__ import annotations

import ast
import resource
from pathlib import Path

import pytest

import streamflow
from streamflow.cli import limits


@pytest.mark.fault("F58")
def test_as_many_files_may_be_opened_as_the_system_lets_us(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    allowed: list[tuple[int, int]] = [(1_024, 100_000)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: allowed[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: allowed.append(both))
    limits.raise_files()
    assert allowed[-1] == (65_536, 100_000)
    limits.raise_files()
    assert len(allowed) == 2
    assert not caplog.records
    allowed.append((256, 256))
    limits.raise_files()
    assert "few files may be opened limit=256" in caplog.text
    allowed.append((resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    limits.raise_files()
    assert allowed[-1] == (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


@pytest.mark.fault("F58")
def test_nothing_forks() -> None:
    """A copy of a process has locks that threads held which it does not have."""
    package = Path(streamflow.__file__).parent
    found = [
        f"{path.name}: {name}"
        for path in package.rglob("*.py")
        # A sweep of simulations has processes that `multiprocessing` starts afresh.
        if path.relative_to(package).parts[0] != "testing"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in _imported_or_called(node)
        if name.partition(".")[0] == "multiprocessing" or name in {"os.fork", "os.forkpty", "pty.fork"}
    ]
    assert found == []


def _imported_or_called(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module)):
            return [module]
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return [f"{module}.{name}"]
        case _:
            return []


def test_a_fork_would_be_found() -> None:
    planted = ast.parse("import multiprocessing\nfrom multiprocessing import Pool\nimport os\nos.fork()")
    names = {name for node in ast.walk(planted) for name in _imported_or_called(node)}
    assert {"multiprocessing", "os.fork"} <= names
