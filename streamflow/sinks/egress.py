"""Addresses that a webhook must not reach, whatever its name resolves to: looked at for each connection that is made.

Link-local addresses are where clouds keep the credentials of the machine. Private ones and loopback are where a service
beside the worker is, and may be reached unless they are forbidden.
"""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Address: TypeAlias = IPv4Address | IPv6Address

# Those of clouds that are not link-local: AWS on IPv6 (instances, pods), Azure, Alibaba, Oracle.
_METADATA = frozenset(
    map(
        ip_address, ("fd00:ec2::254", "fd00:ec2::23", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd20:ce::254")
    )
)
_NAT64 = ip_network("64:ff9b::/96")


class AddressRefusedError(OSError):
    """An address that must not be connected to."""


def refusal(text: str, *, private: bool) -> str | None:
    """Why the address must not be reached; None where it may. `private` allows loopback and private networks.

    Raises:
        ValueError: it is no address.
    """
    address = _embedded(ip_address(text.partition("%")[0]))
    if address.is_link_local or address in _METADATA:
        return f"{text} is an address of link-local or cloud metadata services"
    if address.is_multicast or address == ip_address("255.255.255.255"):
        return f"{text} is an address of many machines"
    if not private and not address.is_global:
        return f"{text} is in a private network, and private_addresses is false"
    return None


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def guarded_socket(*, private: bool) -> Callable[[Any], socket.socket]:
    """Makes the socket for an address that a name was resolved to, or that the URL holds: aiohttp's `socket_factory`.

    What it makes raises `AddressRefusedError`.
    """

    def make(address_info: Any) -> socket.socket:
        family, kind, protocol, _, address = address_info
        if reason := refusal(str(address[0]), private=private):
            raise AddressRefusedError(errno.EACCES, reason)
        return socket.socket(family, kind, protocol)

    return make
