"""The rules of a spec that its schema can't say."""

from dataclasses import replace
from typing import Any

import pytest

from easyq_gateway.domain.defaults import Defaults, default_backoff_max, default_pull
from easyq_gateway.domain.receivers import HookFacts
from easyq_gateway.domain.redaction import MARKER, Redactor
from easyq_gateway.domain.spec import MOST_ARGUMENT_BYTES, MountFacts, SpecFacts, check_spec

NOW = 1_800_000_000_000
YEAR = 365 * 86_400_000
SOUND = SpecFacts(image="busybox:1", size=100, envs={"A": "1"})


def found(**changes: Any) -> dict[str, str]:
    problems = check_spec(replace(SOUND, **changes), now_ms=NOW, redactor=Redactor(), default_min_ms=1000)
    return {problem.path: problem.message for problem in problems}


def test_a_sound_spec() -> None:
    assert found() == {}
    assert (
        found(
            label_keys=("team", "easyq"),
            retry_on=("0", "255", "7-7", "oom", "timeout", "what the schema refuses"),
            backoff_min_ms=5,
            backoff_max_ms=5,
            cpus=0.01,
            memory=6 * 1024 * 1024,
            mounts=(
                MountFacts(kind="", source="/a..b", target="/a"),
                MountFacts(kind="BIND", source="/", target="/b"),
                MountFacts(kind="VOLUME", source="v.1", target="/c"),
                MountFacts(kind="TMPFS", source="", target="/d"),
            ),
            start_at_ms=NOW - YEAR,
            expiration_ms=NOW + YEAR,
        )
        == {}
    )


@pytest.mark.parametrize(
    ("changes", "path", "words"),
    [
        ({"size": 256 * 1024 + 1}, "", "262145 bytes"),
        ({"image": "A b"}, "image", "reference"),
        ({"envs": {"EASYQ_FENCE": "1"}}, 'envs["EASYQ_FENCE"]', "set by EasyQ"),
        ({"envs": {"A": "x" * MOST_ARGUMENT_BYTES}}, 'envs["A"]', "131073 bytes"),
        ({"envs": {"A": "é" * 65_535}}, 'envs["A"]', "131072 bytes"),
        ({"envs": {"TOKEN": MARKER}}, 'envs["TOKEN"]', "send the value itself"),
        ({"label_keys": ("easyq.job",)}, 'labels["easyq.job"]', "EasyQ's own"),
        ({"retry_on": ("1", "256")}, "retryOn[1]", "0 to 255"),
        ({"retry_on": ("9-3",)}, "retryOn[0]", "ends before"),
        ({"backoff_min_ms": 10, "backoff_max_ms": 9}, "backoff.max", "backoff.min"),
        ({"backoff_max_ms": 999}, "backoff.max", "(1s)"),
        ({"memory": 1}, "resources.memory", "6 MiB"),
        ({"cpus": 0.001}, "resources.cpus", "0.01"),
        ({"start_at_ms": NOW + 11 * YEAR}, "startAt", "ten years"),
        ({"start_at_ms": NOW - 11 * YEAR}, "startAt", "ten years"),
        ({"expiration_ms": NOW + 11 * YEAR}, "expiration", "ten years"),
        ({"start_at_ms": NOW + 5, "expiration_ms": NOW + 5}, "expiration", "never start"),
        ({"hooks": (HookFacts(path="webhooks.fails[0]", url="ftp://a"),)}, "webhooks.fails[0].url", "http"),
        ({"of_recurring": ("maxRuns",)}, "maxRuns", "needs `cron`"),
        ({"recurs": True, "end_at_ms": NOW}, "endAt", "in the past"),
        ({"recurs": True, "end_at_ms": NOW + 5, "start_after_ms": NOW + 5}, "endAt", "not after startAfter"),
        ({"recurs": True, "start_after_ms": NOW + 11 * YEAR}, "startAfter", "ten years"),
    ],
)
def test_what_is_wrong(changes: dict[str, Any], path: str, words: str) -> None:
    problems = found(**changes)
    assert list(problems) == [path]
    assert words in problems[path]


def test_the_longest_variable() -> None:
    assert found(envs={"A": "x" * (MOST_ARGUMENT_BYTES - 2)}) == {}


@pytest.mark.parametrize(
    ("mount", "path", "words"),
    [
        (MountFacts(kind="BIND", source="a", target="/x"), "mounts[0].source", "absolute"),
        (MountFacts(kind="BIND", source="/a/../b", target="/x"), "mounts[0].source", ".."),
        (MountFacts(kind="VOLUME", source="a/b", target="/x"), "mounts[0].source", "volume's name"),
        (MountFacts(kind="TMPFS", source="/a", target="/x"), "mounts[0].source", "empty"),
        (MountFacts(kind="TMPFS", source="", target="/x/../y"), "mounts[0].target", ".."),
        (MountFacts(kind="TMPFS", source="", target="//./"), "mounts[0].target", "root"),
    ],
)
def test_mounts(mount: MountFacts, path: str, words: str) -> None:
    problems = found(mounts=(mount,))
    assert list(problems) == [path]
    assert words in problems[path]


def test_two_mounts_at_one_place() -> None:
    one = MountFacts(kind="TMPFS", source="", target="/x/y")
    problems = found(mounts=(one, replace(one, target="/x//y/"), replace(one, target="/x/./y")))
    assert set(problems) == {"mounts[1].target", "mounts[2].target"}
    assert "mounts[0]" in problems["mounts[2].target"]


def test_all_at_once() -> None:
    assert len(found(image="", memory=1, cpus=0.001, retry_on=("300", "400"), of_recurring=("endAt", "jitter"))) == 7


def test_a_moving_tag_is_pulled_before_each_run() -> None:
    assert default_pull("r:5000/a") == "ALWAYS"
    assert default_pull("a:latest") == "ALWAYS"
    assert default_pull("a:1") == "MISSING"


def test_the_longest_wait_is_not_less_than_the_shortest() -> None:
    assert default_backoff_max(Defaults(), 1000) == 300_000
    assert default_backoff_max(Defaults(), 400_000) == 400_000
