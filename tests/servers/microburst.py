"""microburst, a proxy that answers in the words of AWS that something went wrong: on loopback, before MiniStack.

A conftest imports the fixtures that its tests use.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_MICROBURST = Path(__file__).parents[2] / ".venv-emulators" / "bin" / "microburst"
_LOOKS_MAX = 400  # 50 ms apart
_STARTS_MAX = 3


class Microburst:
    """A proxy that runs; `endpoint` is where a client goes instead of the server behind it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def fault(self, *rules: dict[str, Any]) -> None:
        """From now on these rules, in microburst's own form, and no others; what fired before is forgotten."""
        self._call("DELETE", "fired")
        self._call("POST", "rules", list(rules))

    def fired(self, operation: str | None = None) -> list[str]:
        """What was done to requests since `fault`, oldest first, as `error:ThrottlingException` or `reset`."""
        events = self._call("GET", "fired?limit=10000")
        return [event["action"] for event in events if operation in {None, event["operation"]}]

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.endpoint}/_microburst/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())


@contextmanager
def running_microburst(upstream: str) -> Iterator[Microburst]:
    """A proxy before `upstream` that lets everything pass, for as long as the block lasts."""
    if not _MICROBURST.exists():
        pytest.fail("microburst is not installed: make .venv-emulators/ready")
    with tempfile.TemporaryDirectory() as folder:
        for attempt in range(1, _STARTS_MAX + 1):
            with _running(upstream, free_port(), folder) as (process, proxy):
                # Between looking for a free port and listening on it somebody else may take it.
                if _is_up(process, proxy) or attempt == _STARTS_MAX:
                    assert process.poll() is None, "microburst did not start"
                    yield proxy
                    return


@pytest.fixture(scope="session")
def microburst_server(ministack_server: str) -> Iterator[Microburst]:
    """A proxy that runs for the whole session; use `microburst`, which has no faults at the start of each test."""
    with running_microburst(ministack_server) as proxy:
        yield proxy


@pytest.fixture
def microburst(microburst_server: Microburst, ministack: str) -> Microburst:
    """A proxy without faults before an empty MiniStack."""
    microburst_server.fault()
    return microburst_server


@contextmanager
def _running(upstream: str, port: int, folder: str) -> Iterator[tuple[subprocess.Popen[bytes], Microburst]]:
    command = [str(_MICROBURST), "--upstream", upstream, "--host", "127.0.0.1", "--port", str(port), "--no-resign"]
    environment = {**os.environ, "TMPDIR": folder}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process, Microburst(f"http://127.0.0.1:{port}")
    finally:
        # It has nothing to put in order, and would wait for the requests that it was told to hold.
        process.kill()
        process.wait()


def _is_up(process: subprocess.Popen[bytes], proxy: Microburst) -> bool:
    """Wait until it answers; False if the process ends instead, or does not come up in time."""
    for _ in range(_LOOKS_MAX):
        try:
            proxy.fired()
        except OSError:
            pass
        else:
            return True
        try:
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        return False
    return False
