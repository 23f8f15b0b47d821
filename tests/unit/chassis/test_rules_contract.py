"""What a rules file may say, and where it is wrong."""

import re
import tomllib

import pytest

from easyq_chassis.rules_file import contract

POOL = '[[pool]]\nname = "a"\npattern = "a"\n'
LIMIT = '[[limit]]\npattern = "a"\n'
WEIGHT = '[[weight]]\npattern = "a"\n'
DEFAULT = '[[default]]\npattern = "a"\n'
RETENTION = '[[retention]]\npattern = "a"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[pools]]", "'pools' is none of the tables pool, limit, weight, default, retention; did you mean 'pool'?"),
        ("[[queue]]", "'queue' is none of the tables pool, limit, weight, default, retention"),
        ("limit = 3", "limit must be written as [[limit]]"),
        ("limit = ['a=3']", "limit must be written as [[limit]]"),
        ("[limit]\npattern = 'a'", "limit must be written as [[limit]]"),
        (LIMIT, "limit[0] has no max_running"),
        ("[[limit]]", "limit[0] has no pattern and no max_running"),
        (LIMIT + "max_runing = 1", "limit[0].max_runing is none of pattern, max_running; did you mean 'max_running'?"),
        (LIMIT + "x = 1", "limit[0].x is none of pattern, max_running"),
        (LIMIT + "max_running = '3'", "limit[0].max_running must be a whole number from 0 to 1000000"),
        (LIMIT + "max_running = true", "limit[0].max_running must be a whole number"),
        (LIMIT + "max_running = -1", "limit[0].max_running must be a whole number"),
        (LIMIT + "max_running = 1\n" + LIMIT + "max_running = 2", "limit[1].pattern 'a' is there twice"),
        ("[[limit]]\npattern = 3", "limit[0].pattern must be a regex of 1 to 1024 characters"),
        ("[[limit]]\npattern = ''", "limit[0].pattern must be a regex of 1 to 1024 characters"),
        (f"[[limit]]\npattern = '{'a' * 1025}'", "limit[0].pattern must be a regex of 1 to 1024 characters"),
        ("[[limit]]\npattern = '['", "limit[0].pattern '[' is no regex that RE2 takes: "),
        ("[[limit]]\npattern = 'a{99999999999999999999}'", "has {99999999999999999999}, which repeats too often"),
        ("[[weight]]\npattern = '(?=a)'", "weight[0].pattern '(?=a)' looks around or refers back ((?=), which can't"),
        ("[[default]]\npattern = 'a{,3}'", "default[0].pattern 'a{,3}' has {,3}, which has to be written {0,3}"),
        ("[[pool]]\nname = 'a b'", "pool[0].name is no pool's name"),
        ("[[pool]]\nname = 'default'\npattern = 'a'", "pool[0].pattern can only be .*"),
        (POOL + POOL.replace('"a"\np', '"b"\np') + POOL, "pool[2].name 'a' is there twice"),
        (POOL + "max_running = 0", "pool[0].max_running must be a whole number from 1 to 1000000"),
        (POOL + "lost_after = 'soon'", "pool[0].lost_after is not a duration"),
        (POOL + "lost_after = '3ms'", "pool[0].lost_after '3ms' is less than a second"),
        (POOL + "lost_after = 45", "pool[0].lost_after must be a duration as text"),
        (WEIGHT + "weight = 0", "weight[0].weight must be a whole number from 1 to 1000"),
        (WEIGHT + "weight = 1\n" + WEIGHT + "weight = 1", "weight[1].pattern 'a' is there twice"),
        ("[[default]]\nretries = 3", "default[0] has no pattern"),
        (DEFAULT + "retry = 3", "default[0].retry is none of pattern, retries, "),
        (DEFAULT + "backoff_min = 3", "; did you mean 'backoffMin'?"),
        (DEFAULT + "image = 'x'", "default[0].image is none of"),
        (DEFAULT + "backoffMin = 10\nbackoffMax = 5", "default[0].backoffMax is less than backoffMin (10s)"),
        (DEFAULT + "backoffJitter = 2", "default[0].backoffJitter must be a number from 0 to 1"),
        (DEFAULT + "timeout = 0", "default[0].timeout must be from 1ms to 3650d"),
        (DEFAULT + "stopGrace = 3601", "default[0].stopGrace must be from 0 to 3600s"),
        (DEFAULT + "retryOn = ['75', 'no']", "default[0].retryOn has 'no': an exit code"),
        (DEFAULT + "reportFailure = 'some'", "default[0].reportFailure must be one of none, final, all"),
        (DEFAULT + "retryOn = ['3-2']", "default[0].retryOn has '3-2': exit codes go from 0 to 255"),
        (DEFAULT + "retries = 1\n" + DEFAULT, "default[1].pattern 'a' is there twice"),
        (RETENTION + "succeded = '1d'", "retention[0].succeded is none of"),
        (RETENTION + "succeeded = '1y'", "retention[0].succeeded is not a duration"),
        (RETENTION + "logs = true", "retention[0].logs is neither a duration"),
        (RETENTION + "logs = inf", "retention[0].logs is not a finite number"),
        (RETENTION + "failed_count = -1", "retention[0].failed_count must be a whole number"),
        (RETENTION + "executions = '5'", "retention[0].executions must be a whole number"),
        (RETENTION + RETENTION, "retention[1].pattern 'a' is there twice"),
    ],
)
def test_what_is_wrong_is_named(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as refused:
        contract.check(tomllib.loads(text))
    assert len(str(refused.value)) < 400


def test_nothing_is_a_file_too() -> None:
    contract.check({})
    contract.check({"pool": [], "retention": []})


TEXT = """# [[limit]]
[[limit]]
pattern = "a"
max_running = 1

[[pool]]
name = "a"
  [[ "limit" ]]
  pattern = "b"
"max_running" = 2
[[weight]]
max_running = 3
"""


@pytest.mark.parametrize(
    ("table", "index", "field", "line"),
    [
        ("limit", 0, "max_running", 4),
        ("limit", 1, "max_running", 10),
        ("limit", 1, "", 8),
        ("pool", 0, "max_running", 6),
        ("weight", 0, "pattern", 11),
        ("limit", 2, "pattern", 0),
        ("default", 0, "", 0),
    ],
)
def test_the_line_is_told_where_it_can_be(table: str, index: int, field: str, line: int) -> None:
    assert contract.line_of(TEXT, contract.RuleProblem(table, index, field, "is wrong")) == line
