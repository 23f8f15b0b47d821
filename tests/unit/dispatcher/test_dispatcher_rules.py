"""Pools and limits: how they are written, and what they mean for a task."""

from __future__ import annotations

import pytest

from easyq_dispatcher.domain import matching as matching_module
from easyq_dispatcher.domain.matching import Limit, Matching, Pool, Route
from easyq_dispatcher.domain.rules import RuleError, build_matching, parse_limit, parse_pool


def build(*pools: str, limits: tuple[str, ...] = (), **lost_after: int) -> Matching:
    return build_matching(pools, limits, lost_after_ms=120_000, lost_after_by_pool=lost_after)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mail=mail-.*", ("mail", "mail-.*", 0)),
        ("mail=mail-.*:5", ("mail", "mail-.*", 5)),
        ("m.x=a=b:1000000", ("m.x", "a=b", 1_000_000)),
        ("m=(?:a|b)", ("m", "(?:a|b)", 0)),
        ("m=a{1,2}:x", ("m", "a{1,2}:x", 0)),
        ("default=.*:7", ("default", ".*", 7)),
    ],
)
def test_pools_are_read(text: str, expected: tuple[str, str, int]) -> None:
    assert parse_pool(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("mail", "NAME=REGEX"),
        ("mail=", "NAME=REGEX"),
        ("=x", "name"),
        ("a b=x", "name"),
        ("mail=[a", "is no regex that RE2 takes"),
        ("mail=(?!a)b", "looks around or refers back"),
        ("mail=a{,3}", "has to be written {0,3}"),
        ("mail=a:0", "maximum"),
        ("mail=a:1000001", "maximum"),
        ("default=mail-.*", "serves all that is left"),
    ],
)
def test_wrong_pools_are_refused_with_the_text(text: str, told: str) -> None:
    with pytest.raises(RuleError, match=told) as refused:
        parse_pool(text)
    assert text in str(refused.value)


def test_limits_are_read() -> None:
    assert parse_limit("a=b=3") == Limit(pattern="a=b", max_running=3)
    assert parse_limit(".*=0") == Limit(pattern=".*", max_running=0)


@pytest.mark.parametrize("text", ["a", "=3", "a=", "a=-1", "a=1.5", "a=٣", "a=1000001", "[=1"])
def test_wrong_limits_are_refused_with_the_text(text: str) -> None:
    with pytest.raises(RuleError) as refused:
        parse_limit(text)
    assert text in str(refused.value)


def test_what_is_said_twice_is_refused() -> None:
    with pytest.raises(RuleError, match="pool a is given twice"):
        build("a=x", "a=y")
    with pytest.raises(RuleError, match=r"limit x, y is given twice"):
        build(limits=("x=1", "y=1", "y=2", "x=2"))


def test_the_default_pool_is_always_the_last() -> None:
    assert [pool.name for pool in build("mail=m").pools] == ["mail", "default"]
    given = build("default=.*:3", "mail=m")
    assert [(pool.name, pool.max_running) for pool in given.pools] == [("mail", 0), ("default", 3)]


def test_a_task_goes_to_the_first_pool_that_matches_its_whole_name() -> None:
    rules = build("a=x.*", "b=xy", "c=y")
    assert [rules.route(task).pool for task in ("xy", "y", "yx", "zxy")] == ["a", "c", "default", "default"]


def test_no_pattern_holds_the_dispatcher() -> None:
    nasty = "([a-z]+-?)+"
    rules = build_matching(
        [f"a={nasty}"], [f"{nasty}=3"], weights=[f"{nasty}=4"], lost_after_ms=9, lost_after_by_pool={}
    )
    assert rules.route("a" * 128) == Route(pool="a", limits=(0,), weight=4)
    assert rules.route("a" * 127 + ".") == Route(pool="default", limits=(), weight=1)


def test_every_limit_that_matches_binds() -> None:
    rules = build(limits=("a.*=3", "b=1", "ab?=2"))
    assert rules.route("ab") == Route(pool="default", limits=(0, 2))
    assert rules.route("b") == Route(pool="default", limits=(1,))
    assert rules.route("cab") == Route(pool="default", limits=())


def test_routes_are_worked_out_once_and_forgotten_at_some_point(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = build("a=x.*")
    first = rules.route("x1")
    assert rules.route("x1") is first
    monkeypatch.setattr(matching_module, "_MOST_ROUTES", 1)
    rules.route("x2")
    assert rules.route("x1") == first
    assert rules.route("x1") is not first


def test_rules_that_match_alike_have_one_fingerprint() -> None:
    one = build("a=x:1", limits=("t=1",))
    assert one.fingerprint == build("a=x:1", limits=("t=1",), a=5_000).fingerprint
    others = [
        build("a=x:2", limits=("t=1",)),
        build("a=x:1", limits=("t=2",)),
        build("a=y:1", limits=("t=1",)),
        build(),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_a_held_execution_counts_in_its_pool_while_that_exists() -> None:
    rules = build("mail=m.*")
    assert rules.counted_pool("default", "m1") == "default"
    assert rules.counted_pool("gone", "m1") == "mail"


def test_an_agent_of_several_pools_has_the_shortest_lost_after() -> None:
    rules = build("mail=m", "gpu=g", mail=60_000)
    assert rules.lost_after_ms(["gpu", "mail"]) == 60_000
    assert rules.lost_after_ms(["gpu"]) == 120_000
    assert rules.lost_after_ms(["unknown"]) == 120_000
    with pytest.raises(RuleError, match="no pool named x, y"):
        build("mail=m", x=1, y=2)


def test_pools_by_name() -> None:
    assert build("mail=m:2").pool_by_name["mail"] == Pool(
        name="mail", pattern="m", max_running=2, lost_after_ms=120_000
    )
