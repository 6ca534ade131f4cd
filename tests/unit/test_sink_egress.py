"""Addresses that a webhook must not reach."""

from __future__ import annotations

import socket

import pytest

from streamflow.sinks.egress import AddressRefusedError, guarded_socket, refusal

NEVER = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
]
PRIVATE = [
    "127.0.0.1",
    "::1",
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "fd12:3456::1",
    "0.0.0.0",
    "::",
    "::ffff:127.0.0.1",
]
PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34"]


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("address", NEVER)
def test_metadata_and_link_local_addresses_are_never_reached(address: str, private: bool) -> None:
    assert refusal(address, private=private)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_reached_unless_that_is_forbidden(address: str) -> None:
    assert refusal(address, private=True) is None
    assert "private_addresses" in (refusal(address, private=False) or "")


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached(address: str) -> None:
    assert refusal(address, private=False) is None


def test_a_name_is_no_address() -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        refusal("example.com", private=True)


def test_no_socket_is_made_for_an_address_that_is_refused() -> None:
    make = guarded_socket(private=True)
    with make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80))) as made:
        assert made.family == socket.AF_INET
    with pytest.raises(AddressRefusedError, match="link-local"):
        make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("169.254.169.254", 80)))
