"""docs/cli.md describes the commands and options that there are, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from streamflow.cli.main import COMMANDS, cli

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
VISIBLE = [name for name, entry in COMMANDS.items() if entry.help is not None]


def section(command: str) -> str:
    return PAGE.partition(f"\n## {command}\n")[2].partition("\n## ")[0]


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", VISIBLE)
def test_a_command_is_described_with_exactly_its_options(name: str) -> None:
    there = {max(option.opts, key=len) for option in command(name).params if isinstance(option, click.Option)}
    described = re.findall(r"^\| `(--[a-z-]+)", section(name), flags=re.MULTILINE)
    assert sorted(described) == sorted(there)


@pytest.mark.parametrize("name", VISIBLE)
def test_a_command_is_shown_with_its_usage_and_an_example(name: str) -> None:
    usage = " ".join(command(name).collect_usage_pieces(click.Context(cli)))
    assert section(name).strip().startswith(f"`streamflow {name} {usage}`")
    assert f"$ streamflow {name}" in section(name)


def test_every_command_is_listed_and_no_other() -> None:
    assert re.findall(r"^\| \[`(\w+)`\]", PAGE, flags=re.MULTILINE) == VISIBLE


@pytest.mark.parametrize("name", ["check", "run", "shards", "tail"])
def test_the_list_of_commands_says_what_the_command_says(name: str) -> None:
    assert command(name).short_help == COMMANDS[name].help


def test_every_exit_code_is_listed() -> None:
    assert re.findall(r"^\| (\d+) \|", PAGE, flags=re.MULTILINE) == ["0", "1", "2", "130"]
