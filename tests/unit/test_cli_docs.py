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
    """What is below a command's heading, without the sections of its own commands."""
    heading = "### " if " " in command else "## "
    return re.split(r"\n###? ", PAGE.partition(f"\n{heading}{command}\n")[2])[0]


def command(name: str) -> click.Command:
    """By its words: `dlq list` is `list` of the group `dlq`."""
    found: click.Command | None = cli
    for word in name.split():
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), word)
    assert found is not None
    return found


def commands_of(name: str) -> list[str]:
    found = command(name)
    return [f"{name} {each}" for each in found.commands] if isinstance(found, click.Group) else []


def options_there(name: str) -> set[str]:
    return {max(option.opts, key=len) for option in command(name).params if isinstance(option, click.Option)}


def options_described(name: str) -> list[str]:
    return re.findall(r"^\| `(--[a-z-]+)", section(name), flags=re.MULTILINE)


GROUPS = [name for name in VISIBLE if commands_of(name)]
LEAVES = [leaf for name in VISIBLE for leaf in commands_of(name) or [name]]


@pytest.mark.parametrize("name", LEAVES)
def test_a_command_is_described_with_exactly_its_options(name: str) -> None:
    # What several commands of a group have is described once, in the group's section.
    group = name.rpartition(" ")[0]
    shared = set(options_described(group)) & options_there(name) if group else set()
    assert sorted([*options_described(name), *shared]) == sorted(options_there(name))


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_is_described_with_exactly_its_commands(name: str) -> None:
    assert sorted(re.findall(rf"^### ({name} .+)$", PAGE, flags=re.MULTILINE)) == sorted(commands_of(name))
    for option in options_described(name):
        assert sum(option in options_there(each) for each in commands_of(name)) > 1


@pytest.mark.parametrize("name", [*GROUPS, *LEAVES])
def test_a_command_is_shown_with_its_usage_and_an_example(name: str) -> None:
    usage = " ".join(command(name).collect_usage_pieces(click.Context(cli)))
    assert section(name).strip().startswith(f"`streamflow {name} {usage}`")
    if name in LEAVES:
        assert f"$ streamflow {name}" in section(name)


def test_every_command_is_listed_and_no_other() -> None:
    assert re.findall(r"^\| \[`([\w-]+)`\]", PAGE, flags=re.MULTILINE) == VISIBLE


@pytest.mark.parametrize("name", VISIBLE)
def test_the_list_of_commands_says_what_the_command_says(name: str) -> None:
    assert command(name).short_help == COMMANDS[name].help


def test_every_exit_code_is_listed() -> None:
    assert re.findall(r"^\| (\d+) \|", PAGE, flags=re.MULTILINE) == ["0", "1", "2", "70", "130"]
