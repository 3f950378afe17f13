"""Which addresses a check may ask, and connections that go to the very address that was looked at.

Words of a request name the host of a check. The machine itself and its link have services that trust whoever is near:
metadata of a cloud at 169.254.169.254, databases on 127.0.0.1. They are asked only where the operator says so. A name
is resolved once, and the connection goes to the address that was found, for each redirect anew.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from chargehand.agent import TaskFailed

if TYPE_CHECKING:
    import httpx

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # an IPv4 address in its last four bytes
SETTING = "CHARGEHAND_CHECK_NETWORKS"


def refusal(address: Address, allowed: Sequence[Network]) -> str | None:
    """Return why an address may not be asked; None when it may. Pure."""
    inner = _inner(address)
    if any(each.version == network.version and each in network for each in (address, inner) for network in allowed):
        return None
    if inner.is_loopback or inner.is_unspecified:
        return "is this machine itself"
    if inner.is_link_local:
        return "is only for this link (a cloud keeps its secrets there)"
    return "is no address of a machine" if inner.is_multicast or inner.is_reserved else None


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address stands for, if it does: 127.0.0.1 has several names."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped or address.sixtofour or address


async def resolved(host: str, port: int, allowed: Sequence[Network]) -> list[str]:
    """Return the addresses of a host that may be asked. Raises `TaskFailed` when none of them may, OSError when there
    are none."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(_address(str(entry[4][0])) for entry in found))
    refusals = {address: refusal(address, allowed) for address in addresses}
    good = [str(address) for address in addresses if refusals[address] is None]
    if not good and addresses:
        raise TaskFailed(
            f"{host} is not asked: {addresses[0]} {refusals[addresses[0]]}",
            hint=f"An operator allows networks with {SETTING}, say {_example(addresses[0])}.",
        )
    return good


def _address(text: str) -> Address:
    return ipaddress.ip_address(text.partition("%")[0])


def _example(address: Address) -> str:
    return "127.0.0.0/8" if address.is_loopback and address.version == 4 else str(address)


def transport(allowed: Sequence[Network]) -> httpx.AsyncHTTPTransport:
    """Return what httpx connects with: only to addresses that may be asked, and to no socket file."""
    import httpcore
    import httpx

    class Checked(httpcore.AnyIOBackend):
        async def connect_tcp(self, host: str, port: int, *arguments: Any, **more: Any) -> httpcore.AsyncNetworkStream:
            error: Exception = httpcore.ConnectError(f"{host} has no address")
            try:
                addresses = await resolved(host, port, allowed)
            except (OSError, UnicodeError) as failure:
                raise httpcore.ConnectError(str(failure)) from failure
            for address in addresses:
                try:
                    return await super().connect_tcp(address, port, *arguments, **more)
                except httpcore.ConnectError as failure:
                    error = failure
            raise error

    made = httpx.AsyncHTTPTransport(trust_env=False)
    made._pool = httpcore.AsyncConnectionPool(  # httpx has no other door for it; certificates stay bound to the name
        ssl_context=httpx.create_ssl_context(trust_env=False), network_backend=Checked()
    )
    return made
