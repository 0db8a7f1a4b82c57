"""Who a caller is, for the limits that each has: an address, or the network that one customer is given."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from prefect_docjobs.errors import ConfigurationError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_CUSTOMER = 64  # bits of an IPv6 address; the others are the customer's own choice


def client_key(host: str | None) -> str:
    """The same for all addresses of one client. Whatever is no address is one client together."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _CUSTOMER), strict=False))


def networks_of(given: Iterable[str]) -> Sequence[Network]:
    """Addresses and networks, such as `127.0.0.1` and `10.0.0.0/8`.

    Raises:
        ConfigurationError: One is neither.
    """
    return [_network(text.strip()) for text in given]


def is_among(host: str | None, networks: Iterable[Network]) -> bool:
    """Whether an address is of one of the networks."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return any(address in network for network in networks)


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no trusted proxy. Give its address or its network, such as 127.0.0.1 or 10.0.0.0/8."
        ) from None
