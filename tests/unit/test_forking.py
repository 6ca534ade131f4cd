"""A process that is forked is what one that is started would be: the same is asked of both."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import forking

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

BOTH = pytest.mark.parametrize("run", [forking.run, subprocess.run], ids=["forked", "started"])
TELLING = """
import json, os, signal, sys, threading
files = [name for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name)]
print(json.dumps({
    "arguments": sys.argv,
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "path": sys.path,
    "name": __name__,
    "is_main": sys.modules["__main__"].__dict__ is globals(),
    "imported": "telling" in sys.modules,
    "files": sorted(files),
    "input": sys.stdin.read(),
    "threads": threading.active_count(),
    "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
}))
"""
PROGRAMS = [["-m", "telling", "-a", "b"], ["-c", TELLING, "-a", "b"], ["programs/telling.py", "-a", "b"]]


@pytest.mark.parametrize("program", PROGRAMS, ids=["module", "text", "script"])
def test_it_finds_itself_where_it_would_be_if_it_were_started(tmp_path: Path, program: list[str]) -> None:
    (tmp_path / "programs").mkdir()
    (tmp_path / "telling.py").write_text(TELLING)
    (tmp_path / "programs" / "telling.py").write_text(TELLING)
    (tmp_path / "input").write_text("to be read")

    def told(run: Run) -> dict[str, Any]:
        environment = {"PYTHONPATH": "/some:/more", "LC_CTYPE": "C.UTF-8", "ONLY": "this"}
        with (tmp_path / "input").open() as file:
            ended = run(
                [sys.executable, *program], cwd=tmp_path, env=environment, stdin=file, capture_output=True, text=True
            )
        assert (ended.returncode, ended.stderr) == (0, "")
        found: dict[str, Any] = json.loads(ended.stdout)
        return found

    forked = told(forking.run)
    assert forked == told(subprocess.run)
    assert (forked["environment"]["ONLY"], forked["input"], forked["files"]) == ("this", "to be read", ["0", "1", "2"])


@BOTH
@pytest.mark.parametrize(
    ("program", "status", "last_words"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('why')", 1, "why"),
        ("raise ValueError('why')", 1, "ValueError: why"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
        ("import atexit, sys; atexit.register(sys.stderr.write, 'at its end')", 0, "at its end"),
        ("import threading; threading.Thread(target=print, args=('in a thread',)).start()", 0, ""),
    ],
)
def test_it_ends_as_it_would_if_it_were_started(run: Run, program: str, status: int, last_words: str) -> None:
    ended = run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, "".join(ended.stderr.splitlines()[-1:])) == (status, last_words)
    assert ended.stdout == ("in a thread\n" if "thread" in program else "")


@BOTH
def test_what_it_has_left_open_is_told(run: Run) -> None:
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", "import os; kept = open(os.devnull)"]
    ended = run(command, capture_output=True, text=True)
    assert "ResourceWarning: unclosed file" in ended.stderr


@pytest.mark.parametrize("popen", [forking.popen, subprocess.Popen], ids=["forked", "started"])
def test_it_is_signalled_stopped_and_waited_for_as_a_child(popen: Callable[..., subprocess.Popen[str]]) -> None:
    program = "import signal\nprint('begun', flush=True)\nsignal.pause()"
    with popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert (
            Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1]
            == Path("/proc/self").readlink().name
        )
        process.send_signal(signal.SIGSTOP)
        stopped = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert stopped is not None
        assert stopped.si_status == signal.SIGSTOP
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        _, last_words = process.communicate()
    assert process.returncode == -signal.SIGINT
    assert last_words.splitlines()[-1] == "KeyboardInterrupt"


def test_several_run_at_once_and_each_has_its_own_chances() -> None:
    program = "import random; print(random.random()); input()"
    command = [sys.executable, "-c", program]
    several = [forking.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    drawn = set()
    for process in several:
        assert process.stdout is not None
        drawn.add(process.stdout.readline())
    assert [process.poll() for process in several] == [None] * 3
    for process in reversed(several):
        process.communicate("\n")
    assert [process.returncode for process in several] == [0] * 3
    assert len(drawn) == 3


def test_lines_are_shown_at_once_on_a_terminal() -> None:
    terminal, side = pty.openpty()
    try:
        with forking.popen(
            [sys.executable, "-c", "print('shown'); input()"], stdin=subprocess.PIPE, stdout=side
        ) as ours:
            shown = b""
            while not shown.endswith(b"\n"):  # a terminal hands over what it has
                shown += os.read(terminal, 100)
            assert shown == b"shown\r\n"
            ours.communicate(b"\n")
    finally:
        os.close(side)
        os.close(terminal)


def test_a_process_that_does_not_end_in_time_is_killed() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        forking.run([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, timeout=0.01)


def test_what_was_asked_for_and_fails_raises() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        forking.run([sys.executable, "-c", "raise SystemExit(2)"], check=True)


def test_an_option_of_python_that_is_not_known_is_told() -> None:
    ended = forking.run([sys.executable, "-P", "-c", "pass"], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "AssertionError: no other option is known here"
