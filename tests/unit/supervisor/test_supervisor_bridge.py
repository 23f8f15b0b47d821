"""Which network the bridge of EasyQ's own takes."""

from ipaddress import IPv4Network

import pytest

from easyq_supervisor.adapters.bridge import free_network, used_networks

# As /proc/net/route has them: a default route, a network, a host.
ROUTES = """Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
wg0	05001FAC	00000000	0001	0	0	0	FFFFFFFF	0	0	0
"""


def test_routes_are_read() -> None:
    assert used_networks(ROUTES) == [IPv4Network("192.0.2.0/24"), IPv4Network("172.31.0.5/32")]


def test_the_network_overlaps_nothing() -> None:
    assert free_network([]) == IPv4Network("172.31.0.0/16")
    assert free_network(used_networks(ROUTES)) == IPv4Network("172.30.0.0/16")
    assert free_network([IPv4Network("172.28.0.0/14")]) == IPv4Network("172.27.0.0/16")


def test_none_left() -> None:
    with pytest.raises(OSError, match="in use"):
        free_network([IPv4Network("172.16.0.0/12")])
