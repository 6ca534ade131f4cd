"""Kafka brokers on loopback: librdkafka's mock cluster, and the fake of this folder, which keeps what it is given.

Each runs in a process of its own, so that it can be killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BROKER = Path(__file__).with_name("kafka_broker.py")
_STARTS_MAX = 3

# The cluster lives as long as the producer that it was made for.
_MOCK = """
import sys
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": "127.0.0.1:9", "test.mock.num.brokers": int(sys.argv[1]), "log_level": 0})
for topic in sys.argv[2:]:
    producer.list_topics(topic, timeout=10)  # makes it, with four partitions
print(",".join(f"{broker.host}:{broker.port}" for broker in producer.list_topics(timeout=10).brokers.values()), flush=True)
sys.stdin.read()
"""


@dataclass(slots=True)
class MockCluster:
    bootstrap_servers: str
    process: subprocess.Popen[str]

    def kill(self) -> None:
        """End it, and everything that it knew."""
        self.process.kill()
        self.process.wait()


@contextmanager
def mock_cluster(*topics: str, brokers: int = 1) -> Iterator[MockCluster]:
    """librdkafka's mock cluster with these topics, each of four partitions; others are made when they are written."""
    command = [sys.executable, "-c", _MOCK, str(brokers), *topics]
    with _process(command) as process:
        yield MockCluster(_first_line(process), process)


@dataclass(slots=True)
class FakeBroker:
    """`port` is the broker's own; `proxied_port` is for a proxy, whose own port `advertise` makes known."""

    port: int
    proxied_port: int
    folder: Path
    login: str | None = None
    bytes_max: int = 1_048_588
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Also after `kill`: at the same ports, with all that it had acknowledged."""
        command = [sys.executable, str(_BROKER), str(self.folder), str(self.port), str(self.proxied_port)]
        command += ["--bytes-max", str(self.bytes_max), *(["--login", self.login] if self.login else [])]
        self.processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert _first_line(self.processes[-1]) == "ready"

    def advertise(self, port: int) -> None:
        (self.folder / "advertised").write_text(str(port), "ascii")

    def create_topic(self, name: str, *, partitions: int = 4) -> str:
        from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

        config: dict[str, str | int | float | bool] = {"bootstrap.servers": self.bootstrap_servers, "log_level": 0}
        if self.login:
            user, _, password = self.login.partition(":")
            config |= {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN"}
            config |= {"sasl.username": user, "sasl.password": password}
        admin = AdminClient(config)
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(10)
        return name

    def kill(self) -> None:
        process = self.processes.pop()
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def freeze(self) -> None:
        """It takes bytes, and does nothing."""
        self.processes[-1].send_signal(signal.SIGSTOP)
        os.waitpid(self.processes[-1].pid, os.WUNTRACED)  # until it has stopped

    def thaw(self) -> None:
        self.processes[-1].send_signal(signal.SIGCONT)


@contextmanager
def fake_broker(
    folder: Path, *topics: str, login: str | None = None, bytes_max: int = 1_048_588
) -> Iterator[FakeBroker]:
    """The fake with these topics; its journal is in `folder`. With a `login`, `user:password`, it takes no other."""
    broker = _started(folder, login, bytes_max)
    try:
        for topic in topics:
            broker.create_topic(topic)
        yield broker
    finally:
        while broker.processes:
            broker.thaw()
            broker.kill()


def _started(folder: Path, login: str | None, bytes_max: int) -> FakeBroker:
    starts = 0
    while True:
        starts += 1
        broker = FakeBroker(free_port(), free_port(), folder, login, bytes_max)
        try:
            broker.start()
        except AssertionError:
            # Between looking for free ports and listening on them somebody else may take them.
            if starts == _STARTS_MAX:
                raise
        else:
            return broker


@contextmanager
def _process(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


def _first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        process.stdout.close()
        raise AssertionError(f"a Kafka broker did not start: it ended with {process.wait()}")
    return line
