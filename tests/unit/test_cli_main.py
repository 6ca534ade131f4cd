"""The way in and the way out of the `streamflow` command."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import click
import pytest

from streamflow.cli import main
from streamflow.cli.main import COMMANDS, Entry, invoke, leaves
from streamflow.dead_letters import DeadLetter
from streamflow.errors import AccessDeniedError, ConfigError, StoreError
from streamflow.plugins import open_store

if TYPE_CHECKING:
    from pathlib import Path

SDK = {"aioboto3", "aiobotocore", "boto3"}
SERVERS = {"aiohttp", "prometheus_client", "rich", "streamflow.launch", "streamflow.engine.worker"}
DECLARATIONS = {"pydantic", "streamflow.pipeline", "streamflow.config.load"}


def loaded_by(*arguments: str) -> set[str]:
    """The modules that the command has loaded at its end, which must be a good one, in an interpreter of its own."""
    program = (
        "import sys\nfrom streamflow.cli.main import invoke\n"
        "code = invoke(sys.argv[1:])\nprint(*sys.modules, file=sys.stderr)\nsys.exit(code)"
    )
    command = [sys.executable, "-c", program, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert finished.stdout
    return set(finished.stderr.splitlines()[-1].split())


def test_help_loads_no_library_but_click() -> None:
    loaded = loaded_by("--help")
    assert "click" in loaded
    assert loaded & {*SDK, "botocore", *SERVERS, *DECLARATIONS, "anyio", "asyncio", "msgspec", "orjson"} == set()


@pytest.mark.parametrize(
    "command", ["cost", "dlq", "dlq list", "leases", "leases list", "match", "parked", "parked list", "run", "shards"]
)
def test_the_help_of_a_command_loads_nothing_that_it_would_work_with(command: str) -> None:
    assert loaded_by(*command.split(), "--help") & {*SDK, "botocore", *SERVERS, *DECLARATIONS} == set()


def test_looking_into_a_store_loads_no_sdk_and_nothing_of_a_worker(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'orders.db'}"
    anyio.run(_make, store)
    loaded = loaded_by("dlq", "list", "--json", "--store", store)
    assert "streamflow.stores.sqlite" in loaded
    assert loaded & {*SDK, "botocore", *SERVERS, "streamflow.pipeline", "streamflow.config.load"} == set()


LETTER = DeadLetter(
    pipeline="orders",
    stream_arn="arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000",
    shard_id="shardId-00000000000000000001-00000001",
    sequence_number="100",
    item_key="",
    record=b"{}",
    reason="RetryAttemptsExhausted",
)


async def _make(store: str) -> None:
    """A store with one letter."""
    async with open_store(store) as opened:
        await opened.keep([LETTER])


def test_listing_plugins_loads_no_sdk_and_nothing_of_a_worker() -> None:
    loaded = loaded_by("plugins")
    assert "streamflow.stores.dynamodb.store" in loaded
    # Plugins, and what tells their errors, may load botocore and aiohttp; they say so in their own modules.
    assert loaded & (SDK | SERVERS) - {"aiohttp"} == set()


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
