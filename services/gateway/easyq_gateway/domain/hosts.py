"""From where requests may come: no web page, and no name that somebody else may point at this machine."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]/@?#\s]+))(?::[0-9]*)?")
_WEB_SCHEMES = ("http://", "https://")
# What browsers say by `Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/) of requests that another page makes.
_ELSEWHERE = frozenset({"cross-site", "same-site"})


@dataclass(frozen=True, kw_only=True, slots=True)
class OriginRules:
    """Which `Host` and `Origin` headers pass. Hosts are names without a port; `*` stands for any."""

    hosts: frozenset[str]
    origins: frozenset[str]
    # Bound to every address: each of the machine's addresses is then a host of ours. An address can't be pointed
    # elsewhere as a name can, so that this opens nothing to a page that rebinds its own name.
    any_address: bool = False

    @classmethod
    def of(cls, *, hosts: Iterable[str], origins: Iterable[str], bound: str) -> OriginRules:
        """Returns the rules for the operator's lists and the address that the server is bound to."""
        wildcard = bound in {"", "0.0.0.0", "::", "*"}
        own = set() if wildcard else {_plain(bound)}
        return cls(
            hosts=frozenset({*LOOPBACK_NAMES, *own, *(_plain(host) for host in hosts)}),
            origins=frozenset(origin.rstrip("/").lower() for origin in origins),
            any_address=wildcard,
        )

    def refusal(
        self, *, host: str | None, origin: str | None, fetch_site: str | None = None, navigates: bool = False
    ) -> str | None:
        """Returns why a request with these headers is refused, or None if it passes.

        `navigates`: somebody follows a link, which may be anywhere, and sees the answer as a page of its own.
        """
        named = self._is_named(host or "")
        if not named and "*" not in self.hosts:
            return "the Host header names a host that is not in allowed_hosts"
        if origin is None:
            # Forms, pictures and the like, for which older browsers name no origin.
            if fetch_site in _ELSEWHERE and not navigates and "*" not in self.origins:
                return "the request is made by a page of another site, as its Sec-Fetch-Site header says"
            return None
        # A page that came from here, under a name that is ours; under `*` any name could have been made ours.
        own = named and origin.lower() in {scheme + (host or "").lower() for scheme in _WEB_SCHEMES}
        if own or origin.lower() in self.origins or "*" in self.origins:
            return None
        return "the Origin header names a page that is not in allowed_origins"

    def _is_named(self, host: str) -> bool:
        match = _AUTHORITY.fullmatch(host)
        if match is None:
            return False
        name = _plain(match["v6"] or match["name"])
        return name in self.hosts or (self.any_address and _is_address(name))


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
