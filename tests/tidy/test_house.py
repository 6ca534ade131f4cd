"""The tree keeps the rules of the house."""

from __future__ import annotations

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import house_rules
import pytest

import streamflow

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE_LINES_MAX = 200


@cache
def texts() -> dict[str, str]:
    """Every file of the repository that git does not ignore, by path: what a clone will hold, committed or not yet."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    files = {name: ROOT / name for name in listed.stdout.split("\0") if name}
    return {name: path.read_text("utf-8", errors="replace") for name, path in files.items() if path.is_file()}


def python_files(*folders: str) -> dict[str, str]:
    return {
        path: text
        for path, text in texts().items()
        if path.endswith(".py") and (not folders or path.startswith(folders))
    }


def documents() -> dict[str, str]:
    return {path: text for path, text in texts().items() if path.endswith(".md")}


def edges() -> list[house_rules.Import]:
    product = python_files("streamflow/")
    modules = frozenset(map(house_rules.module_name, product))
    return [edge for path, text in product.items() for edge in house_rules.imports(path, text, modules)]


def test_there_is_a_tree_to_look_at() -> None:
    assert len(python_files("streamflow/")) > 30
    assert len(edges()) > 100


def test_imports_point_down() -> None:
    assert house_rules.wrong_imports(edges()) == []


def test_modules_form_no_cycle() -> None:
    assert house_rules.cycles(edges()) == []


def test_every_room_has_a_level() -> None:
    rooms = {house_rules.room(house_rules.module_name(path)) for path in python_files("streamflow/")} - {""}
    assert rooms <= house_rules.LEVELS.keys()


def test_architecture_lists_every_module() -> None:
    modules = {path.removeprefix("streamflow/") for path in python_files("streamflow/")}
    named = frozenset(path for path in modules if not path.endswith("/__init__.py"))
    assert house_rules.differences(house_rules.listed_modules(texts()["ARCHITECTURE.md"]), named) == []


def test_architecture_stays_short() -> None:
    assert len(texts()["ARCHITECTURE.md"].splitlines()) < ARCHITECTURE_LINES_MAX


def test_names_are_nouns() -> None:
    assert [f for path, text in python_files().items() for f in house_rules.wrong_names(path, text)] == []


def test_every_exception_from_a_name_rule_is_still_needed() -> None:
    source = "\n".join(python_files("streamflow/").values())
    assert [name for name in house_rules.CLASS_NAMES_ALLOWED if f"class {name}" not in source] == []


def test_modules_start_with_a_docstring() -> None:
    assert [f for path, text in python_files().items() for f in house_rules.without_docstring(path, text)] == []


def test_no_work_is_promised_in_comments() -> None:
    assert [f for path, text in python_files().items() for f in house_rules.unfinished(path, text)] == []


def test_nothing_is_tied_to_one_machine() -> None:
    assert [f for path, text in texts().items() for f in house_rules.ties_to_a_machine(path, text)] == []


def test_links_lead_somewhere() -> None:
    folders = {str(parent) for path in texts() for parent in Path(path).parents}
    files = frozenset({*texts(), *folders})
    assert [f for path, text in documents().items() for f in house_rules.dead_links(path, text, files)] == []


def test_decisions_keep_their_form() -> None:
    prefix = "docs/decisions/"
    pages = {path.removeprefix(prefix): text for path, text in documents().items() if path.startswith(prefix)}
    assert pages
    assert house_rules.wrong_decisions(pages) == []


def test_every_decision_is_linked_from_architecture() -> None:
    pages = [path for path in documents() if path.startswith("docs/decisions/")]
    assert [path for path in pages if f"({path})" not in texts()["ARCHITECTURE.md"]] == []


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads(texts()["pyproject.toml"])["project"]
    assert project["version"] == streamflow.__version__
    headings = re.findall(r"^## \[(.+?)\]", texts()["CHANGELOG.md"], re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0] == project["version"]


@pytest.mark.parametrize("path", [".ci/run"])
def test_scripts_are_executable(path: str) -> None:
    assert (ROOT / path).stat().st_mode & 0o111
