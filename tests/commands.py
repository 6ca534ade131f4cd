"""The command `streamflow` in processes of their own, as a test starts them: in its folder, for a server on loopback."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING

import forking

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
STREAMFLOW = (sys.executable, "-m", "streamflow.cli.main")
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Started:
    """A process that writes to `log.txt` in its folder."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    def wait_until(self, fact: Callable[[], object]) -> None:
        """Look again and again, as long as the process lives; the test's own timeout bounds it."""
        while not fact():
            assert self.process.poll() is None, self.log
            self.pass_time()

    def pass_time(self, seconds: float = _LOOK_S) -> None:
        """Wait for as long, or until it ends."""
        with suppress(TimeoutExpired):
            self.process.wait(seconds)

    def ends(self) -> int:
        """Its exit code, once it has ended by itself."""
        return self.process.wait(30)


@contextmanager
def started(
    folder: Path,
    *arguments: str,
    command: Sequence[str] = STREAMFLOW,
    stdout: int | None = None,
    stderr: int | None = None,
    environment: Mapping[str, str] = CREDENTIALS,
) -> Iterator[Started]:
    """A command that is killed at the end of the block, if it has not ended by then."""
    with (folder / "log.txt").open("ab") as log:
        process = forking.popen(
            [*command, *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log if stdout is None else stdout,
            stderr=log if stderr is None else stderr,
        )
    try:
        yield Started(process, folder)
    finally:
        process.kill()
        process.wait()


def ended(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command that has run to its end."""
    environment = {**os.environ, **CREDENTIALS}
    return forking.run(
        [*STREAMFLOW, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
