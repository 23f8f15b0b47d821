"""The tables `[[default]]` of a rules file."""

import tomllib
from dataclasses import replace
from typing import Any

import pytest

from easyq.v1.spec_pb2 import JobSpec
from easyq_gateway.default_rules import FIELDS, parser
from easyq_gateway.domain.defaults import Defaults, defaults_of
from easyq_gateway.domain.patterns import why_no_pattern
from easyq_gateway.usecases.defaults import TaskDefaults

BASE = Defaults(retries=1, log_limit=5)
PARSE = parser(BASE)


def rules(text: str) -> Any:
    return PARSE(tomllib.loads(text))


def test_every_field() -> None:
    [rule] = rules(
        """
        [[default]]
        pattern = "a|b"
        retries = 3
        backoffMin = "1m"
        backoffFactor = 1.5
        backoffMax = 120
        backoffJitter = 0
        backoffMaxElapsed = "1h30m"
        retryOn = ["75", "100-110", "timeout"]
        infraRetries = 0
        timeout = 0.25
        stopGrace = "0s"
        priority = -7
        startDeadline = "1d"
        """
    )
    assert rule.defaults == replace(
        BASE,
        retries=3,
        backoff_min_ms=60_000,
        backoff_factor=1.5,
        backoff_max_ms=120_000,
        backoff_jitter=0.0,
        backoff_max_elapsed_ms=5_400_000,
        retry_on=("75", "100-110", "timeout"),
        infra_retries=0,
        timeout_ms=250,
        stop_grace_ms=0,
        priority=-7,
        start_deadline_ms=86_400_000,
    )
    assert len(FIELDS) == 12


def test_the_first_that_matches_the_whole_name_holds() -> None:
    made = rules('[[default]]\npattern = "a"\nretries = 2\n[[default]]\npattern = "a.*"\nretries = 3\n')
    found = {task: defaults_of(task, made, BASE).retries for task in ("a", "ab", "ba", "A")}
    assert found == {"a": 2, "ab": 3, "ba": 1, "A": 1}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("retries = 3", "default[0].pattern must be a regex"),
        ('pattern = ""', "default[0].pattern must be a regex"),
        ("pattern = 5", "default[0].pattern must be a regex"),
        ('pattern = "("', "default[0].pattern is no regex"),
        ('pattern = "a"\nretry = 3', "default[0].retry is none of pattern, retries"),
        ('pattern = "a"\nimage = "x"', "default[0].image is none of"),
        ('pattern = "a"\nretries = "3"', "default[0].retries must be a whole number, not a string"),
        ('pattern = "a"\nretries = 1001', "default[0].retries"),
        ('pattern = "a"\nretries = -1', "default[0].retries must be from 0"),
        ('pattern = "a"\nbackoffMin = "soon"', "default[0].backoffMin is not a duration"),
        ('pattern = "a"\nbackoffMin = 10\nbackoffMax = 5', "default[0].backoffMax is less than"),
        ('pattern = "a"\nbackoffFactor = 0.5', "default[0].backoffFactor"),
        ('pattern = "a"\nbackoffFactor = nan', "default[0].backoffFactor NaN"),
        ('pattern = "a"\nbackoffJitter = 2', "default[0].backoffJitter"),
        ('pattern = "a"\nbackoffMaxElapsed = 0', "default[0].backoffMaxElapsed"),
        ('pattern = "a"\nretryOn = "75"', "default[0].retryOn must be a list"),
        ('pattern = "a"\nretryOn = ["never"]', "default[0].retryOn[0] must be an exit code"),
        ('pattern = "a"\nretryOn = ["300"]', "default[0].retryOn[0] exit codes go"),
        ('pattern = "a"\ninfraRetries = 101', "default[0].infraRetries"),
        ('pattern = "a"\ntimeout = 0', "default[0].timeout"),
        ('pattern = "a"\ntimeout = 1979-05-27', "default[0].timeout is not a duration"),
        ('pattern = "a"\nstopGrace = 3601', "default[0].stopGrace"),
        ('pattern = "a"\npriority = 101', "default[0].priority"),
        ('pattern = "a"\nstartDeadline = -1', "default[0].startDeadline is negative"),
    ],
)
def test_what_is_refused(table: str, words: str) -> None:
    with pytest.raises(ValueError, match="default") as error:
        rules(f"[[default]]\n{table}\n")
    assert words in str(error.value)


def test_the_table_is_named() -> None:
    with pytest.raises(ValueError, match=r"default\[1\]\.retries"):
        rules('[[default]]\npattern = "a"\n[[default]]\npattern = "b"\nretries = 1001\n')


def test_rules_take_effect_on_what_comes_after() -> None:
    defaults = TaskDefaults(BASE)
    for expected in (1, 4, 9, 1):
        spec = JobSpec(image="a")
        defaults.set_rules(rules(f'[[default]]\npattern = "t"\nretries = {expected}\n') if expected > 1 else ())
        defaults.resolve("t", spec)
        assert (spec.retries, spec.log_limit) == (expected, 5)


def test_a_longest_wait_that_is_shorter_than_a_users_shortest() -> None:
    defaults = TaskDefaults(BASE)
    defaults.set_rules(rules('[[default]]\npattern = "t"\nbackoffMax = 5\n'))
    spec = JobSpec(image="a")
    spec.backoff.min.FromSeconds(60)
    defaults.resolve("t", spec)
    assert spec.backoff.max.seconds == 60


@pytest.mark.parametrize("text", ["", "mail", "mail-.*|report", "[a-z]{2,5}"])
def test_patterns(text: str) -> None:
    assert why_no_pattern(text) == ""


@pytest.mark.parametrize("text", ["(", "[z-a]", "a{2,1}", "*", "(?P<a>.)(?P<a>.)", "a{99999999999999999999}"])
def test_what_is_no_pattern(text: str) -> None:
    assert "is not a regex" in why_no_pattern(text)
