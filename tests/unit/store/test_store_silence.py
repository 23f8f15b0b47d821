"""Hosts that are not heard, and hosts that are missed."""

from dataclasses import replace

import pytest

from easyq_chassis.metrics import Registry, TaskLabels
from easyq_chassis.metrics.usage import Plugins
from easyq_chassis.patterns import Pattern
from easyq_store.adapters.metrics import StoreMetrics
from easyq_store.convert import farm
from easyq_store.domain.records import Agent
from easyq_store.domain.silence import SilenceWatch, is_missed, silent_words
from easyq_store.domain.states import AgentState
from tests.support.store_records import T0, agent

DAY = 24 * 3_600_000


def watched(*looks: tuple[float, Agent]) -> SilenceWatch:
    watch = SilenceWatch()
    for at, seen in looks:
        watch.observe([seen], at)
    return watch


def steadily(one: Agent, begin: float, end: float) -> list[tuple[float, Agent]]:
    return [(begin + step, one) for step in range(int(end - begin) + 1)]


def test_one_that_does_not_beat_for_its_lease_is_silent() -> None:
    one = agent(beats=3)
    assert not watched(*steadily(one, 1000, 1014)).is_silent(one)
    watch = watched(*steadily(one, 1000, 1015))
    assert watch.is_silent(one)
    # It is heard at once, before the next look.
    assert not watch.is_silent(replace(one, beats=4))
    assert not watch.is_silent(replace(one, session=2, beats=0))
    watch.observe([replace(one, beats=4)], 1016)
    assert not watch.is_silent(one)


def test_the_lease_is_the_agents_own() -> None:
    hasty = agent(lease_ms=2_000)
    assert watched(*steadily(hasty, 0, 2)).is_silent(hasty)
    assert not watched(*steadily(agent(lease_ms=3_000), 0, 2)).is_silent(agent(lease_ms=3_000))


@pytest.mark.parametrize("state", [AgentState.PARKED, AgentState.DEAD])
def test_what_is_parked_or_dead_is_not_silent(state: AgentState) -> None:
    one = agent(state=state)
    assert not watched(*steadily(one, 0, 20)).is_silent(one)


def test_a_watcher_that_was_asleep_gives_everyone_the_full_lease() -> None:
    one = agent()
    watch = watched(*steadily(one, 0, 14), (20, one))
    assert not watch.is_silent(one)
    for at, seen in steadily(one, 21, 35):
        watch.observe([seen], at)
    assert watch.is_silent(one)


def test_how_one_that_is_silent_is_shown() -> None:
    one = agent(last_beat_at=1_700_000_000_000)
    words = "silent since 2023-11-14 22:13:20 UTC: is its host up, and can it reach a dispatcher?"
    assert silent_words(one) == words
    shown = farm.agent(one, 0, silent=True)
    assert (shown.healthy, shown.message) == (False, words)
    assert shown.silent_since.ToMilliseconds() == shown.unhealthy_since.ToMilliseconds() == one.last_beat_at
    # It was unwell before.
    assert farm.agent(replace(one, unhealthy_since=5), 0, silent=True).unhealthy_since.ToMilliseconds() == 5
    heard = farm.agent(one, 0)
    assert (heard.healthy, heard.HasField("silent_since"), heard.HasField("unhealthy_since")) == (True, False, False)


def test_a_dead_host_is_missed_for_a_day_unless_it_was_given_up() -> None:
    dead = agent(state=AgentState.DEAD)
    assert is_missed(dead, now=T0 + DAY - 1)
    assert not is_missed(dead, now=T0 + DAY)
    assert not is_missed(replace(dead, declared_dead=True), now=T0)
    assert not is_missed(agent(), now=T0)
    assert farm.agent(replace(dead, declared_dead=True), 0).declared_dead


def test_metrics_name_who_is_away() -> None:
    registry = Registry()
    metrics = StoreMetrics(TaskLabels(Pattern(".*"), 9), Plugins((), registry), lambda: T0, registry)
    silent = agent("s", last_beat_at=T0 - 1)
    dead = [agent(f"d{n:03}", state=AgentState.DEAD, last_beat_at=T0 - 10 - n) for n in range(120)]
    metrics.agents([*dead, agent("a"), silent], lambda one: one is silent)
    shown = {one.described.name: one.values for one in registry.instruments()}
    assert shown["easyq.agents"][("SILENT",)] == 1
    assert shown["easyq.agents"][("DEAD",)] == 120
    assert shown["easyq.agents"][("PARKED",)] == 0
    away = shown["easyq.agent.away"]
    assert len(away) == 100
    assert (away[("s", "SILENT")], away[("d000", "DEAD")]) == (1, 1)
