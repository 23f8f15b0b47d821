"""Which alerts have to come of faults, and how a run's series are written down."""

from pathlib import Path

import pytest

from tests.chaos.alerts.expected import Expected, expected
from tests.chaos.alerts.rules import patience
from tests.chaos.alerts.series import STRETCH, Broken, Recording, names_in, read_series
from tests.chaos.nemesis.faults import WEIGHTS
from tests.chaos.nemesis.outages import CALM, outages, seconds
from tests.chaos.nemesis.run import calm

PATIENCE = dict.fromkeys(patience(), 4.0)
TARGET = {"job": "easyq", "service": "store", "instance": "store"}
KEY = ("easyq_ready", tuple(sorted(TARGET.items())))


def broken(kind: str, target: str, begin: float, end: float, error: str = "") -> Broken:
    return Broken(kind=kind, target=target, begin=begin, end=end, error=error)


def alerts(*faults: Broken) -> list[tuple[str, str]]:
    return [(one.alert, one.labels) for one in expected(faults, PATIENCE)]


def test_a_fault_that_lasts_longer_than_the_rule_waits_is_told() -> None:
    [found] = expected([broken("freeze", "scheduler-1", 10.5, 16.6)], PATIENCE)
    assert found == Expected(
        alert="EasyQServiceDown", labels='instance="scheduler-1"', begin=10, end=19, fault="freeze scheduler-1"
    )
    assert alerts(broken("freeze", "scheduler-1", 10.5, 16.4)) == []
    assert alerts(broken("freeze", "scheduler-1", 10.5, 20, error="there is none")) == []
    assert alerts(broken("kill", "scheduler-1", 10.5, 20)) == []


def test_each_that_can_see_it_has_to_tell() -> None:
    redis = broken("freeze", "redis", 0, 13)
    assert alerts(redis) == [
        ("EasyQServiceNotReady", 'instance="dispatcher-0"'),
        ("EasyQServiceNotReady", 'instance="dispatcher-1"'),
    ]
    # One was away for most of it, and starts again.
    assert alerts(redis, broken("kill", "dispatcher-0", 4, 5)) == [("EasyQServiceNotReady", 'instance="dispatcher-1"')]
    assert alerts(redis, broken("kill-all", "all", 4, 5)) == []


def test_an_agent_and_its_watchdog_are_a_runner() -> None:
    assert alerts(broken("freeze", "agent-b", 0, 7)) == [("EasyQServiceDown", 'instance="runner-b"')]
    cut = broken("isolate", "agent-b", 0, 15)
    assert alerts(cut) == [("EasyQAgentDisconnected", 'instance="runner-b"')]
    assert alerts(cut, broken("freeze", "watchdog-b", 5, 6)) == []
    assert alerts(cut, broken("freeze", "watchdog-a", 5, 6)) == alerts(cut)


def test_what_was_there_for_long_enough_before_it_went_has_told() -> None:
    cut = broken("isolate", "agent-b", 0, 30)
    found = list(expected([cut, broken("kill", "agent-b", 16, 17)], PATIENCE))
    assert [(one.begin, one.end) for one in found] == [(0, 18)]


def test_the_plan_of_outages_has_one_for_each_alert() -> None:
    planned = [broken(one.kind, one.target, one.at, one.until) for one in outages()]
    assert {one.alert for one in expected(planned, patience())} == set(patience())
    assert {one.kind for one in outages()} & set(WEIGHTS) >= {"freeze", "isolate", "daemon-hang", "redis-restart"}
    assert seconds(outages()) < 480


@pytest.mark.parametrize(("minutes", "least"), [(5, 15), (60, 15), (1, 3)])
def test_a_run_begins_with_a_calm_stretch(minutes: float, least: float) -> None:
    assert calm(minutes) == least
    assert max(patience().values()) < CALM


def test_a_target_that_does_not_answer_is_down_until_it_is_asked_again(tmp_path: Path) -> None:
    recording = Recording()
    names = frozenset({"easyq_ready", "easyq_queue_oldest_age_seconds"})
    text = 'easyq_ready 1\nother 7\neasyq_queue_oldest_age_seconds{task="t",shard="1"} 2\n'
    text += 'easyq_queue_oldest_age_seconds{task="t",shard="2"} 3\n'
    recording.add(0, 1, TARGET, text, names)
    recording.add(1, 2, TARGET, text, names)
    recording.add(2, 4, TARGET, None, names)
    recording.add(4, 5, TARGET, text, names)
    # What nobody looks at is summed.
    assert recording.series["easyq_queue_oldest_age_seconds", (*KEY[1], ("task", "t"))][0] == 5
    recording.faults, recording.calm = [broken("freeze", "store", 2, 3.5)], 2
    recording.write(tmp_path / "series.jsonl")
    read = read_series(tmp_path / "series.jsonl")
    labels = 'instance="store", job="easyq", service="store"'
    assert {one["series"]: one["values"] for one in read.series} == {
        # As Prometheus notes it: the series have ended.
        f"easyq_ready{{{labels}}}": "1x1 stale _ 1",
        f'easyq_queue_oldest_age_seconds{{{labels}, task="t"}}': f"{5 * STRETCH}x1 stale _ {5 * STRETCH}",
        f"up{{{labels}}}": "1x1 0x1 1",
    }
    assert (read.faults, read.calm, read.seconds) == (recording.faults, 2, 5)


def test_the_metrics_that_rules_ask_for() -> None:
    rule = {"expr": 'sum by (task) (rate(easyq_a_total{instance="easyq_b"}[5m])) / up > easyq:ratio5m'}
    assert names_in([rule]) == {"easyq_a_total", "up"}
