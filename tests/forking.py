"""Processes of the command line that start in no time: each is forked from one that has imported everything.

    python -m forking

reads a JSON object a line, `{"arguments", "environment", "folder"}`, runs `python -m streamflow.testing.failpoints` with these
arguments in a fork of itself, and answers with a line `{"status"}` when that has ended. What it writes goes to `log.txt` in
its folder. At the end of the input the process that runs is killed.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from select import select
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Forking:
    """The other end: one process after the other."""

    requests: IO[str]
    answers: IO[str]

    def run(self, *arguments: str, environment: Mapping[str, str], folder: Path) -> int:
        """Wait for the end of a process; the answer is its exit status, or minus the number of the signal that killed it."""
        request = {"arguments": arguments, "environment": dict(environment), "folder": str(folder)}
        self.requests.write(json.dumps(request) + "\n")
        self.requests.flush()
        status: int = json.loads(self.answers.readline())["status"]
        return status


@contextmanager
def open_forking() -> Iterator[Forking]:
    """Nothing is left of it after the block."""
    process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        yield Forking(process.stdin, process.stdout)
    process.wait()


def _serve() -> None:
    # Without a buffer, in which a request might wait unseen.
    requests = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115 - a file descriptor
    for line in iter(requests.readline, b""):
        child = os.fork()
        if not child:
            _become(json.loads(line))
        with os.fdopen(os.pidfd_open(child)) as ended:
            # Nothing is asked for while one runs: input that can be read is its end.
            if ended not in select([ended, requests], [], [])[0]:
                os.kill(child, signal.SIGKILL)
        print(json.dumps({"status": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}), flush=True)


def _become(request: dict[str, Any]) -> None:
    """Be the process that is asked for; this does not return."""
    status = 1
    try:
        os.chdir(request["folder"])
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(request["environment"])
        sys.path[0] = request["folder"]
        sys.argv = ["streamflow", *request["arguments"]]
        failpoints.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


async def _warm_up() -> None:
    """Read the SDK's models of the services, which a process keeps: most of what a start would take beside the imports."""
    options = AwsOptions(region="us-east-1", endpoint_url="http://127.0.0.1:1")
    async with open_aws(options) as aws, aws.client("dynamodb"), aws.open_wire("dynamodbstreams"):
        pass  # nothing is called


if __name__ == "__main__":
    # What the commands would import one by one.
    import anyio

    import streamflow.cli.dlq
    import streamflow.cli.main
    import streamflow.cli.redriving
    import streamflow.cli.run
    import streamflow.config.load
    import streamflow.destinations.letters
    import streamflow.launch
    import streamflow.sinks.sqlite
    import streamflow.sources.dynamodb
    import streamflow.stores.sqlite  # noqa: F401
    from streamflow.aws.session import open_aws
    from streamflow.pipeline import AwsOptions
    from streamflow.testing import failpoints

    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    anyio.run(_warm_up)
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page that holds an object
    _serve()
