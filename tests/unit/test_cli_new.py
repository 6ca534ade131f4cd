"""`streamflow new` writes files that are whole and tidy, and never over others."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streamflow.cli.main import invoke
from streamflow.cli.scaffolds import PIPELINE_FILES, SINK_FILES, Scaffold, _engine, pipeline_scaffold, sink_scaffold
from streamflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = "a234567890123456789012345678901234567890"
# Names that the template itself uses, of its modules, variables and imports.
INNER_NAMES = ["settings", "sink", "target", "encoding", "encode", "payload", "streamflow", "tests", "open_sink", "x"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def files_below(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): path.read_text("utf-8")
        for path in directory.rglob("*")
        if path.is_file()
    }


def scaffolds() -> Iterator[Scaffold]:
    for name in ("acme", LONGEST, "a"):
        yield sink_scaffold(name)
        yield pipeline_scaffold(name, table="orders")


# --- what is written -------------------------------------------------------------------------------------------------


def test_a_sink_is_a_distribution_with_tests(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["new", "sink", "acme"]) == 0
    written = files_below(Path("streamflow-acme"))
    assert sorted(written) == [
        ".gitignore",
        "README.md",
        "pyproject.toml",
        "streamflow_acme/__init__.py",
        "streamflow_acme/encoding.py",
        "streamflow_acme/py.typed",
        "streamflow_acme/settings.py",
        "streamflow_acme/sink.py",
        "streamflow_acme/target.py",
        "tests/test_acme_contract.py",
        "tests/test_acme_encoding.py",
    ]
    assert written == sink_scaffold("acme").files
    shown = capsys.readouterr()
    assert sorted(shown.out.splitlines()) == sorted(f"streamflow-acme/{file}" for file in written)
    assert "cd streamflow-acme" in shown.err
    assert "pip install -e '.[test]'" in shown.err


def test_a_sink_is_found_by_its_name() -> None:
    project = tomllib.loads(sink_scaffold("acme_mail").files["pyproject.toml"])["project"]
    assert project["name"] == "streamflow-contrib-acme-mail"
    assert project["entry-points"] == {"streamflow.sinks": {"acme_mail": "streamflow_acme_mail:acme_mail"}}
    assert project["dependencies"] == ["streamflow-engine>=0.1,<0.2"]


@pytest.mark.parametrize(
    ("name", "distribution"),
    [("acme_", "streamflow-contrib-acme"), ("a__b", "streamflow-contrib-a-b"), ("a1", "streamflow-contrib-a1")],
)
def test_the_distribution_has_a_name_that_one_can_have(name: str, distribution: str) -> None:
    assert tomllib.loads(sink_scaffold(name).files["pyproject.toml"])["project"]["name"] == distribution


@pytest.mark.parametrize(
    ("version", "range_"), [("0.1.0", ">=0.1,<0.2"), ("0.12.3", ">=0.12,<0.13"), ("2.3.1", ">=2.3,<3")]
)
def test_a_sink_asks_for_the_versions_that_keep_its_api(version: str, range_: str) -> None:
    assert _engine(version) == range_


def test_a_pipeline_is_a_file_with_its_code_and_a_test(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["new", "pipeline", "orders"]) == 0
    written = files_below(Path("orders"))
    assert sorted(written) == [
        ".gitignore",
        "orders.toml",
        "orders_handlers.py",
        "pytest.ini",
        "tests/test_orders.py",
    ]
    assert tomllib.loads(written["orders.toml"])["pipelines"]["orders"]["table"] == "orders"
    assert "streamflow check orders.toml" in capsys.readouterr().err


def test_the_table_of_a_pipeline_may_have_another_name() -> None:
    assert invoke(["new", "pipeline", "o", "--table", "orders-2026"]) == 0
    written = files_below(Path("o"))
    assert tomllib.loads(written["o.toml"])["pipelines"]["o"]["table"] == "orders-2026"
    assert 'TABLE = "orders-2026"' in written["tests/test_o.py"]


def test_the_pipeline_file_is_valid(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.path", list(sys.path))
    assert invoke(["new", "pipeline", "orders"]) == 0
    os.chdir("orders")
    assert invoke(["check", "orders.toml"]) == 0
    assert "orders.toml is valid" in capsys.readouterr().out


def test_what_the_pipeline_file_offers_in_comments_is_valid_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.path", list(sys.path))
    assert invoke(["new", "pipeline", "invoices"]) == 0
    os.chdir("invoices")
    file = Path("invoices.toml")
    text = file.read_text().replace('type = "console"\npayload = "change"\n', "")
    for comment in ("filters", "type"):
        assert f"\n# {comment} = " in text
        text = text.replace(f"\n# {comment} = ", f"\n{comment} = ")
    file.write_text(text)
    assert invoke(["check", "invoices.toml"]) == 0
    sys.modules.pop("invoices_handlers", None)
    told = capsys.readouterr().out
    assert "invoices_handlers:deliver" in told
    assert "filters 1" in told


@pytest.mark.parametrize("kind", ["sink", "pipeline"])
def test_it_is_written_where_it_is_wanted(kind: str) -> None:
    assert invoke(["new", kind, "acme", "--directory", "deep/down"]) == 0
    assert len(files_below(Path("deep/down"))) == len(SINK_FILES if kind == "sink" else PIPELINE_FILES)


def test_every_template_is_used_and_no_other_file_lies_between_them() -> None:
    folder = Path(str(resources.files("streamflow.cli") / "templates"))
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    used = {f"sink/{name}.template" for name in SINK_FILES} | {f"pipeline/{name}.template" for name in PIPELINE_FILES}
    assert there == used


# --- as one would have written it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaffold", list(scaffolds()), ids=lambda scaffold: scaffold.directory)
def test_what_is_written_is_tidy(scaffold: Scaffold, tmp_path: Path) -> None:
    for name, text in scaffold.files.items():
        assert "$" not in text, f"{name} has a place that was not filled"
        assert text == "" or (text.endswith("\n") and not text.endswith("\n\n")), name
        if name.endswith(".py"):
            assert (ast.get_docstring(ast.parse(text)) or "").strip(), f"{name} has no docstring"
        if name.endswith(".toml"):
            assert tomllib.loads(text)
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    ruff = (sys.executable, "-m", "ruff")
    for command in (("format", "--check"), ("check", "--select", "E,F,W,I,UP,B,SIM,RET,TC", "--ignore", "E501")):
        finished = subprocess.run(
            [*ruff, *command, "--no-cache", "."], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert finished.returncode == 0, finished.stdout


def test_a_sink_of_any_name_can_be_loaded(tmp_path: Path) -> None:
    for name in INNER_NAMES:
        for file, text in sink_scaffold(name).files.items():
            target = tmp_path / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    program = """
