"""A network bridge of EasyQ's own for its Docker Engine.

Not `docker0`: an engine that is told to have no bridge removes that one, whoever it belongs to, and two engines on one
bridge would give away each other's addresses. Made by ioctl, since `ip` is not on every machine.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

_ADD_BRIDGE, _DELETE_BRIDGE = 0x89A0, 0x89A1
_GET_ADDRESS, _SET_ADDRESS, _SET_MASK = 0x8915, 0x8916, 0x891C
_GET_FLAGS, _SET_FLAGS = 0x8913, 0x8914
_UP = 1

# Of the private ranges, those that Docker and Kubernetes take last.
_CANDIDATES = [ipaddress.IPv4Network(f"172.{number}.0.0/16") for number in range(31, 17, -1)]


def ensure_bridge(name: str, routes: Path = Path("/proc/net/route")) -> None:
    """Makes a bridge with an address of a network that nothing else here uses. Raises OSError where it can't."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        if not Path("/sys/class/net", name).exists():
            fcntl.ioctl(control, _ADD_BRIDGE, name.encode() + b"\0")
        if not _has_address(control, name):
            network = free_network(used_networks(routes.read_text(encoding="ascii")))
            fcntl.ioctl(control, _SET_ADDRESS, _request(name, network.network_address + 1))
            fcntl.ioctl(control, _SET_MASK, _request(name, network.netmask))
        _set_up(control, name, up=True)


def remove_bridge(name: str) -> None:
    """Removes it, if it is there. Raises OSError where it can't."""
    if not Path("/sys/class/net", name).exists():
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _set_up(control, name, up=False)
        fcntl.ioctl(control, _DELETE_BRIDGE, name.encode() + b"\0")


def used_networks(routes: str) -> list[ipaddress.IPv4Network]:
    """The networks of the kernel's table of routes (/proc/net/route), without the default route."""
    found = []
    for line in routes.splitlines()[1:]:
        fields = line.split()
        address, mask = (ipaddress.IPv4Address(bytes.fromhex(fields[index])[::-1]) for index in (1, 7))
        if int(mask):
            found.append(ipaddress.IPv4Network(f"{address}/{mask}", strict=False))
    return found


def free_network(used: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
    """A private network that overlaps none of these. Raises OSError where all do."""
    taken = list(used)
    for candidate in _CANDIDATES:
        if not any(candidate.overlaps(network) for network in taken):
            return candidate
    raise OSError("every private network that could be used is in use")


def _request(name: str, address: ipaddress.IPv4Address) -> bytes:
    return struct.pack("16sHH4s8x", name.encode(), socket.AF_INET, 0, address.packed)


def _has_address(control: socket.socket, name: str) -> bool:
    try:
        fcntl.ioctl(control, _GET_ADDRESS, struct.pack("16s24x", name.encode()))
    except OSError:
        return False
    return True


def _set_up(control: socket.socket, name: str, *, up: bool) -> None:
    answer = fcntl.ioctl(control, _GET_FLAGS, struct.pack("16sH22x", name.encode(), 0))
    (flags,) = struct.unpack_from("H", answer, 16)
    flags = flags | _UP if up else flags & ~_UP
    fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH22x", name.encode(), flags))
