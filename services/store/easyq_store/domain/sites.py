"""Whose receivers are one's: hosts below one domain, and addresses of one network, share a bound. Pure.

A lane is one host. Whoever owns a domain has as many hosts as he likes, so lanes alone bound nobody who wants to hang.
"""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address

# Longest second-level label, below a country's domain, that is taken for a registry's own (co.uk, com.br).
_REGISTRY = 3
_COUNTRY = 2


def site_of(lane: str) -> str:
    """`*.example.org` of a host below it, `192.0.2.*` of an IPv4 address, else the lane itself."""
    host, _, _ = lane.rpartition(":")
    labels = host.split(".")
    if _is_ipv4(host):
        return f"{'.'.join(labels[:3])}.*"
    if len(labels) == 1 or ":" in host:
        return lane
    is_registry = len(labels) > 2 and len(labels[-1]) <= _COUNTRY and len(labels[-2]) <= _REGISTRY
    return f"*.{'.'.join(labels[-3 if is_registry else -2 :])}"


def lanes_of(site: str) -> str:
    """A regular expression of all its lanes; for one that is a lane itself, of nothing else."""
    if site.startswith("*."):
        return rf"(^|\.){re.escape(site[2:])}:[0-9]+$"
    if site.endswith(".*"):
        return rf"^{re.escape(site[:-1])}[0-9]+:[0-9]+$"
    return f"^{re.escape(site)}$"


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True


class Sites:
    """How many more each site may have under way. `per_site` 0: there is no bound."""

    def __init__(self, per_site: int = 0, under_way: Mapping[str, int] | None = None) -> None:
        self._per_site = per_site
        self._taken: dict[str, int] = {}
        for lane, count in (under_way or {}).items():
            self.take(lane, count)

    def room(self, lane: str, most: int) -> int:
        """How many more of the lane there is room for, at most `most`."""
        if not self._per_site:
            return most
        return max(0, min(most, self._per_site - self._taken.get(site_of(lane), 0)))

    def take(self, lane: str, count: int = 1) -> None:
        """So many more are under way."""
        site = site_of(lane)
        self._taken[site] = self._taken.get(site, 0) + count

    @property
    def full(self) -> list[str]:
        """Sites without room."""
        return sorted(site for site, count in self._taken.items() if self._per_site and count >= self._per_site)