import importlib, sys
from streamflow.sdk import SinkPlugin
for name in sys.argv[1:]:
    package = importlib.import_module(f"streamflow_{name}")
    plugin = getattr(package, name)
    for module in ("settings", "encoding", "sink", "target"):
        importlib.import_module(f"streamflow_{name}.{module}")
    print(name, isinstance(plugin, SinkPlugin))
"""
    finished = subprocess.run(
        [sys.executable, "-c", program, *INNER_NAMES], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert finished.stdout.splitlines() == [f"{name} True" for name in INNER_NAMES], finished.stderr


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sink", "pipeline"])
@pytest.mark.parametrize("name", ["", "Acme", "1acme", "_acme", "a-b", "a.b", "../acme", "ä", "acme\n", LONGEST + "1"])
def test_a_name_that_is_none_is_refused(kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["new", kind, name]) == 2
    assert "is no name here: it begins with one of a-z" in capsys.readouterr().err
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("class", "is a word of Python's own"),
        ("jsonl", "a sink 'jsonl' is installed already"),
        ("aws", "a package streamflow_aws is installed already"),
    ],
)
def test_a_sink_cannot_take_a_name_that_is_taken(name: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["new", "sink", name]) == 2
    assert message in capsys.readouterr().err
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("arguments", [("ab",), ("orders", "--table", "a/b")])
def test_a_table_that_cannot_be_is_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["new", "pipeline", *arguments]) == 2
    assert "is no name of a table: those have 3 to 255 of" in capsys.readouterr().err
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("kind", ["sink", "pipeline"])
def test_nothing_is_written_beside_other_files(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("there").mkdir()
    Path("there/notes.txt").write_text("mine")
    assert invoke(["new", kind, "acme", "--directory", "there"]) == 2
    assert "there is not empty, and nothing is overwritten" in capsys.readouterr().err
    assert files_below(Path("there")) == {"notes.txt": "mine"}


def test_a_second_time_changes_nothing() -> None:
    assert invoke(["new", "pipeline", "orders"]) == 0
    Path("orders/orders.toml").write_text("mine")
    assert invoke(["new", "pipeline", "orders"]) == 2
    assert Path("orders/orders.toml").read_text() == "mine"


def test_a_file_in_place_of_the_directory_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("orders").write_text("mine")
    assert invoke(["new", "pipeline", "orders"]) == 2
    assert "orders is a file: name another directory with --directory" in capsys.readouterr().err
    assert Path("orders").read_text() == "mine"


def test_a_directory_that_cannot_be_made_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    assert invoke(["new", "pipeline", "orders", "--directory", "file/orders"]) == 2
    assert "cannot be written: Not a directory" in capsys.readouterr().err


def test_an_empty_directory_is_good() -> None:
    Path("mine").mkdir()
    assert invoke(["new", "pipeline", "orders", "--directory", "mine"]) == 0


def test_the_refusals_are_errors_of_the_configuration() -> None:
    with pytest.raises(ConfigError):
        sink_scaffold("A")
    with pytest.raises(ConfigError):
        pipeline_scaffold("orders", table="a")
