"""Ports on loopback that nobody listens on."""

from __future__ import annotations

import socket


def free_port(*, below: int = 65_536) -> int:
    """A port that was free a moment ago: between looking and listening somebody else may take it, so try again then."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < below:
            return port
