"""The `streamflow` command: which commands there are, and how each kind of failure is told.

Commands are imported when they are called, so that `--help` answers without the AWS libraries.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import click

import streamflow
from streamflow.errors import ConfigError, StreamflowError
from streamflow.failpoints import check_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_THREAD_PATIENCE_S = 0.5  # idle worker threads are told to end when the event loop does, and need a moment


class Exit:
    """Exit codes: 2 for what was asked wrongly, 1 for what went wrong, 130 for Ctrl-C, as shells have it."""

    OK = 0
    FAILED = 1
    WRONG = 2
    INTERRUPTED = 130


@dataclass(slots=True)
class Invocation:
    """What options of any command set for the way out. `debug` shows tracebacks."""

    debug: bool = False


class Entry(NamedTuple):
    target: str
    help: str | None
    """One line; None hides the command."""


COMMANDS = {
    "check": Entry("streamflow.cli.check:check", "Check a pipeline file and show what would run."),
    "checkpoint": Entry("streamflow.cli.checkpoint:checkpoint", "Show how far each shard is, and move checkpoints."),
    "cost": Entry("streamflow.cli.cost:cost", "Estimate calls and monthly cost of a fleet."),
    "demo": Entry("streamflow.cli.demo:demo", "See it run on a local server, with a crash in the middle."),
    "describe": Entry(
        "streamflow.cli.describe:describe", "Show what a sink or another plugin promises, and its settings."
    ),
    "dlq": Entry("streamflow.cli.dlq:dlq", "Look at dead letters, deliver them again, or delete them."),
    "iam-policy": Entry(
        "streamflow.cli.iam_policy:iam_policy", "Print the least IAM policy that a pipeline file needs."
    ),
    "import-mapping": Entry(
        "streamflow.cli.import_mapping:import_mapping", "Write the pipeline file of a Lambda event source mapping."
    ),
    "leases": Entry("streamflow.cli.leases:leases", "Show who owns which shard, let leases go, or ask for them."),
    "match": Entry("streamflow.cli.match:match", "Try a filter pattern on records, and see why it does not match."),
    "new": Entry("streamflow.cli.new:new", "Begin a sink or a pipeline of your own, with tests."),
    "parked": Entry("streamflow.cli.parked:parked", "Look at parked items, deliver their changes, or drop them."),
    "plugins": Entry("streamflow.cli.plugins:plugins", "List sinks and other plugins that are installed."),
    "run": Entry("streamflow.cli.run:run", "Run a pipeline file or an app."),
    "run-worker": Entry("streamflow.cli.supervision.worker:run_worker", None),
    "shards": Entry("streamflow.cli.shards:shards", "Show the shards of a stream as a tree, with stored positions."),
    "simulate": Entry(
        "streamflow.cli.simulate:simulate", "Simulate a pipeline with your handler under faults, from seeds."
    ),
    "tail": Entry("streamflow.cli.tail:tail", "Print the records of a stream as they come."),
}


class LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [name for name, entry in COMMANDS.items() if entry.help is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help or "") for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(streamflow.__version__, prog_name="streamflow")
def cli() -> None:
    """Consume DynamoDB streams: in order, with nothing lost.

    Every command has its own --help. Exit codes: 0 success, 1 failure, 2 wrong usage or configuration, 130 Ctrl-C.
    """


def main() -> None:
    """The entry point; it does not return."""
    code = invoke(sys.argv[1:])
    if abandoned := _abandoned_threads():
        click.echo(f"leaving without {len(abandoned)} handler call(s) that were given up and still run", err=True)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    with suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.exit(code)
    # Nobody reads what is left in there, and Python would try again to write it.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _abandoned_threads() -> list[threading.Thread]:  # noqa: TID251 - a type
    """Threads that would keep the process alive: a plain function that was given up does not stop for that."""
    threads = [
        thread for thread in threading.enumerate() if thread is not threading.main_thread() and not thread.daemon
    ]
    for thread in threads:
        thread.join(_THREAD_PATIENCE_S / len(threads))
    return [thread for thread in threads if thread.is_alive()]


def invoke(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; what it raises is told on stderr."""
    invocation = Invocation(debug=os.environ.get("STREAMFLOW_DEBUG", "") not in {"", "0"})
    try:
        check_environment()
        code = cli.main(list(arguments), prog_name="streamflow", standalone_mode=False, obj=invocation)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the last place that can tell the user
        return told(error, debug=invocation.debug)
    return code if isinstance(code, int) else Exit.OK


def told(error: BaseException, *, debug: bool) -> int:
    """Say on stderr what went wrong, each thing once, and return the exit code that it means."""
    causes = list(leaves(error))
    if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
        return Exit.INTERRUPTED
    if debug:
        traceback.print_exception(error)
    for line in dict.fromkeys(line for cause in causes for line in _lines(cause)):
        click.echo(f"error: {line}", err=True)
    if not debug and not all(isinstance(cause, StreamflowError) for cause in causes):
        click.echo("error: this was not foreseen; --debug or STREAMFLOW_DEBUG=1 shows where it happened", err=True)
    return Exit.WRONG if all(isinstance(cause, ConfigError) for cause in causes) else Exit.FAILED


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors inside exception groups, however deep; the error itself where it is none."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def _lines(error: BaseException) -> Sequence[str]:
    if isinstance(error, StreamflowError):
        return str(error).splitlines() or [type(error).__name__]
    text = str(error).partition("\n")[0]
    return [f"{type(error).__name__}{': ' if text else ''}{text}"]


if __name__ == "__main__":
    main()
