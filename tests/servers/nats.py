"""A NATS server with JetStream, on loopback: it keeps its port and its streams over `kill` and `start`.

What it has acknowledged is in its files then, and would not be after a loss of power.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAM = Path(__file__).parents[2] / ".venv-emulators" / "bin" / "nats-server"
_STARTS_MAX = 3
_LOOKS_MAX = 200  # 50 ms apart


@dataclass(slots=True, kw_only=True, eq=False)
class NatsServer:
    """Use `nats_server`. With a `token` it takes no other; the same for `login`, `user:password`.

    `more` is configuration of the test's own, as in the server's file.
    """

    folder: Path
    port: int = 0
    token: str | None = None
    login: str | None = None
    payload_max: int = 1 << 20
    jetstream: bool = True
    more: str = ""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it on the streams that are there, and wait until it takes connections."""
        configuration = self.folder / "nats.conf"
        configuration.write_text(self._configuration())
        command = [str(_PROGRAM), "--config", str(configuration), "--log", str(self.folder / "log")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not self._is_up(self._process):
            self.kill()
            raise RuntimeError("nats-server did not start")

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It takes bytes, and does nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            os.waitpid(self._process.pid, os.WUNTRACED)  # until it has stopped

    def thaw(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _configuration(self) -> str:
        lines = [
            f'listen: "127.0.0.1:{self.port}"',
            f"max_payload: {self.payload_max}",
            self.more,
        ]
        if self.jetstream:
            lines.append(f'jetstream {{ store_dir: "{self.folder}/store" }}')
        if self.token is not None:
            lines.append(f'authorization {{ token: "{self.token}" }}')
        if self.login is not None:
            user, _, password = self.login.partition(":")
            lines.append(f'authorization {{ user: "{user}", password: "{password}" }}')
        return "\n".join(lines) + "\n"

    def _is_up(self, process: subprocess.Popen[bytes]) -> bool:
        for _ in range(_LOOKS_MAX):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                    return probe.recv(4) == b"INFO"
            except OSError:
                pass
            try:
                process.wait(timeout=0.05)
            except subprocess.TimeoutExpired:
                continue
            return False
        return False


@contextmanager
def nats_server(
    folder: Path,
    *,
    token: str | None = None,
    login: str | None = None,
    payload_max: int = 1 << 20,
    jetstream: bool = True,
    more: str = "",
) -> Iterator[NatsServer]:
    """Run one for the length of the block; its streams are in `folder`."""
    if not _PROGRAM.exists():
        raise RuntimeError("nats-server is not installed: make .venv-emulators/ready")
    server = NatsServer(
        folder=folder, token=token, login=login, payload_max=payload_max, jetstream=jetstream, more=more
    )
    for start in range(1, _STARTS_MAX + 1):
        server.port = free_port()
        try:
            server.start()
        except RuntimeError:
            # Between looking for a free port and listening on it somebody else may take it.
            if start == _STARTS_MAX:
                raise
        else:
            break
    try:
        yield server
    finally:
        server.kill()
