"""The tables `[[default]]` of a rules file."""

import json
import tomllib
from dataclasses import replace
from typing import Any

import pytest

from easyq.v1.spec_pb2 import JobSpec
from easyq_chassis.patterns import Pattern
from easyq_chassis.rules_file import contract
from easyq_gateway import convert
from easyq_gateway.codec.decode import decode
from easyq_gateway.codec.json_text import parse_json
from easyq_gateway.codec.rules import SchemaRules
from easyq_gateway.default_rules import FIELDS, parser
from easyq_gateway.domain.defaults import DefaultRule, Defaults, defaults_of
from easyq_gateway.domain.problems import Problems, merge
from easyq_gateway.domain.redaction import Redactor
from easyq_gateway.domain.spec import check_spec
from easyq_gateway.usecases import defaults as usecase
from easyq_gateway.usecases.defaults import TaskDefaults

BASE = Defaults(retries=1, log_limit=5)
PARSE = parser(BASE)
SCHEMA = SchemaRules()


def rules(text: str) -> Any:
    document = tomllib.loads(text)
    contract.check(document)
    return PARSE(document)


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
        reportFailure = "final"
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
        report_failure="FINAL",
    )
    assert {"pattern", *FIELDS} == set(contract.TABLES["default"].fields)


def test_the_first_that_matches_the_whole_name_holds() -> None:
    made = rules('[[default]]\npattern = "a"\nretries = 2\n[[default]]\npattern = "a.*"\nretries = 3\n')
    found = {task: defaults_of(task, made, BASE).retries for task in ("a", "ab", "ba", "A")}
    assert found == {"a": 2, "ab": 3, "ba": 1, "A": 1}


# Beside each bound, within and beyond it, and of each wrong type.
_NUMBERS = [-101, -100, -1, 0, 0.5, 1, 2, 100, 101, 1000, 1001, 3600, 3601, 86_400, 86_401, 2_592_000, 2_592_001]
_VALUES = [*_NUMBERS, 315_360_000, 315_360_001, "1d", "30d", "31d", "soon", "", True, False, [], ["75"], 1e300]
_EXITS = ["0", "255", "256", "1-2", "2-1", "1-300", "oom", "timeout", "never", "1000", "", "1-", " 1", 75]
_MANY = [["1"] * 64, ["1"] * 65]


@pytest.mark.parametrize("name", FIELDS)
def test_the_file_takes_what_a_spec_takes(name: str) -> None:
    """The contract of the file has the bounds of the schema, so that no default makes a job that is refused."""
    outer, _, inner = name.partition("backoff")
    path = name if outer or not inner else f"backoff.{inner[0].lower()}{inner[1:]}"
    values = [*_VALUES, *([one] for one in _EXITS), *_MANY] if name == "retryOn" else _VALUES
    for value in values:
        try:
            contract.check({"default": [{"pattern": "a", name: value}]})
            takes = True
        except ValueError:
            takes = False
        assert takes == (not problems_of(path, value)), (name, value)


def problems_of(path: str, value: Any) -> list[Any]:
    """What the gateway finds wrong with a spec that says this alone."""
    outer, _, inner = path.partition(".")
    spec, read, broken = JobSpec(image="a"), Problems(), Problems()
    decode(parse_json(json.dumps({outer: {inner: value} if inner else value}).encode()), spec, "", read)
    SCHEMA.check(spec, "", broken)
    # The shortest wait is no matter here.
    facts = convert.facts_of(spec, replace(BASE, backoff_min_ms=0))
    return list(merge(read, broken, check_spec(facts, now_ms=0, redactor=Redactor(), default_min_ms=0)))


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


def test_a_longest_wait_that_is_shorter_than_the_gateways_own_shortest() -> None:
    defaults = TaskDefaults(replace(BASE, backoff_min_ms=60_000))
    defaults.set_rules(parser(defaults.base)({"default": [{"pattern": "t", "backoffMax": 5}]}))
    spec = JobSpec(image="a")
    defaults.resolve("t", spec)
    assert (spec.backoff.min.seconds, spec.backoff.max.seconds) == (60, 60)


def test_tasks_are_matched_once_and_a_bounded_number_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Counting(Pattern):
        def matches(self, name: str) -> bool:
            asked.append(name)
            return Pattern.matches(self, name)

    monkeypatch.setattr(usecase, "_MOST_TASKS", 2)
    rule = DefaultRule(pattern=Counting("t.*"), defaults=replace(BASE, retries=7))
    defaults = TaskDefaults(BASE)
    defaults.set_rules([rule])
    for task in ("t1", "u", "t1", "u", "t3", "t1"):
        assert defaults.of(task).retries == (1 if task == "u" else 7)
    assert asked == ["t1", "u", "t3", "t1"]
    defaults.set_rules([])
    assert defaults.of("t1") == BASE


def test_what_is_too_long_for_a_task_is_not_matched() -> None:
    defaults = TaskDefaults(BASE)
    defaults.set_rules([DefaultRule(pattern=Pattern(".*"), defaults=replace(BASE, retries=7))])
    assert [defaults.of("t" * length).retries for length in (128, 129)] == [7, 1]


def test_no_pattern_holds_the_gateway() -> None:
    made = rules('[[default]]\npattern = "([a-z]+-?)+"\nretries = 3\n')
    assert [defaults_of(f"{'a' * 120}{end}", made, BASE).retries for end in ("", "!")] == [3, 1]
