"""Processes that start in no time: each is forked from one that has imported what the commands import.

What is started here is a child of the test like any other, and does what `python` with the same arguments does in the same
folder, with the same environment and the same open files. What a start has to prove itself (imports, how long they take, what
the interpreter reads from the environment) needs a start of its own, with `subprocess`.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, AnyStr

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MESSAGE_BYTES_MAX = 200_000
_STRICT = ["-W", "error::ResourceWarning"]
_PR_SET_CHILD_SUBREAPER = 36


def popen(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """As `subprocess.Popen`, where the command is `[sys.executable, …]` with `-m`, `-c` or a script.

    For each of them it is an error to leave a file or a connection open, with `-W error::ResourceWarning` or without. Where
    the system has no way to adopt a process, it is started as any other.
    """
    return _Forked(command, **options) if sys.platform == "linux" else subprocess.Popen(command, **options)


def run(
    command: Sequence[str],
    *,
    capture_output: bool = False,
    check: bool = False,
    timeout: float | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """As `subprocess.run` without input, of the same commands."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with popen(command, **options) as process:
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    ended = subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
    if check:
        ended.check_returncode()
    return ended


class _Forked(subprocess.Popen[AnyStr]):
    def _execute_child(  # all of `Popen` that makes a process
        self,
        args: Sequence[str],
        executable: None,
        preexec_fn: None,
        close_fds: bool,
        pass_fds: tuple[()],
        cwd: os.PathLike[str] | str | None,
        env: Mapping[str, str] | None,
        startupinfo: None,
        creationflags: int,
        shell: bool,
        *files_and_others: int,
    ) -> None:
        assert args[0] == sys.executable
        request = {
            "arguments": args[3:] if args[1:3] == _STRICT else args[1:],
            "environment": dict(os.environ if env is None else env),
            "folder": str(Path(cwd or ".").absolute()),
        }
        files = files_and_others[:6]
        # What it reads and writes, and is this process's own where nothing was said.
        standard = [own if file == -1 else file for own, file in enumerate((files[0], files[3], files[5]))]
        server = _server()
        with _adopting():
            socket.send_fds(server, [json.dumps(request).encode()], standard)
            self.pid = int(server.recv(_MESSAGE_BYTES_MAX))
        self._child_created = True
        self._close_pipe_fds(*files)  # type: ignore[attr-defined]


@cache
def _server() -> socket.socket:
    """Where a process of the test run asks, and what it asks ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, *_STRICT, __file__]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "STREAMFLOW_"))}
        credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        environment = {**inherited, **credentials}
        server = subprocess.Popen(command, env=environment, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


@contextmanager
def _adopting() -> Iterator[None]:
    """A process whose parent ends in the block is a child of this one from then on."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


# --- the process that forks --------------------------------------------------------------------------------------------


def _serve(requests: socket.socket) -> dict[str, Any]:
    """Fork until there are no more requests; this returns in each new process, with what it is to be."""
    while True:
        message, files, _, _ = socket.recv_fds(requests, _MESSAGE_BYTES_MAX, 3)
        if not message:
            sys.exit()
        reading, writing = os.pipe()
        between = os.fork()
        if not between:
            # Its parent ends at once, so that whoever asked adopts it.
            if child := os.fork():
                os.write(writing, str(child).encode())
                os._exit(0)
            for place, file in enumerate(files):
                os.dup2(file, place)
        else:
            os.waitpid(between, 0)
            requests.send(os.read(reading, 20))
        for file in (reading, writing, *files):
            os.close(file)
        if not between:
            requests.close()
            return json.loads(message)  # type: ignore[no-any-return]


def _become(request: dict[str, Any], path: Sequence[str]) -> None:
    """Be the process that is asked for; `path` is that of modules without what the environment adds."""
    option, *arguments = request["arguments"]
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())  # type: ignore[union-attr]
    added = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    match option:
        case "-m":
            module, *sys.argv[1:] = arguments
            sys.path[:] = [request["folder"], *added, *path]
            sys.modules.pop(module, None)  # it is `__main__` now, and imported anew where others want it
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case "-c":
            program, *sys.argv[1:] = arguments
            sys.argv[0] = option
            sys.path[:] = ["", *added, *path]
            main = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(program, "<string>", "exec"), vars(main))
        case script:
            assert not script.startswith("-"), "no other option is known here"
            sys.argv[1:] = arguments
            sys.path[:] = [str(Path(script).parent.absolute()), *added, *path]
            runpy.run_path(script, run_name="__main__")


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
    import streamflow.stores.sqlite
    import streamflow.testing.failpoints  # noqa: F401
    from streamflow.aws.session import open_aws
    from streamflow.pipeline import AwsOptions

    found = os.environ.pop("PYTHONPATH", "").split(os.pathsep)
    anyio.run(_warm_up)
    assert threading.active_count() == 1, "a fork has one thread, and the locks of all"
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page that holds an object
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as requests:
        request = _serve(requests)
    _become(request, [place for place in sys.path[1:] if place not in found])
