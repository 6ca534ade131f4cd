"""The way in and the way out of the `streamflow` command."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from streamflow.cli import main
from streamflow.cli.main import COMMANDS, Entry, invoke, leaves
from streamflow.errors import AccessDeniedError, ConfigError, StoreError

HEAVY = ["aioboto3", "aiobotocore", "botocore", "aiohttp", "pydantic", "anyio"]


def test_help_imports_no_heavy_library() -> None:
    program = (
        "import sys\nfrom streamflow.cli.main import invoke\ninvoke(['--help'])\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Commands:" in finished.stdout
    assert finished.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """Makes `streamflow check` raise the first of these."""
    errors: list[BaseException] = []

    @click.command()
    def check() -> None:
        raise errors[0]

    monkeypatch.setattr("streamflow.cli.check.check", check)
    monkeypatch.delenv("STREAMFLOW_DEBUG", raising=False)
    return errors


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigError(["a.toml:1: one", "a.toml:2: two"]), 2, ["error: a.toml:1: one", "error: a.toml:2: two"]),
        (StoreError("the disk is full"), 1, ["error: the disk is full"]),
        (ExceptionGroup("", [ExceptionGroup("", [ConfigError("wrong")])]), 2, ["error: wrong"]),
        (
            ExceptionGroup("", [ConfigError("wrong"), AccessDeniedError("no"), AccessDeniedError("no")]),
            1,
            ["error: wrong", "error: no"],
        ),
        (
            KeyError("x"),
            1,
            [
                "error: KeyError: 'x'",
                "error: this was not foreseen; --debug or STREAMFLOW_DEBUG=1 shows where it happened",
            ],
        ),
        (KeyboardInterrupt(), 130, []),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), 130, []),
    ],
)
def test_a_failure_is_told_in_lines_without_traceback(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str], error: BaseException, code: int, told: list[str]
) -> None:
    failing.append(error)
    assert invoke(["check"]) == code
    printed = capsys.readouterr()
    assert [line for line in printed.err.splitlines() if line] == told
    assert printed.out == ""


def test_the_environment_turns_tracebacks_on(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing.append(StoreError("the disk is full"))
    monkeypatch.setenv("STREAMFLOW_DEBUG", "1")
    assert invoke(["check"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_debug_turns_tracebacks_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMFLOW_DEBUG", raising=False)
    assert invoke(["check", "nosuch.toml", "--debug"]) == 2
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert printed.endswith("error: nosuch.toml: cannot be read: No such file or directory\n")


@pytest.mark.parametrize("arguments", [["nosuch"], ["check"], ["run"], ["shards", "orders", "--store", "memory:"]])
def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert invoke(arguments) == 2
    assert "Usage: streamflow" in capsys.readouterr().err


def test_success_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["--version"]) == 0
    assert capsys.readouterr().out.startswith("streamflow, version ")


def test_a_command_without_a_line_of_help_is_hidden(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMMANDS, "secret", Entry("streamflow.cli.check:check", None))
    assert invoke(["--help"]) == 0
    assert "secret" not in capsys.readouterr().out
    assert invoke(["secret", "--help"]) == 0


def test_leaves_of_a_group_are_found_however_deep() -> None:
    one, two = ValueError(), OSError()
    assert list(leaves(ExceptionGroup("", [ExceptionGroup("", [one]), two]))) == [one, two]
    assert list(leaves(one)) == [one]


def test_threads_that_end_by_themselves_are_not_abandoned() -> None:
    assert main._abandoned_threads() == []
