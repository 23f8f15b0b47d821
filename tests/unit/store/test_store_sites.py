"""Whose hosts are one's."""

import re

import pytest

from easyq_store.domain.sites import Sites, lanes_of, site_of


@pytest.mark.parametrize(
    ("lane", "site"),
    [
        ("a.b.example.org:443", "*.example.org"),
        ("example.org:80", "*.example.org"),
        ("a.example.co.uk:80", "*.example.co.uk"),
        ("co.uk:80", "*.co.uk"),
        ("a.example.de:80", "*.example.de"),
        ("192.0.2.7:80", "192.0.2.*"),
        ("::1:80", "::1:80"),
        ("localhost:80", "localhost:80"),
        ("email", "email"),
        ("http://[broken", "http://[broken"),
    ],
)
def test_a_site_and_its_lanes(lane: str, site: str) -> None:
    assert site_of(lane) == site
    assert re.search(lanes_of(site), lane)
    for other in ("notexample.org:80", "192.0.21.7:80", "elsewhere.test:1", "e-mail"):
        assert not re.search(lanes_of(site), other)


def test_room() -> None:
    assert Sites().room("a.example.org:80", 9) == 9
    sites = Sites(3, {"a.example.org:80": 2})
    assert (sites.room("b.example.org:80", 9), sites.room("other.org:80", 9), sites.full) == (1, 3, [])
    sites.take("b.example.org:80", 2)
    assert (sites.room("c.example.org:80", 9), sites.full) == (0, ["*.example.org"])
