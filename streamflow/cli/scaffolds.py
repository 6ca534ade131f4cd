"""What `streamflow new` writes: a name in, the text of each file out. Templates are read, nothing is written."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import TYPE_CHECKING

import streamflow
from streamflow.errors import ConfigError
from streamflow.pipeline import DynamoDBStream
from streamflow.sdk.declarations import API_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

# Template to the file that is made of it; names of files are templates too.
SINK_FILES: Mapping[str, str] = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "package/__init__.py": "$package/__init__.py",
    "package/settings.py": "$package/settings.py",
    "package/encoding.py": "$package/encoding.py",
    "package/sink.py": "$package/sink.py",
    "package/target.py": "$package/target.py",
    "package/py.typed": "$package/py.typed",
    "tests/contract.py": "tests/test_${name}_contract.py",
    "tests/encoding.py": "tests/test_${name}_encoding.py",
}
PIPELINE_FILES: Mapping[str, str] = {
    "pipeline.toml": "$name.toml",
    "handlers.py": "${name}_handlers.py",
    "gitignore": ".gitignore",
    "pytest.ini": "pytest.ini",
    "tests/pipeline.py": "tests/test_$name.py",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaffold:
    """`files` is path to text, in the order in which one reads them; `commands` are what to do next."""

    directory: str
    files: Mapping[str, str]
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkNames:
    """What a sink is called, in each place.

    The package is `streamflow_NAME`, as for the sinks of this project. The distribution is `streamflow-contrib-NAME`: the
    names `streamflow-engine-…` are this project's own, so a sink that it publishes later under the same name replaces
    nobody's.
    """

    name: str

    @property
    def package(self) -> str:
        return f"streamflow_{self.name}"

    @property
    def distribution(self) -> str:
        return f"streamflow-contrib-{_dashed(self.name)}"

    @property
    def directory(self) -> str:
        return f"streamflow-{_dashed(self.name)}"


def sink_scaffold(name: str) -> Scaffold:
    """A distribution with one sink that works, and its tests.

    Raises:
        ConfigError: a sink cannot be called that.
    """
    _check(name)
    if keyword.iskeyword(name):
        raise ConfigError(f"{name!r} is a word of Python's own, and a variable is to have that name: choose another")
    names = SinkNames(name=name)
    values = {
        "name": name,
        "title": "".join(part.capitalize() for part in name.split("_")),
        "package": names.package,
        "distribution": names.distribution,
        "engine": _engine(streamflow.__version__),
        "api_version": ".".join(map(str, API_VERSION)),
    }
    return Scaffold(
        directory=names.directory,
        files=_rendered("sink", SINK_FILES, values),
        commands=("pip install -e '.[test]'", f"streamflow describe {name}", "pytest"),
    )


def pipeline_scaffold(name: str, *, table: str) -> Scaffold:
    """A pipeline file with a handler beside it, and a test of both.

    Raises:
        ConfigError: a pipeline cannot be called that, or no table can.
    """
    _check(name)
    try:
        DynamoDBStream(table=table)
    except ConfigError:
        raise ConfigError(
            f"--table: {table!r} is no name of a table: those have 3 to 255 of A-Z a-z 0-9 _ . -"
        ) from None
    return Scaffold(
        directory=name,
        files=_rendered("pipeline", PIPELINE_FILES, {"name": name, "table": table}),
        commands=(f"streamflow check {name}.toml", "pytest", f"streamflow run {name}.toml"),
    )


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name here: it begins with one of a-z, and has up to 40 of a-z 0-9 _")


def _dashed(name: str) -> str:
    return "-".join(part for part in name.split("_") if part)


def _engine(version: str) -> str:
    """The versions of streamflow that a sink works with which is written today: of 0.x, those of one x."""
    major, minor = map(int, version.split(".")[:2])
    return f">={major}.{minor},<{major}.{minor + 1}" if major == 0 else f">={major}.{minor},<{major + 1}"


def _rendered(kind: str, files: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    folder = resources.files("streamflow.cli") / "templates" / kind
    return {
        Template(file).substitute(values): Template(
            folder.joinpath(f"{template}.template").read_text(encoding="utf-8")
        ).substitute(values)
        for template, file in files.items()
    }
