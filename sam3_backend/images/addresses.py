"""Which addresses a socket may be opened to, and which a name stands for.

Knows nothing of HTTP. Judges IP addresses alone, never names: a name may stand for anything, and for something else
the next time it is asked.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading

import httpcore

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# IPv4 addresses travel inside IPv6 ones in these networks as well (RFC 6052 NAT64).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class UnknownHost(httpcore.ConnectError):
    """No name server knows the name."""


def may_reach(address: str, *, allow_private_hosts: bool) -> bool:
    """Whether a socket may be opened to this IP address.

    Link-local addresses are never right: clouds hand out credentials there, and no picture has ever lived at one.
    """
    ip = _innermost(ipaddress.ip_address(address))
    if ip.is_multicast or ip.is_link_local or (ip.is_reserved and not ip.is_loopback):
        return False
    return allow_private_hosts or ip.is_global


def resolve(host: str, port: int, *, timeout_s: float) -> list[str]:
    """A host's addresses, in the order in which to try them.

    In a thread of its own, because the system's resolver knows no time-out and may take half a minute.

    Raises:
        UnknownHost: The name stands for nothing.
        httpcore.ConnectTimeout: The name server is silent.
    """
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    answers: list[str] = []
    faults: list[Exception] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.extend(dict.fromkeys(str(entry[4][0]) for entry in found))
        except (OSError, UnicodeError) as fault:
            faults.append(fault)

    thread = threading.Thread(target=ask, name="resolve-host", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if faults:
        raise UnknownHost("no such host") from faults[0]
    if not answers:
        raise httpcore.ConnectTimeout("the name server does not answer")
    return answers


def _innermost(address: IpAddress) -> IpAddress:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address
