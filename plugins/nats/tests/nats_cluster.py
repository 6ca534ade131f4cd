"""Three servers that are one cluster, on loopback."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from servers.nats import nats_server
from servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from servers.nats import NatsServer

SERVERS = 3


@contextmanager
def nats_cluster(folder: Path) -> Iterator[Sequence[NatsServer]]:
    """They take connections; that they have a leader takes a moment longer."""
    ports = [free_port() for _ in range(SERVERS)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    with ExitStack() as stack:
        servers = []
        for number, port in enumerate(ports):
            home = folder / str(number)
            home.mkdir()
            cluster = f'cluster {{ name: "three", listen: "127.0.0.1:{port}", routes: [{routes}] }}'
            more = f'server_name: "server-{number}"\n{cluster}'
            servers.append(stack.enter_context(nats_server(home, more=more)))
        yield servers


def url_of(servers: Sequence[NatsServer], bucket: str) -> str:
    """Of a store with a replica on each."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"nats://{hosts}?bucket={bucket}&replicas={len(servers)}"
