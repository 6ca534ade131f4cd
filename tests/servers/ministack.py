"""MiniStack, a server that speaks for many services of AWS: on loopback, and once for each process of the test run.

A conftest imports the fixtures that its tests use.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_MINISTACK = Path(__file__).parents[2] / ".venv-emulators" / "bin" / "ministack"
_HEALTH_LOOKS_MAX = 600  # 50 ms apart
_STARTS_MAX = 3


@contextmanager
def running_ministack() -> Iterator[str]:
    """The endpoint of an empty MiniStack that runs while the block lasts."""
    if not _MINISTACK.exists():
        pytest.fail("MiniStack is not installed: make .venv-emulators/ready")
    with tempfile.TemporaryDirectory() as folder:
        for attempt in range(1, _STARTS_MAX + 1):
            with _running(free_port(), folder) as (process, endpoint):
                # Between looking for a free port and listening on it somebody else may take it.
                if _is_up(process, endpoint) or attempt == _STARTS_MAX:
                    assert process.poll() is None, "MiniStack did not start"
                    yield endpoint
                    return


@pytest.fixture(scope="session")
def ministack_server() -> Iterator[str]:
    """The endpoint of a MiniStack that runs for the whole session; use `ministack`, which empties it for each test."""
    with running_ministack() as endpoint:
        yield endpoint


@pytest.fixture
def ministack(ministack_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The endpoint of an empty MiniStack; the environment holds credentials for it, and nothing of this machine's."""
    _post(f"{ministack_server}/_ministack/reset")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "does-not-exist")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "does-not-exist")
    return ministack_server


@pytest.fixture
def dynamodb(ministack: str) -> Iterator[Any]:
    """boto3's client for tables on MiniStack."""
    client = _client("dynamodb", ministack)
    yield client
    client.close()


@pytest.fixture
def dynamodbstreams(ministack: str) -> Iterator[Any]:
    """boto3's client for streams on MiniStack: what our own reading is compared with."""
    client = _client("dynamodbstreams", ministack)
    yield client
    client.close()


def _client(service: str, endpoint: str) -> Any:
    return boto3.client(service, endpoint_url=endpoint, config=Config(retries={"total_max_attempts": 1}))


@contextmanager
def _running(port: int, folder: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    environment = {
        **os.environ,
        "GATEWAY_PORT": str(port),
        "BIND_HOST": "127.0.0.1",
        "LOG_LEVEL": "WARNING",
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "TMPDIR": folder,  # its pid file
    }
    process = subprocess.Popen([_MINISTACK], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_up(process: subprocess.Popen[bytes], endpoint: str) -> bool:
    """Wait for its health page; False if the process ends instead, or does not come up in time."""
    for _ in range(_HEALTH_LOOKS_MAX):
        try:
            with urllib.request.urlopen(f"{endpoint}/_ministack/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            pass
        try:
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        return False
    return False


def _post(url: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10):
        pass
