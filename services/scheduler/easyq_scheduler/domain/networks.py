"""Which addresses webhooks may go to. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
# What `is_global` says of the rest of IPv6, and of this, depends on the version of Python.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_PROTOCOLS = ipaddress.IPv4Network("192.0.0.0/24")


@dataclass(frozen=True, kw_only=True, slots=True)
class Guard:
    """With it on, webhooks go to public addresses, and to these networks; with it off, anywhere."""

    on: bool = False
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, *, on: bool, networks: Iterable[str]) -> Guard:
        """Raises ValueError naming a network that is none."""
        return cls(on=on, networks=tuple(ipaddress.ip_network(text, strict=False) for text in networks))

    def allows(self, text: str) -> bool:
        """Whether a connection to this address (of numbers, perhaps with a zone) may be made."""
        if not self.on:
            return True
        try:
            address = _meant(ipaddress.ip_address(text.partition("%")[0]))
        except ValueError:
            return False
        return _is_public(address) or any(_lies_in(address, network) for network in self.networks)


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    # Of those, `is_global` says only where they come from; and what is reserved is nobody's yet.
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return address in _GLOBAL_UNICAST if isinstance(address, ipaddress.IPv6Address) else address not in _PROTOCOLS


def _lies_in(address: Address, network: Network) -> bool:
    return address.version == network.version and address in network
