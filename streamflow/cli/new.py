"""`streamflow new`: a sink or a pipeline to begin with, whose tests are green at once."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamflow.cli import options
from streamflow.cli.scaffolds import SinkNames, pipeline_scaffold, sink_scaffold
from streamflow.errors import ConfigError
from streamflow.plugins import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.cli.scaffolds import Scaffold


@click.group(short_help="Begin a sink or a pipeline of your own, with tests.")
def new() -> None:
    """Begin a sink or a pipeline of your own: write files that work as they are, with tests that pass.

    NAME begins with one of a-z and has up to 40 of a-z, 0-9 and _.
    """


def _directory(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--directory",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help=f"Write there instead of to {default}; it is made, or is empty.",
    )


@new.command(short_help="Write a distribution with a sink plugin.")
@click.argument("name")
@_directory("streamflow-NAME")
@options.debug
def sink(name: str, *, directory: Path | None) -> None:
    """Write a distribution with the sink plugin NAME: settings, encoding, writing, the contract suite, a README.

    It appends JSON lines to a file; what to replace by your target is marked.
    """
    scaffold = sink_scaffold(name)
    if name in names("sinks"):
        raise ConfigError(f"a sink {name!r} is installed already, and two of one name cannot be used: choose another")
    package = SinkNames(name=name).package
    if find_spec(package) is not None:
        raise ConfigError(f"a package {package} is installed already, and {name!r} would be in its way: choose another")
    _written(scaffold, directory)


@new.command(short_help="Write a pipeline file, a handler, and a test of both.")
@click.argument("name")
@click.option("--table", metavar="TABLE", help="The table whose stream is read, where that is not called NAME.")
@_directory("NAME")
@options.debug
def pipeline(name: str, *, table: str | None, directory: Path | None) -> None:
    """Write the pipeline file NAME.toml that prints what changes in a table, a handler to put in its place, and a test."""
    _written(pipeline_scaffold(name, table=table or name), directory)


def _written(scaffold: Scaffold, directory: Path | None) -> None:
    """Write the files and say what to do next. Raises `ConfigError` before anything is written, if it can be known."""
    target = directory or Path(scaffold.directory)
    try:
        _make_empty(target)
        for name, text in scaffold.files.items():
            file = target / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
            click.echo(str(file))
    except OSError as error:
        raise ConfigError(f"{error.filename or target} cannot be written: {error.strerror}") from error
    steps = [f"  {command}" for command in (f"cd {target}", *scaffold.commands)]
    click.echo("\n".join(["next:", *steps]), err=True)


def _make_empty(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"{directory} is a file: name another directory with --directory")
    if directory.is_dir() and any(directory.iterdir()):
        raise ConfigError(f"{directory} is not empty, and nothing is overwritten: name another one with --directory")
    directory.mkdir(parents=True, exist_ok=True)
