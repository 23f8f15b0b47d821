"""Hosts and origins from which requests may come."""

import pytest

from easyq_gateway.domain.hosts import OriginRules


def rules(*, hosts: tuple[str, ...] = (), origins: tuple[str, ...] = (), bound: str = "127.0.0.1") -> OriginRules:
    return OriginRules.of(hosts=hosts, origins=origins, bound=bound)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:10000", "127.0.0.1", "localhost:10000", "LOCALHOST", "localhost.", "[::1]:10000", "[::1]"]
)
def test_loopback_passes(host: str) -> None:
    assert rules().refusal(host=host, origin=None) is None


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "evil.example:10000", "127.0.0.1.evil.example", "a@localhost", "10.0.0.1", "[::1"],
)
def test_other_hosts_do_not(host: str | None) -> None:
    refusal = rules().refusal(host=host, origin=None)
    assert refusal is not None
    assert "allowed_hosts" in refusal


def test_the_address_bound_to_passes() -> None:
    assert rules(bound="10.0.0.5").refusal(host="10.0.0.5:10000", origin=None) is None
    assert rules(bound="farm.example").refusal(host="farm.example:10000", origin=None) is None
    assert rules(bound="[::1]").refusal(host="[::1]:1", origin=None) is None


def test_bound_to_all_any_address_passes_but_no_name() -> None:
    everywhere = rules(bound="0.0.0.0")
    assert everywhere.refusal(host="10.1.2.3:10000", origin=None) is None
    assert everywhere.refusal(host="[fe80::1]:10000", origin=None) is None
    assert everywhere.refusal(host="evil.example", origin=None) is not None


def test_hosts_of_the_operator() -> None:
    assert rules(hosts=("Farm.example",)).refusal(host="farm.example:80", origin=None) is None
    assert rules(hosts=("*",)).refusal(host="anything", origin=None) is None


@pytest.mark.parametrize("origin", ["http://127.0.0.1:10000", "https://127.0.0.1:10000", "HTTP://127.0.0.1:10000"])
def test_its_own_pages_pass(origin: str) -> None:
    assert rules().refusal(host="127.0.0.1:10000", origin=origin) is None


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://evil.example",
        "http://127.0.0.1",
        "http://127.0.0.1:10000.evil.example",
        "http://localhost:10000",
    ],
)
def test_other_pages_do_not(origin: str) -> None:
    refusal = rules().refusal(host="127.0.0.1:10000", origin=origin)
    assert refusal is not None
    assert "allowed_origins" in refusal


def test_origins_of_the_operator() -> None:
    own = rules(origins=("https://Front.example/",))
    assert own.refusal(host="localhost", origin="https://front.example") is None
    assert own.refusal(host="localhost", origin="http://front.example") is not None
    assert rules(origins=("*",)).refusal(host="localhost", origin="null") is None


def test_any_host_does_not_mean_any_page() -> None:
    """A page under a name that was pointed at this machine has that name as its host and as its origin."""
    assert rules(hosts=("*",)).refusal(host="evil.example:10000", origin="http://evil.example:10000") is not None


def test_what_another_page_makes_a_browser_ask() -> None:
    rules = OriginRules.of(hosts=(), origins=(), bound="127.0.0.1")
    for site in ("cross-site", "same-site"):
        told = rules.refusal(host="localhost", origin=None, fetch_site=site)
        assert "Sec-Fetch-Site" in (told or "")
        assert rules.refusal(host="localhost", origin=None, fetch_site=site, navigates=True) is None
    assert rules.refusal(host="localhost", origin=None, fetch_site="same-origin") is None
    open_to_all = OriginRules.of(hosts=(), origins=("*",), bound="127.0.0.1")
    assert open_to_all.refusal(host="localhost", origin=None, fetch_site="cross-site") is None
