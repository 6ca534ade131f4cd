"""The public names of the package: they resolve, they are the ones we promise, and they cost nothing until used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import streamflow

HEAVY = (
    "aioboto3",
    "aiobotocore",
    "botocore",
    "aiohttp",
    "anyio",
    "pydantic",
    "msgspec",
    "prometheus_client",
    "rich",
    "click",
)


def run_python(code: str) -> str:
    finished = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30)
    return finished.stdout.strip()


@pytest.mark.parametrize("name", streamflow.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(streamflow, name) is not None


def test_public_names_are_listed_once() -> None:
    assert sorted(streamflow.__all__) == sorted(set(streamflow.__all__))
    assert set(dir(streamflow)) == set(streamflow.__all__)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(streamflow.__file__).read_text())
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    names = {alias.asname for node in ast.walk(typed) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == set(streamflow.__all__) - {"__version__"}


def test_a_public_name_lives_where_the_package_finds_it() -> None:
    values = {name: getattr(streamflow, name) for name in streamflow.__all__ if name != "__version__"}
    homes = {name: value.__module__ for name, value in values.items() if hasattr(value, "__module__")}
    assert [
        name for name, home in homes.items() if home.startswith("streamflow.") and name not in vars(sys.modules[home])
    ] == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    mistyped = "Pipelin"
    with pytest.raises(AttributeError, match="'streamflow' has no attribute 'Pipelin'"):
        getattr(streamflow, mistyped)


def test_importing_the_package_imports_no_library() -> None:
    loaded = run_python(f"import sys, streamflow; print(*[name for name in {HEAVY!r} if name in sys.modules])")
    assert loaded == ""


def test_declaring_a_pipeline_imports_no_aws_library_and_no_server() -> None:
    code = """
import sys, streamflow
async def deliver(batch): ...
source = streamflow.DynamoDBStream(table="orders")
streamflow.App(pipelines=(streamflow.Pipeline(name="orders", source=source, handler=deliver),))
print(*[name for name in ("aioboto3", "botocore", "aiohttp", "prometheus_client", "rich", "click") if name in sys.modules])
"""
    assert run_python(code) == ""


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(streamflow.__file__).parent / "py.typed").is_file()
